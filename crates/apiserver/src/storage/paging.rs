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
    /// Whatever this server knows.
    Any,
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

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
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
    let bad = |why: String| {
        Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
    };
    let raw = URL_SAFE_NO_PAD.decode(s).map_err(|e| {
        let at = match e {
            base64::DecodeError::InvalidByte(i, _) | base64::DecodeError::InvalidLastSymbol(i, _) => i,
            _ => s.len(),
        };
        bad(format!("illegal base64 data at input byte {at}"))
    })?;
    let t: Token = serde_json::from_slice(&raw).map_err(|e| bad(api::decode::json_error(&raw, &e)))?;
    if t.v != "meta.k8s.io/v1" {
        return Err(bad(format!("server does not recognize this encoded version {}", t.v)));
    }
    if t.rv == 0 {
        return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)".into()));
    }
    if t.start.is_empty() {
        return Err(bad("encoded start key empty (version meta.k8s.io/v1)".into()));
    }
    if t.start.starts_with('/') || t.start.split('/').any(|p| p == ".." || p == ".") {
        return Err(bad(t.start));
    }
    Ok(t)
}

pub const MATCH: &str = "resourceVersionMatch";
pub const NOT_OLDER: &str = "NotOlderThan";
pub const CONTINUE_AND_MATCH: &str = "resourceVersionMatch is forbidden when continue is provided";

/// 422 with everything that is wrong about list options, as upstream words it.
pub fn refuse(wrong: Vec<Cause>) -> Result<(), Status> {
    if wrong.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", wrong)) }
}

pub fn forbidden_option(field: &str, why: &str) -> Cause {
    Cause { reason: "FieldValueForbidden".into(), message: format!("Forbidden: {why}"), field: field.into() }
}

pub fn unsupported_match(how: &str, supported: &[&str]) -> Cause {
    let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
    Cause {
        reason: "FieldValueNotSupported".into(),
        message: format!("Unsupported value: {how:?}: supported values: {}", list.join(", ")),
        field: MATCH.into(),
    }
}

/// What is wrong about the way a list is asked for.
fn check(rv: &str, how: &str, token: &str, initial_events: bool) -> Vec<Cause> {
    let mut wrong = Vec::new();
    if !how.is_empty() {
        if rv.is_empty() {
            wrong.push(forbidden_option(
                MATCH,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if !token.is_empty() {
            wrong.push(forbidden_option(MATCH, CONTINUE_AND_MATCH));
        }
        if how != "Exact" && how != NOT_OLDER {
            wrong.push(unsupported_match(how, &["Exact", NOT_OLDER, ""]));
        }
        if how == "Exact" && rv == "0" {
            wrong.push(forbidden_option(
                MATCH,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
    }
    if initial_events {
        wrong.push(forbidden_option("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    wrong
}

pub fn parse_revision(s: &str) -> Result<u64, Status> {
    s.parse().map_err(|_| {
        let sound = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let why = if sound { "value out of range" } else { "invalid syntax" };
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {s:?}: strconv.ParseUint: parsing {s:?}: {why}"
        ))
    })
}

impl Page {
    pub fn parse(q: &Query) -> Result<Self, Status> {
        let rv = q.get("resourceVersion").unwrap_or_default();
        let how = q.get("resourceVersionMatch").unwrap_or_default();
        let token = q.get("continue").unwrap_or_default();
        let limit = match q.get("limit").unwrap_or_default() {
            "" => 0i64,
            s => crate::request_info::int(s)?,
        };
        refuse(check(rv, how, token, q.get("sendInitialEvents").is_some()))?;
        // A negative limit is none, as upstream has it.
        let limit = usize::try_from(limit).unwrap_or(0);
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
            ("", _) => At::Newest,
            ("0", _) => At::Any,
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
        assert_eq!(page("resourceVersion=0").expect("page").at, At::Any);
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
            ("resourceVersion=x", 400),
            ("continue=!!", 400),
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
