//! Unified diffs of small texts, as Ratcliff and Obershelp's matcher of Python's difflib makes them: upstream's error
//! texts hold such diffs. For errors only.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// Two runs of lines: alike or not.
#[derive(Debug, Clone)]
struct Step {
    same: bool,
    a: Range<usize>,
    b: Range<usize>,
}

pub fn unified(old: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut out = String::new();
    for group in groups(steps(&a, &b)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let _ = writeln!(
            out,
            "@@ -{} +{} @@",
            lines(&(first.a.start..last.a.end)),
            lines(&(first.b.start..last.b.end))
        );
        for s in &group {
            let mut put = |sign: char, lines: &[&str]| {
                for l in lines {
                    let _ = writeln!(out, "{sign}{l}");
                }
            };
            if s.same {
                put(' ', &a[s.a.clone()]);
            } else {
                put('-', &a[s.a.clone()]);
                put('+', &b[s.b.clone()]);
            }
        }
    }
    out
}

/// First line and count; an empty run is named by the line before it.
fn lines(r: &Range<usize>) -> String {
    match r.len() {
        0 => format!("{},0", r.start),
        1 => (r.start + 1).to_string(),
        n => format!("{},{n}", r.start + 1),
    }
}

/// Where each line of `b` stands. Lines that are all over a long text say nothing and are left out.
fn places<'t>(b: &[&'t str]) -> HashMap<&'t str, Vec<usize>> {
    let mut at: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in b.iter().enumerate() {
        at.entry(line).or_default().push(j);
    }
    if b.len() >= 200 {
        at.retain(|_, v| v.len() <= b.len() / 100 + 1);
    }
    at
}

/// The longest run in both, the first of several; popular lines at its ends belong to it.
fn longest(
    a: &[&str],
    b: &[&str],
    at: &HashMap<&str, Vec<usize>>,
    ra: &Range<usize>,
    rb: &Range<usize>,
) -> (usize, usize, usize) {
    let (mut i, mut j, mut n) = (ra.start, rb.start, 0);
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for k in ra.clone() {
        let mut next = HashMap::new();
        for &l in at.get(a[k]).into_iter().flatten().filter(|l| rb.contains(l)) {
            let len = l.checked_sub(1).and_then(|p| lengths.get(&p)).copied().unwrap_or(0) + 1;
            next.insert(l, len);
            if len > n {
                (i, j, n) = (k + 1 - len, l + 1 - len, len);
            }
        }
        lengths = next;
    }
    while i > ra.start && j > rb.start && a[i - 1] == b[j - 1] {
        (i, j, n) = (i - 1, j - 1, n + 1);
    }
    while i + n < ra.end && j + n < rb.end && a[i + n] == b[j + n] {
        n += 1;
    }
    (i, j, n)
}

fn steps(a: &[&str], b: &[&str]) -> Vec<Step> {
    let at = places(b);
    let mut runs = Vec::new();
    let mut open = vec![(0..a.len(), 0..b.len())];
    while let Some((ra, rb)) = open.pop() {
        let (i, j, n) = longest(a, b, &at, &ra, &rb);
        if n > 0 {
            runs.push((i, j, n));
            open.push((ra.start..i, rb.start..j));
            open.push((i + n..ra.end, j + n..rb.end));
        }
    }
    runs.sort_unstable();
    runs.push((a.len(), b.len(), 0));
    let mut out: Vec<Step> = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (x, y, n) in runs {
        if i < x || j < y {
            out.push(Step { same: false, a: i..x, b: j..y });
        }
        match out.last_mut().filter(|s| s.same) {
            Some(s) if n > 0 => (s.a.end, s.b.end) = (x + n, y + n),
            _ if n > 0 => out.push(Step { same: true, a: x..x + n, b: y..y + n }),
            _ => {}
        }
        (i, j) = (x + n, y + n);
    }
    out
}

/// Changes with their context; far apart ones stand alone.
fn groups(steps: Vec<Step>) -> Vec<Vec<Step>> {
    if !steps.iter().any(|s| !s.same) {
        return Vec::new();
    }
    let mut all = Vec::new();
    let mut group: Vec<Step> = Vec::new();
    let last = steps.len() - 1;
    for (k, s) in steps.into_iter().enumerate() {
        if !s.same {
            group.push(s);
            continue;
        }
        let n = s.a.len();
        let head = Step {
            same: true,
            a: s.a.start..s.a.start + n.min(CONTEXT),
            b: s.b.start..s.b.start + n.min(CONTEXT),
        };
        let tail =
            Step { same: true, a: s.a.end - n.min(CONTEXT)..s.a.end, b: s.b.end - n.min(CONTEXT)..s.b.end };
        if k == 0 {
            group.push(tail);
        } else if k == last {
            group.push(head);
        } else if n > 2 * CONTEXT {
            group.push(head);
            all.push(std::mem::take(&mut group));
            group.push(tail);
        } else {
            group.push(s);
        }
    }
    all.push(group);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_stands_in_its_context() {
        let old: Vec<String> = (0..20).map(|i| i.to_string()).collect();
        let mut new = old.clone();
        new[10] = "x".into();
        new.remove(18);
        let got = unified(&old.join("\n"), &new.join("\n"));
        assert_eq!(
            got,
            "@@ -8,7 +8,7 @@\n 7\n 8\n 9\n-10\n+x\n 11\n 12\n 13\n@@ -16,5 +16,4 @@\n 15\n 16\n 17\n-18\n 19\n"
        );
        assert_eq!(unified("a", "a"), "");
        assert_eq!(unified("a", "b"), "@@ -1 +1 @@\n-a\n+b\n");
    }
}
