//! What a call costs beside its arguments, and how large its result is: cel-go's numbers for the standard functions, and
//! Kubernetes' for its own.

use super::{Part, Range};
use crate::functions::Overload;
use crate::types::Type;

/// A character of a text that is passed over; one of a pattern.
const CHARACTER: f64 = 0.1;
const PATTERN: f64 = 0.25;
/// The longest name and the longest pattern of a named format.
const FORMAT: u64 = 64;
const FORMAT_PATTERN: f64 = 128.0;

pub(super) struct Call<'a, 'e> {
    pub name: &'a str,
    pub target: Option<&'a Part<'e>>,
    /// The size of the target's items.
    pub items: Range,
    pub args: &'a [Part<'e>],
}

type Estimate = (Range, Option<Range>);

/// Whether it puts two texts or lists together.
pub(super) fn joins(name: &str, o: &Overload) -> bool {
    name == "_+_" && matches!(o.args.first(), Some(Type::String | Type::Bytes | Type::List(_)))
}

fn passed(size: Range) -> Range {
    size.scaled(CHARACTER)
}

fn passed_twice(size: Range) -> Range {
    size.scaled(2.0 * CHARACTER)
}

fn matched(text: Range, pattern: Range) -> Range {
    // An empty text costs the pattern all the same.
    passed(text.plus(Range::of(1))).times(pattern.scaled(PATTERN))
}

/// Comparing ends with the shorter of two.
fn compared(a: Range, b: Range) -> Range {
    let most = a.max.min(b.max);
    passed(Range::new(u64::from(most > 0), most))
}

/// A number that stands there; negative ones are 0.
fn literal(p: &Part, other: u64) -> u64 {
    p.number.map_or(other, |n| u64::try_from(n).unwrap_or(0))
}

/// The call and the list that it makes.
fn making(size: Range, factor: f64) -> Estimate {
    (size.scaled(factor).plus(Range::of(11)), Some(size))
}

/// Each item is compared with each; the size of the result is upstream's.
fn sorting(size: Range, keys: Option<&Type>) -> Estimate {
    let texts = matches!(keys, Some(Type::List(k)) if matches!(**k, Type::String | Type::Bytes));
    making(size.times(size), if texts { 2.0 + CHARACTER } else { 2.0 })
}

impl Call<'_, '_> {
    pub(super) fn estimate(&self, o: &Overload) -> Estimate {
        let one = (Range::of(1), None);
        match (self.target, self.args) {
            (Some(t), args) => self.member(o, t, args),
            (None, [a]) => self.single(o, a).unwrap_or(one),
            (None, [a, b]) => self.pair(o, a, b).unwrap_or(one),
            (None, _) => one,
        }
    }

