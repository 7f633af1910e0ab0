//! resourceVersion, resourceVersionMatch, limit and continue: the pure part of reading lists.

use api::{Cause, Reason, Status};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::request_info::Query;

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.";

/// At which state a list is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Newest,
    /// This one or anything newer.
    NotOlderThan(u64),
    Exact(u64),
}

/// Where and how a page is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub at: At,
    /// 0: no limit.
    pub limit: usize,
    /// Start key below the collection's prefix; empty: from the start.
    pub start: String,
    /// The page continues a list (its errors are worded differently).
    pub continued: bool,
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    /// The list's revision; -1 goes on at whatever is newest.
    rv: i64,
    start: String,
}

pub fn token(revision: i64, start: &str) -> String {
    let t = Token { v: "meta.k8s.io/v1".into(), rv: revision, start: start.into() };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&t).unwrap_or_default())
}

fn read_token(s: &str) -> Result<Token, Status> {
    let bad = |why: String| Status::bad_request(format!("continue key is not valid: {why}"));
    let raw = URL_SAFE_NO_PAD.decode(s).map_err(|e| bad(e.to_string()))?;
    let t: Token = serde_json::from_slice(&raw).map_err(|e| bad(e.to_string()))?;
    if t.v != "meta.k8s.io/v1" {
        return Err(bad(format!("server does not recognize this encoded version \"{}\"", t.v)));
    }
    if t.start.is_empty() || t.start.starts_with('/') || t.start.split('/').any(|p| p == "..") {
        return Err(bad("invalid start key".into()));
    }
    if t.rv == 0 {
        return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)".into()));
    }
    Ok(t)
}

/// 422 about list options, as upstream words it.
fn invalid(cause: &str, field: &str, message: String) -> Status {
    Status::invalid(
        "meta.k8s.io",
        "ListOptions",
        "",
        vec![Cause { reason: cause.into(), message, field: field.into() }],
    )
}

pub fn forbidden_option(field: &str, why: &str) -> Status {
    invalid("FieldValueForbidden", field, format!("Forbidden: {why}"))
}

pub fn parse_revision(s: &str) -> Result<u64, Status> {
    s.parse().map_err(|_| {
        let what = format!("Invalid value: \"{s}\": strconv.ParseUint: parsing \"{s}\": invalid syntax");
        Status::invalid(
            "",
            "resourceVersion",
            "",
            vec![Cause {
                reason: "FieldValueInvalid".into(),
                message: what,
                field: "resourceVersion".into(),
            }],
        )
    })
}

impl Page {
    pub fn parse(q: &Query) -> Result<Self, Status> {
        let rv = q.get("resourceVersion").unwrap_or_default();
        let how = q.get("resourceVersionMatch").unwrap_or_default();
        let token = q.get("continue").unwrap_or_default();
        let limit = match q.get("limit").unwrap_or_default() {
            "" => 0i64,
            s => s.parse().map_err(|_| Status::bad_request(format!("invalid limit {s:?}: not a number")))?,
        };
        if limit < 0 {
            return Err(Status::bad_request(format!("invalid limit {limit}: must not be negative")));
        }
        if q.get("sendInitialEvents").is_some() {
            return Err(forbidden_option("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        if !how.is_empty() {
            if rv.is_empty() {
                return Err(forbidden_option(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            if !token.is_empty() {
                return Err(forbidden_option(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden when continue is provided",
                ));
            }
            if how != "Exact" && how != "NotOlderThan" {
                return Err(invalid(
                    "FieldValueNotSupported",
                    "resourceVersionMatch",
                    format!(
                        "Unsupported value: \"{how}\": supported values: \"Exact\", \"NotOlderThan\", \"\""
                    ),
                ));
            }
            if how == "Exact" && rv == "0" {
                return Err(forbidden_option(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if !token.is_empty() {
            if !rv.is_empty() && rv != "0" {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let t = read_token(token)?;
            let at = u64::try_from(t.rv).map_or(At::Newest, At::Exact);
            return Ok(Self { at, limit, start: t.start, continued: true });
        }
        let at = match (rv, how) {
            ("" | "0", _) => At::Newest,
            (rv, "Exact") => At::Exact(parse_revision(rv)?),
            // With a limit and no match rule, upstream reads at exactly that revision.
            (rv, "") if limit > 0 => At::Exact(parse_revision(rv)?),
            (rv, _) => At::NotOlderThan(parse_revision(rv)?),
        };
        Ok(Self { at, limit, start: String::new(), continued: false })
    }

    /// What a compacted revision means for this page: a consistent list cannot go on, but an inconsistent one may.
    pub fn compacted(&self) -> Status {
        if !self.continued {
            return Status::expired(super::LIST_TOO_OLD);
        }
        let mut s = Status::new(Reason::Expired, CONTINUE_EXPIRED);
        s.continue_token = token(-1, &self.start);
        if self.start.is_empty() {
            s.message = INCONSISTENT.into();
        }
        s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(q: &str) -> Result<Page, Status> {
        Page::parse(&Query::parse(q))
    }

    #[test]
    fn states() {
        assert_eq!(page("").expect("page").at, At::Newest);
        assert_eq!(page("resourceVersion=0").expect("page").at, At::Newest);
        assert_eq!(page("resourceVersion=5").expect("page").at, At::NotOlderThan(5));
        assert_eq!(page("resourceVersion=5&limit=2").expect("page").at, At::Exact(5));
        assert_eq!(page("resourceVersion=5&resourceVersionMatch=Exact").expect("page").at, At::Exact(5));
        assert_eq!(
            page("resourceVersion=5&limit=3&resourceVersionMatch=NotOlderThan").expect("page").at,
            At::NotOlderThan(5)
        );
    }

    #[test]
    fn refused() {
        for (q, code) in [
            ("resourceVersionMatch=Exact", 422),
            ("resourceVersion=0&resourceVersionMatch=Exact", 422),
            ("resourceVersion=1&resourceVersionMatch=Foo", 422),
            ("resourceVersion=x", 422),
            ("continue=!!", 400),
            ("limit=-1", 400),
            ("limit=a", 400),
        ] {
            assert_eq!(page(q).expect_err(q).code, code, "{q}");
        }
    }

    #[test]
    fn tokens_round_trip_and_expire_into_inconsistent_ones() {
        let p = page(&format!("limit=5&continue={}", token(7, "a/b\0"))).expect("page");
        assert_eq!((p.at, p.start.as_str(), p.continued), (At::Exact(7), "a/b\0", true));
        let s = p.compacted();
        assert_eq!(s.code, 410);
        let p = page(&format!("continue={}", s.continue_token)).expect("page");
        assert_eq!((p.at, p.start.as_str()), (At::Newest, "a/b\0"));
        let both = format!("resourceVersion=3&continue={}", token(7, "a"));
        assert_eq!(page(&both).expect_err("both").code, 400);
    }
}
