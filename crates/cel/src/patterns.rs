//! The regular expressions of rules, compiled once: those that were asked for last are kept, and what it takes to compile
//! one can be told beforehand. Owns the cache.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;
use std::sync::{Mutex, PoisonError};

use regex::Regex;

use crate::regexp;

/// Of the expressions that are kept compiled, by `work`; one unit is some 300 bytes.
const KEPT: u64 = 200_000;

/// Compiled expressions, and the work that is in all of them.
static CACHE: Mutex<(BTreeMap<String, Regex>, u64)> = Mutex::new((BTreeMap::new(), 0));

fn kept<T>(f: impl FnOnce(&mut BTreeMap<String, Regex>, &mut u64) -> T) -> T {
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let (all, work) = &mut *cache;
    f(all, work)
}

/// How much it takes to compile an expression, roughly: its parts, as often as counts repeat them. Nothing, when that was
/// done before.
pub(crate) fn work(pattern: &str) -> u64 {
    if kept(|all, _| all.contains_key(pattern)) { 0 } else { size(pattern) }
}

fn size(pattern: &str) -> u64 {
    let mut chars = pattern.chars().peekable();
    // What stands before the open brackets, in the innermost one, and last.
    let (mut open, mut sum, mut last) = (Vec::new(), 0u64, 0u64);
    while let Some(c) = chars.next() {
        match c {
            '(' => {
                open.push(sum);
                (sum, last) = (0, 0);
                continue;
            }
            ')' => {
                last = sum;
                sum = open.pop().unwrap_or(0);
            }
            '{' => {
                let counts: String = std::iter::from_fn(|| chars.next().filter(|c| *c != '}')).collect();
                let most = counts.rsplit(',').find_map(|n| n.parse::<u64>().ok()).unwrap_or(1);
                let more = last.saturating_mul(most.clamp(1, regexp::MAX_REPEAT.unsigned_abs()) - 1);
                sum = sum.saturating_add(more);
                last = last.saturating_add(more);
                continue;
            }
            '[' => {
                last = 1;
                while let Some(c) = chars.next().filter(|c| *c != ']') {
                    last += if c == '\\' { escaped(&mut chars) } else { 1 };
                }
            }
            '\\' => last = escaped(&mut chars),
            _ => last = 1,
        }
        sum = sum.saturating_add(last);
    }
    open.into_iter().fold(sum, u64::saturating_add)
}

/// What stands behind a backslash. A class of Unicode's is large.
fn escaped(chars: &mut Peekable<Chars<'_>>) -> u64 {
    if !matches!(chars.next(), Some('p' | 'P')) {
        return 1;
    }
    if chars.next() == Some('{') {
        while chars.next().is_some_and(|c| c != '}') {}
    }
    100
}

/// Compiles an expression, or finds it compiled: a rule asks for the same one for each item of a list.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    if let Some(r) = kept(|all, _| all.get(pattern).cloned()) {
        return Ok(r);
    }
    let made = regexp::compile(pattern)?;
    let size = size(pattern);
    kept(|all, work| {
        if *work + size > KEPT {
            all.clear();
            *work = 0;
        }
        if size <= KEPT && all.insert(pattern.to_owned(), made.clone()).is_none() {
            *work += size;
        }
    });
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_grows_with_counts_and_is_done_once() {
        for (pattern, want) in [
            ("abc", 3),
            ("a{3}", 3),
            ("(a{2,5}b){10}", 60),
            ("x[a-z]{63}", 1 + 63 * 4),
            (r"\pL{1000}", 100_000),
            (r"(((\p{Greek}{9})", 900),
            ("{9}[", 1),
        ] {
            assert!(size(pattern).abs_diff(want) <= 1, "{pattern}: {}", size(pattern));
        }
        let pattern = "^only-here{2}$";
        assert!(work(pattern) > 0);
        assert!(compile(pattern).is_ok_and(|r| r.is_match("only-heree")));
        assert_eq!(work(pattern), 0);
        assert!(compile("only-here(").is_err());
    }
}
