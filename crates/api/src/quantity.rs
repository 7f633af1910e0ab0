//! resource.Quantity: fixed-point numbers with SI, binary or exponent suffixes, exact down to nano.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The kind of suffix a quantity came with and will be written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    #[default]
    DecimalSI,
    BinarySI,
    DecimalExponent,
}

/// `mantissa * 10^exponent`; the exponent is never below -9 and the mantissa carries no trailing zeros.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    mantissa: i128,
    exponent: i32,
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i32 = -9;
/// Divisible by three, so that no text needs a larger one.
const LARGEST: i32 = 999_999;
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

fn pow10(n: i32) -> Option<i128> {
    10i128.checked_pow(u32::try_from(n).ok()?)
}

/// Division that rounds away from zero.
fn div_away(a: i128, b: i128) -> i128 {
    let q = a / b;
    if a % b == 0 { q } else { q + a.signum() }
}

/// Sign, integer digits, fraction digits, suffix.
fn split(s: &str) -> Result<(bool, &str, &str, &str), QuantityError> {
    let b = s.as_bytes();
    let digits = |from: usize| from + b[from..].iter().take_while(|c| c.is_ascii_digit()).count();
    let start = usize::from(matches!(b.first(), Some(b'+' | b'-')));
    let int_end = digits(start);
    let (fraction, mut pos) = if b.get(int_end) == Some(&b'.') {
        let end = digits(int_end + 1);
        (int_end + 1..end, end)
    } else {
        (int_end..int_end, int_end)
    };
    let suffix = pos;
    pos += b[pos..].iter().take_while(|c| b"eEinumkKMGTP".contains(c)).count();
    if matches!(b.get(pos), Some(b'+' | b'-')) {
        pos += 1;
    }
    if digits(pos) != b.len() {
        return Err(QuantityError::Format);
    }
    let part = |r: std::ops::Range<usize>| s.get(r).unwrap_or_default();
    Ok((b.first() == Some(&b'-'), part(start..int_end), part(fraction), part(suffix..b.len())))
}

enum Suffix {
    Ten(i32, Format),
    Two(u32),
}

fn interpret(s: &str) -> Option<Suffix> {
    if let Some((_, e)) = DECIMAL.iter().find(|(n, _)| *n == s) {
        return Some(Suffix::Ten(*e, Format::DecimalSI));
    }
    if let Some((_, e)) = BINARY.iter().find(|(n, _)| *n == s) {
        return Some(Suffix::Two(*e));
    }
    let rest = s.strip_prefix(['e', 'E'])?;
    let e = rest.parse::<i64>().ok()?.clamp((-LARGEST).into(), LARGEST.into()) as i32;
    Some(Suffix::Ten(e, Format::DecimalExponent))
}

impl Quantity {
    pub const ZERO: Quantity = Quantity { mantissa: 0, exponent: 0, format: Format::DecimalSI };

    fn new(mantissa: i128, exponent: i32, format: Format) -> Self {
        let (mut m, mut e) = (mantissa, exponent.min(LARGEST));
        while e < NANO {
            // Finer than nano is rounded away from zero, so that nobody who asked for something gets nothing.
            m = div_away(m, 10);
            e += 1;
            if m.abs() <= 1 && e < NANO {
                e = NANO;
            }
        }
        if m == 0 {
            return Quantity { mantissa: 0, exponent: 0, format };
        }
        while m % 10 == 0 && e < LARGEST {
            m /= 10;
            e += 1;
        }
        Quantity { mantissa: m, exponent: e, format }
    }

    pub fn parse(s: &str) -> Result<Self, QuantityError> {
        if s.is_empty() {
            return Err(QuantityError::Format);
        }
        let (negative, int, fraction, suffix) = split(s)?;
        let suffix = interpret(suffix).ok_or(QuantityError::Suffix)?;
        let mut m: i128 = 0;
        let mut exponent = -i32::try_from(fraction.len()).map_err(|_| QuantityError::Numeric)?;
        let mut lost = false;
        for d in int.bytes().chain(fraction.bytes()) {
            match m.checked_mul(10).and_then(|m| m.checked_add(i128::from(d - b'0'))) {
                // Room for a binary suffix of 2^60 is kept.
                Some(n) if n < 1 << 66 || matches!(suffix, Suffix::Ten(..)) => m = n,
                _ => {
                    exponent = exponent.saturating_add(1);
                    lost |= d != b'0';
                }
            }
        }
        m = m.saturating_add(i128::from(lost));
        if negative {
            m = -m;
        }
        match suffix {
            Suffix::Ten(e, format) => Ok(Self::new(m, exponent.saturating_add(e), format)),
            Suffix::Two(shift) => {
                let mut q = Self::new(m.saturating_mul(1 << shift), exponent, Format::BinarySI);
                let max = Self::from_i64(i64::MAX, Format::BinarySI);
                if q.abs() > max {
                    q = if negative { -max } else { max };
                }
                if q.abs() < Self::from_i64(1, Format::DecimalSI) && !q.is_zero() {
                    q.format = Format::DecimalSI;
                }
                Ok(q)
            }
        }
    }

