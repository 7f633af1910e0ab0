//! util.intstr.IntOrString: numbers that may be percentages.

use serde_json::Value;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntOrStringError {
    #[error("invalid value for IntOrString: {0}")]
    Invalid(String),
}

/// `25%` as 25.
pub fn percent(s: &str) -> Option<i64> {
    s.strip_suffix('%')?.parse().ok()
}

/// A number, or a percentage of `total`, rounded up or down.
pub fn scaled(v: &Value, total: i64, round_up: bool) -> Result<i64, IntOrStringError> {
    let invalid = |why: String| IntOrStringError::Invalid(why);
    match v {
        Value::Number(n) => n.as_i64().ok_or_else(|| invalid(n.to_string())),
        Value::String(s) => {
            let p = percent(s)
                .ok_or_else(|| invalid(format!("invalid value {s:?}: a number or percentage is needed")))?;
            let product = i128::from(p) * i128::from(total);
            let down = product.div_euclid(100);
            let v = if round_up && product.rem_euclid(100) != 0 { down + 1 } else { down };
            Ok(i64::try_from(v).unwrap_or(i64::MAX))
        }
        other => Err(invalid(other.to_string())),
    }
}

/// `maxSurge` and `maxUnavailable` of a Deployment as pod counts: never both zero.
pub fn resolve_fenceposts(
    surge: &Value,
    unavailable: &Value,
    desired: i64,
) -> Result<(i64, i64), IntOrStringError> {
    let zero = Value::from(0);
    let or_zero = |v: &Value| if v.is_null() { zero.clone() } else { v.clone() };
    let surge = scaled(&or_zero(surge), desired, true)?;
    let mut unavailable = scaled(&or_zero(unavailable), desired, false)?;
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    Ok((surge, unavailable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn percentages_scale() {
        assert_eq!(scaled(&json!("25%"), 10, true), Ok(3));
        assert_eq!(scaled(&json!("25%"), 10, false), Ok(2));
        assert_eq!(scaled(&json!(4), 10, false), Ok(4));
        assert!(scaled(&json!("x"), 10, false).is_err());
        assert_eq!(resolve_fenceposts(&json!("0%"), &json!("25%"), 1), Ok((0, 1)));
        assert_eq!(resolve_fenceposts(&json!("25%"), &json!("25%"), 4), Ok((1, 1)));
    }
}
