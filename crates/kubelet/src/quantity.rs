//! Resource quantities as numbers: what cgroups, limits and `resourceFieldRef` need. Pure.

/// The value of `1500m`, `1.5`, `2Gi`, `1e3`; `None` when it is no quantity.
pub fn parse(s: &str) -> Option<f64> {
    let s = s.trim();
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    for (suffix, factor) in SUFFIXES {
        if let Some(num) = s.strip_suffix(suffix)
            && let Ok(v) = num.parse::<f64>()
        {
            return Some(v * factor);
        }
    }
    s.parse::<f64>().ok().filter(|v| v.is_finite())
}

/// Thousandths, rounded up (CPU).
pub fn milli(s: &str) -> i64 {
    parse(s).map_or(0, |v| (v * 1000.0 - 1e-9).ceil() as i64)
}

/// Whole units, rounded up (bytes, counts).
pub fn whole(s: &str) -> i64 {
    parse(s).map_or(0, |v| (v - 1e-9).ceil() as i64)
}

/// `resourceFieldRef`: the value over its divisor, rounded up, as upstream prints it.
pub fn divided(value: &str, divisor: &str) -> i64 {
    let d = match parse(divisor) {
        Some(d) if d > 0.0 => d,
        _ => 1.0,
    };
    let v = parse(value).unwrap_or(0.0);
    (v / d - 1e-9).ceil() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(milli("100m"), 100);
        assert_eq!(milli("1.5"), 1500);
        assert_eq!(milli("2"), 2000);
        assert_eq!(whole("64Mi"), 67_108_864);
        assert_eq!(whole("1e3"), 1000);
        assert_eq!(whole("1k"), 1000);
        assert_eq!(whole("3E"), 3_000_000_000_000_000_000);
        assert_eq!(parse("x"), None);
        assert_eq!(divided("250m", "1m"), 250);
        assert_eq!(divided("250m", ""), 1);
        assert_eq!(divided("64Mi", "1Mi"), 64);
    }
}