    pub fn from_i64(v: i64, format: Format) -> Self {
        Self::new(i128::from(v), 0, format)
    }
    pub fn from_milli(v: i64, format: Format) -> Self {
        Self::new(i128::from(v), -3, format)
    }
    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }
    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.mantissa.signum() as i32
    }
    pub fn abs(self) -> Self {
        Self { mantissa: self.mantissa.saturating_abs(), ..self }
    }

    /// In units of `10^scale`, rounded away from zero; saturates.
    pub fn scaled(&self, scale: i32) -> i64 {
        let diff = self.exponent.saturating_sub(scale);
        let v = if diff >= 0 {
            pow10(diff)
                .and_then(|p| self.mantissa.checked_mul(p))
                .unwrap_or(i128::MAX * i128::from(self.sign().signum()))
        } else {
            pow10(-diff).map_or(self.mantissa.signum(), |p| div_away(self.mantissa, p))
        };
        i64::try_from(v).unwrap_or(if v < 0 { i64::MIN } else { i64::MAX })
    }
    /// Whole units, rounded away from zero.
    pub fn value(&self) -> i64 {
        self.scaled(0)
    }
    /// Thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        self.scaled(-3)
    }
    pub fn as_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.exponent)
    }
    /// True when the value has no part finer than `10^scale`.
    pub fn is_exact(&self, scale: i32) -> bool {
        self.is_zero() || self.exponent >= scale
    }
    /// Rounds away from zero to multiples of `10^scale`.
    pub fn round_up(self, scale: i32) -> Self {
        match pow10(scale.saturating_sub(self.exponent)) {
            Some(p) if p > 1 => Self::new(div_away(self.mantissa, p), scale, self.format),
            _ => self,
        }
    }

    fn aligned(a: &Self, b: &Self) -> Option<(i128, i128, i32)> {
        let e = a.exponent.min(b.exponent);
        let up = |q: &Self| q.mantissa.checked_mul(pow10(q.exponent - e)?);
        Some((up(a)?, up(b)?, e))
    }

    fn combine(self, other: Self, f: impl Fn(i128, i128) -> Option<i128>) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        match Self::aligned(&self, &other).and_then(|(a, b, e)| Some((f(a, b)?, e))) {
            Some((m, e)) => Self::new(m, e, format),
            // Beyond 128 bits the larger operand is the answer to all practical ends.
            None if self.exponent >= other.exponent => self,
            None => Self {
                mantissa: f(0, other.mantissa).unwrap_or(other.mantissa),
                exponent: other.exponent,
                format,
            },
        }
    }

    fn integer(&self) -> Option<i128> {
        if self.exponent < 0 { None } else { self.mantissa.checked_mul(pow10(self.exponent)?) }
    }

    fn decimal(&self, f: &mut fmt::Formatter<'_>, format: Format) -> fmt::Result {
        let down = self.exponent.rem_euclid(3);
        // As digits: the number itself may not fit.
        let zeros = "00".get(..down as usize).unwrap_or_default();
        let (m, e) = (format_args!("{}{zeros}", self.mantissa), self.exponent - down);
        match DECIMAL.iter().find(|(_, x)| *x == e) {
            Some((suffix, _)) if format == Format::DecimalSI => write!(f, "{m}{suffix}"),
            _ if e == 0 => write!(f, "{m}"),
            _ => write!(f, "{m}e{e}"),
        }
    }
}