    fn member(&self, o: &Overload, t: &Part, args: &[Part]) -> Estimate {
        let size = t.size();
        let kinds = (o.args.first(), o.args.get(1));
        let plain = |cost| (cost, None);
        match (self.name, args) {
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes", _) => {
                plain(match &t.kind {
                    Type::List(item) => {
                        let texts = matches!(**item, Type::String | Type::Bytes);
                        let each =
                            Range::of(1).plus(if texts { passed(self.items) } else { Range::default() });
                        size.times(each)
                    }
                    _ if self.name == "includes" => size,
                    _ => passed(size),
                })
            }
            ("slice", [from, to]) => {
                let length = literal(to, size.max).wrapping_sub(literal(from, 0));
                making(Range::of(length), 1.0)
            }
            ("reverse", []) if matches!(kinds.0, Some(Type::List(_))) => making(size, 1.0),
            ("flatten", _) => making(size, args.first().map_or(1, |d| literal(d, u64::MAX)) as f64),
            ("distinct", []) => making(size.times(size), 2.0),
            ("sort", []) => sorting(size, kinds.0),
            ("@sortByAssociatedKeys", [keys]) => sorting(keys.size(), kinds.1),
            ("lowerAscii" | "upperAscii" | "substring" | "trim", _) => (passed(size), Some(size)),
            ("replace", [from, to, ..]) => (passed_twice(size), Some(replaced(size, from.size(), to.size()))),
            ("split", _) => {
                let limit = args.get(1).and_then(|a| a.number);
                // A negative limit is none.
                let most = limit.map_or(size.max, |n| u64::try_from(n).unwrap_or(u64::MAX));
                (passed_twice(size), Some(Range::new(0, most)))
            }
            ("join", _) => {
                let gaps = Range::new(size.min.saturating_sub(1), size.max.saturating_sub(1));
                let between = args.first().map_or(Range::default(), |by| by.size().times(gaps));
                let items =
                    if matches!(t.kind, Type::List(_)) { size.times(self.items) } else { Range::default() };
                let all = items.plus(between);
                (passed(all), Some(all))
            }
            ("find" | "findAll", [pattern, ..]) => {
                (matched(size, pattern.size()), Some(Range::new(0, size.max)))
            }
            ("matches", [pattern]) => plain(matched(size, pattern.size())),
            ("contains", [part]) => plain(passed(size).times(passed(part.size()))),
            ("startsWith" | "endsWith", [part]) => plain(passed(part.size())),
            ("format", _) => plain(passed(size)),
            // Addresses are of 4 or 16 bytes, and a text is read first.
            ("containsIP" | "containsCIDR", [a]) => {
                let address = Range::new(4, 16);
                let both = passed(address.plus(address));
                let network = passed(address).plus(Range::of(1));
                let text = if kinds.1 == Some(&Type::String) { passed(a.size()) } else { Range::default() };
                plain(both.plus(text).plus(if self.name == "containsCIDR" {
                    network
                } else {
                    Range::default()
                }))
            }
            ("validate", [text]) => plain(passed(text.size()).scaled(FORMAT_PATTERN * PATTERN)),
            _ => plain(Range::of(1)),
        }
    }

    fn single(&self, o: &Overload, a: &Part) -> Option<Estimate> {
        let size = a.size();
        Some(match (self.name, o.args.first()) {
            ("lists.range", _) => making(Range::of(literal(a, u64::MAX)), 1.0),
            ("url" | "jsonpatch.escapeKey", _) => (passed(size), Some(size)),
            ("ip" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver", _) => {
                (passed(size), None)
            }
            ("ip.isCanonical", _) => (passed_twice(size), None),
            // A character is of up to four bytes, and a quoted one of up to two characters.
            ("bytes", Some(Type::String)) => {
                (passed(size), Some(Range::new(size.min, size.max.saturating_mul(4))))
            }
            ("string", Some(Type::Bytes)) => (passed(size), Some(Range::new(size.min / 4, size.max))),
            ("strings.quote", _) => {
                let most = size.max.saturating_mul(2).saturating_add(2);
                (passed(size), Some(Range::new(size.min.saturating_add(2), most)))
            }
            _ => return None,
        })
    }

    fn pair(&self, o: &Overload, a: &Part, b: &Part) -> Option<Estimate> {
        let (x, y) = (a.size(), b.size());
        let texts = matches!(o.args.first(), Some(Type::String | Type::Bytes));
        Some(match self.name {
            "semver" | "isSemver" => (passed(x), None),
            "_==_" => (equal(a, b), None),
            "_!=_" => (compared(x, y), None),
            "_<_" | "_<=_" | "_>_" | "_>=_" if texts => (compared(x, y), None),
            "_+_" if joins(self.name, o) => {
                let all = x.plus(y);
                (if texts { passed(all) } else { Range::of(1) }, Some(all))
            }
            "@in" if matches!(o.args.get(1), Some(Type::List(_))) => (y, None),
            "matches" => (matched(x, y), None),
            "sets.contains" | "sets.intersects" => (x.times(y).plus(Range::of(1)), None),
            "sets.equivalent" => (x.times(y).scaled(2.0).plus(Range::of(1)), None),
            _ => return None,
        })
    }
}

fn equal(a: &Part, b: &Part) -> Range {
    match (&a.kind, &b.kind) {
        (Type::Opaque(x), Type::Opaque(y)) if x == y => match *x {
            "net.IP" | "net.CIDR" | "kubernetes.Quantity" | "kubernetes.Semver" => Range::of(1),
            "kubernetes.NamedFormat" => passed(Range::new(1, FORMAT)),
            "kubernetes.URL" => passed(Range::new(1, b.size.map_or(1, |s| s.max))),
            _ => compared(a.size(), b.size()),
        },
        _ => compared(a.size(), b.size()),
    }
}

/// How long a text is once every `from` in it is `to`.
pub(super) fn replaced(text: Range, from: Range, to: Range) -> Range {
    // How often, and what stays, for the longest result and for the shortest.
    let (most, stays) = match from.min {
        // An empty one is before, between and behind all characters.
        0 => (text.max.saturating_add(1), text.max),
        n if to.max <= n => (0, text.max),
        n => (text.max.div_ceil(n), 0),
    };
    let (least, stays_least) = match from.max {
        0 => (text.min.saturating_add(1), text.min),
        n if n <= to.min => (0, text.min),
        n => (text.min.div_ceil(n), 0),
    };
    Range::new(least, most).times(to).plus(Range::new(stays_least, stays))
}
