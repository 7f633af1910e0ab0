//! Lengths of time as people write them in flags and files.

use std::time::Duration;

use anyhow::{Context, bail};

/// `90s`, `1.5m`, `500ms`: one number and its unit.
pub fn duration(flag: &str, text: &str) -> anyhow::Result<Duration> {
    let wrong = || format!("--{flag} {text:?}: a number with its unit is needed, such as 50s, 2m or 500ms");
    let end = text.find(|c: char| c.is_ascii_alphabetic()).with_context(wrong)?;
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok().filter(|n: &f64| *n > 0.0).with_context(wrong)?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => bail!(wrong()),
    };
    Duration::try_from_secs_f64(seconds).ok().with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (text, ms) in [("90s", 90_000), ("1.5m", 90_000), ("500ms", 500), ("2h", 7_200_000)] {
            assert_eq!(duration("d", text).expect("duration"), Duration::from_millis(ms), "{text}");
        }
        for wrong in ["5", "s", "5d", "-1s", "0s", ""] {
            let why = format!("{:#}", duration("d", wrong).expect_err("refused"));
            assert!(why.contains("--d") && why.contains("such as 50s"), "{wrong}: {why}");
        }
    }
}
