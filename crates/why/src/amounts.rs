//! Amounts of resources as people say them: `1.2` CPUs, `3.5Gi`.

use api::quantity::{Format, Quantity};
use api::quota::{self, List};
use serde_json::Value;

/// What an amount of a resource is called in a sentence.
pub fn show(resource: &str, q: Quantity) -> String {
    match resource {
        "cpu" | "pods" => thousandths(q.milli_value()),
        "memory" | "ephemeral-storage" | "storage" => bytes(q.value()),
        _ => q.to_string(),
    }
}

fn thousandths(m: i64) -> String {
    let text = format!("{}{}.{:03}", if m < 0 { "-" } else { "" }, (m / 1000).abs(), (m % 1000).abs());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn bytes(n: i64) -> String {
    for (unit, shift) in [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)] {
        let one = 1i64 << shift;
        if n.abs() >= one {
            // One digit after the point, rounded down: nobody is promised more than there is.
            let tenths = n / (one / 10).max(1);
            let tenths = tenths.min(n / one * 10 + 9);
            return if tenths % 10 == 0 {
                format!("{}{unit}", tenths / 10)
            } else {
                format!("{}.{}{unit}", tenths / 10, tenths % 10)
            };
        }
    }
    n.to_string()
}

/// A form in which the amount may be asked for, not more than it.
pub fn askable(resource: &str, q: Quantity) -> String {
    match resource {
        "cpu" => format!("{}m", q.milli_value()),
        "memory" | "ephemeral-storage" => format!("{}Mi", q.value() >> 20),
        _ => q.to_string(),
    }
}

/// What a pod asks for of its node, itself included.
pub fn requests(pod: &Value) -> List {
    let mut out = quota::pod_requests(pod);
    out.insert("pods".into(), Quantity::from_i64(1, Format::DecimalSI));
    out
}

pub fn of(list: &List, name: &str) -> Quantity {
    list.get(name).copied().unwrap_or(Quantity::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well() {
        for (resource, text, want) in [
            ("cpu", "4", "4"),
            ("cpu", "1200m", "1.2"),
            ("cpu", "250m", "0.25"),
            ("memory", "4Gi", "4Gi"),
            ("memory", "1536Mi", "1.5Gi"),
            ("memory", "100", "100"),
            ("memory", "8589934591", "7.9Gi"),
            ("nvidia.com/gpu", "2", "2"),
        ] {
            assert_eq!(show(resource, Quantity::parse(text).expect(text)), want, "{text}");
        }
    }
}
