//! Sets of completion indexes as jobs write them: `1,3-5,7`. Pure.

use std::collections::BTreeSet;
use std::fmt;

/// Increasing intervals, ends included, never touching each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i64, i64)>);

impl Indexes {
    /// Reads what a status or rule holds: what is no interval is left out, what lies beyond `completions` is cut off.
    pub fn read(text: &str, completions: i64) -> Self {
        let mut out = Self::default();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) else { continue };
            if first >= completions {
                break;
            }
            out.push((first, last.min(completions - 1)));
        }
        out
    }

    /// Reads strictly; the error is upstream's text.
    pub fn check(text: &str, completions: i64) -> Result<Self, String> {
        let mut out = Self::default();
        let mut before: Option<i64> = None;
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = interval(part, completions)?;
            if let Some(before) = before.filter(|b| *b >= first) {
                return Err(format!("non-increasing order, previous: {before}, current: {first}"));
            }
            before = Some(last);
            out.push((first, last));
        }
        Ok(out)
    }

    fn push(&mut self, (first, last): (i64, i64)) {
        match self.0.last_mut() {
            Some(end) if first <= end.1.saturating_add(1) => end.1 = end.1.max(last),
            _ => self.0.push((first, last)),
        }
    }

    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let mut all: Vec<(i64, i64)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut out = Self::default();
        all.into_iter().for_each(|i| out.push(i));
        out
    }

    #[must_use]
    pub fn with(&self, more: &BTreeSet<i64>) -> Self {
        let mut added = Self::default();
        more.iter().for_each(|i| added.push((*i, *i)));
        self.merge(&added)
    }

    pub fn has(&self, index: i64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    pub fn total(&self) -> i64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The indexes that stand in both.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let (mut out, mut a, mut b) = (Self::default(), 0, 0);
        while let (Some(x), Some(y)) = (self.0.get(a), other.0.get(b)) {
            let (first, last) = (x.0.max(y.0), x.1.min(y.1));
            if first <= last {
                out.push((first, last));
            }
            if x.1 < y.1 {
                a += 1;
            } else {
                b += 1;
            }
        }
        out
    }

    pub fn first(&self) -> Option<i64> {
        self.0.first().map(|i| i.0)
    }

    /// The first `count` indexes below `completions` that are not in here.
    pub fn free(&self, count: usize, completions: i64) -> Vec<i64> {
        let (mut out, mut next) = (Vec::new(), 0);
        for (first, last) in self.0.iter().copied().chain([(completions, completions)]) {
            while next < first.min(completions) && out.len() < count {
                out.push(next);
                next += 1;
            }
            next = next.max(last.saturating_add(1));
        }
        out
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let limits: Vec<&str> = part.split('-').collect();
    let number = |s: &str| {
        let n = s.parse::<i64>().map_err(|_| format!("cannot convert string to integer for index: {s:?}"))?;
        if n >= completions { Err(format!("too large index: {s:?}")) } else { Ok(n) }
    };
    match limits.as_slice() {
        [one] => number(one).map(|n| (n, n)),
        [first, last] => {
            let (first, last) = (number(first)?, number(last)?);
            if first >= last {
                return Err(format!("non-increasing order, previous: {first}, current: {last}"));
            }
            Ok((first, last))
        }
        _ => Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> String {
        Indexes::read(s, 100).to_string()
    }

    #[test]
    fn intervals_are_read_joined_and_written() {
        for (given, want) in [
            ("", ""),
            ("1", "1"),
            ("1,2", "1,2"),
            ("1-3", "1-3"),
            ("1,2,3", "1-3"),
            ("1-3,5-6,9", "1-3,5,6,9"),
            ("x,4", "4"),
            ("90-200", "90-99"),
            ("5,100,101", "5"),
        ] {
            assert_eq!(text(given), want, "{given}");
        }
    }

    #[test]
    fn sets_are_joined_cut_and_asked() {
        let a = Indexes::read("1-3,7,9-12", 100);
        assert_eq!(a.total(), 8);
        assert!(a.has(1) && a.has(7) && a.has(12) && !a.has(0) && !a.has(8) && !a.has(13));
        assert_eq!(a.with(&BTreeSet::from([0, 8, 20])).to_string(), "0-3,7-12,20");
        assert_eq!(a.common(&Indexes::read("3-10", 100)).to_string(), "3,7,9,10");
        assert_eq!(a.free(4, 100), [0, 4, 5, 6]);
        assert_eq!(a.free(10, 9), [0, 4, 5, 6, 8]);
        assert_eq!(Indexes::default().free(2, 1), [0]);
        assert_eq!(a.free(0, 100), Vec::<i64>::new());
    }

    #[test]
    fn what_is_no_set_is_told() {
        for (given, want) in [
            ("1,1", "non-increasing order, previous: 1, current: 1"),
            ("3,2", "non-increasing order, previous: 3, current: 2"),
            ("3-2", "non-increasing order, previous: 3, current: 2"),
            ("x", "cannot convert string to integer for index: \"x\""),
            ("10", "too large index: \"10\""),
            ("2-10", "too large index: \"10\""),
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
            ),
        ] {
            assert_eq!(Indexes::check(given, 10), Err(want.to_owned()), "{given}");
        }
        assert_eq!(Indexes::check("1-3,5", 10).map(|i| i.total()), Ok(4));
        assert_eq!(Indexes::check("", 10).map(|i| i.total()), Ok(0));
    }
}