impl fmt::Display for Quantity {
    /// The canonical form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        match self.format {
            Format::BinarySI => match self.integer() {
                Some(mut v) if v.abs() >= 1024 => {
                    let mut steps = 0;
                    while v % 1024 == 0 && steps < BINARY.len() {
                        v /= 1024;
                        steps += 1;
                    }
                    let suffix = steps.checked_sub(1).and_then(|i| BINARY.get(i)).map_or("", |(s, _)| s);
                    write!(f, "{v}{suffix}")
                }
                _ => self.decimal(f, Format::DecimalSI),
            },
            other => self.decimal(f, other),
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(s: &str) -> Result<Self, QuantityError> {
        Self::parse(s)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        match Self::aligned(self, other) {
            Some((a, b, _)) => a.cmp(&b),
            None if self.sign() != other.sign() => self.sign().cmp(&other.sign()),
            // Too far apart for 128 bits: the larger exponent has the larger magnitude.
            None if self.sign() >= 0 => self.exponent.cmp(&other.exponent),
            None => other.exponent.cmp(&self.exponent),
        }
    }
}
impl std::ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.combine(other, i128::checked_add)
    }
}
impl std::ops::Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.combine(other, i128::checked_sub)
    }
}
impl std::ops::Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self { mantissa: self.mantissa.saturating_neg(), ..self }
    }
}
impl std::ops::AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl std::ops::SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

/// The canonical text of a quantity.
pub fn canonical(s: &str) -> Result<String, QuantityError> {
    Ok(Quantity::parse(s)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_forms() {
        for (from, to) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("100Ki", "100Ki"),
            ("1023", "1023"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("12e5", "1200e3"),
            ("1E3", "1e3"),
            ("1E", "1E"),
            ("1000E", "1e21"),
            ("8Ei", "9223372036854775807"),
            ("1Ki", "1Ki"),
            ("512Ki", "512Ki"),
            ("0.1Ki", "102400m"),
            ("0.9n", "1n"),
            ("1.2345", "1234500u"),
            ("-1.5Gi", "-1536Mi"),
            ("+5", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("1500", "1500"),
            ("100000", "100k"),
            ("0.5Gi", "512Mi"),
            ("500Mi", "500Mi"),
            ("1025", "1025"),
            ("1024", "1024"),
            ("0.0000000001", "1n"),
            ("18446744073709551616", "18446744073709551616"),
            ("4Gi", "4Gi"),
            // Beyond 128 bits.
            ("1701411834604692317316873037158841057271", "1701411834604692317316873037158841057270"),
            ("170141183460469231731687303715884105727e5", "17014118346046923173168730371588410572700e3"),
            ("10e2000000", "10e999999"),
            ("1e-2000000", "1e-9"),
        ] {
            assert_eq!(canonical(from).as_deref(), Ok(to), "{from}");
        }
        for (bad, why) in [
            ("", QuantityError::Format),
            ("abc", QuantityError::Format),
            ("1ee", QuantityError::Suffix),
            ("1mi", QuantityError::Suffix),
            ("1.5x", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1KiB", QuantityError::Format),
        ] {
            assert_eq!(Quantity::parse(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn values_and_arithmetic() {
        let q = |s: &str| Quantity::parse(s).expect("quantity");
        assert_eq!(q("1500m").value(), 2);
        assert_eq!(q("1500m").milli_value(), 1500);
        assert_eq!(q("-1500m").value(), -2);
        assert_eq!(q("1Gi").value(), 1 << 30);
        assert_eq!((q("1Gi") + q("512Mi")).to_string(), "1536Mi");
        assert_eq!((q("0") + q("512Mi")).to_string(), "512Mi");
        assert_eq!((q("1") - q("100m")).to_string(), "900m");
        assert!(q("1") == q("1000m") && q("1k") < q("1Ki") && q("-1") < q("1n"));
        assert_eq!(q("1.0001").round_up(-3).to_string(), "1001m");
        assert_eq!(q("1e30").value(), i64::MAX);
        assert!(q("1e100") > q("1e40") && q("1e100") > q("1"));
    }

    proptest! {
        #[test]
        fn canonical_is_stable_and_keeps_the_value(
            int in 0u64.., frac in 0u32..1_000_000, suffix in prop::sample::select(
                vec!["", "n", "u", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "e3", "E-2", "e0"])) {
            let s = format!("{int}.{frac}{suffix}");
            let q = Quantity::parse(&s).expect("quantity");
            let c = q.to_string();
            let back = Quantity::parse(&c).expect("canonical");
            prop_assert_eq!(back.to_string(), c);
            prop_assert_eq!(back, q);
        }

        #[test]
        fn never_panics(s in "[-+0-9.eEinumkKMGTP]{0,60}") {
            if let Ok(q) = Quantity::parse(&s) {
                let _ = (q.to_string(), q.value(), q.milli_value(), q + q, q - q, q.cmp(&Quantity::ZERO), q.round_up(-3));
            }
        }
    }
}
