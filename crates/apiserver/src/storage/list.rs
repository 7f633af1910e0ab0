//! One page of a collection at one revision, with selectors applied while reading.

use api::{Object, Status};
use store::{Fresh, Range, prefix_end};

use super::filter::Filter;
use super::paging::{At, Page, token};
use super::{Storage, failed};

/// How many records are read at a time when a selector thins them out.
const READ_AHEAD: usize = 500;
/// How many records are looked at before others get their turn who share this thread.
const TURN: usize = 4096;

pub struct Listed {
    pub items: Vec<Object>,
    pub revision: u64,
    /// Empty: this was the last page.
    pub continue_token: String,
    pub remaining: Option<u64>,
}

impl Storage {
    /// `exact_key`: the one key that can be in the answer, when the selector names it.
    pub async fn list(
        &self,
        prefix: &str,
        exact_key: Option<String>,
        page: &Page,
        filter: &Filter,
    ) -> Result<Listed, Status> {
        let (at, fresh) = match page.at {
            At::Newest => (None, Fresh::Newest),
            At::Any => (None, Fresh::Known),
            At::NotOlderThan(r) => (None, Fresh::AtLeast(r)),
            At::Exact(r) => (Some(r), Fresh::Known),
        };
        let end = prefix_end(prefix);
        let mut range = Range {
            start: format!("{prefix}{}", page.start),
            end: Some(end.clone()),
            at,
            fresh,
            limit: match (page.limit, filter.is_everything()) {
                (0, _) => 0,
                (n, true) => n,
                (n, false) => n.max(READ_AHEAD),
            },
            count_only: false,
            // How many follow is told of lists without selectors only.
            uncounted: !filter.is_everything(),
            marks: filter.marks(),
        };
        if let (Some(key), false) = (exact_key, page.continued) {
            range.start = key;
            range.end = None;
        }
        let mut out =
            Listed { items: Vec::new(), revision: 0, continue_token: String::new(), remaining: None };
        loop {
            let r = match self.store.range(range.clone()).await {
                Ok(r) => r,
                Err(store::Error::Compacted { .. }) => return Err(page.compacted()),
                Err(e) => return Err(failed(e)),
            };
            // Later reads of the same list must see the same state.
            out.revision = range.at.unwrap_or(r.revision);
            range.at = Some(out.revision);
            if page.limit == 0 {
                out.items.reserve(if filter.is_everything() { r.records.len() } else { 0 });
            }
            let total = r.records.len();
            let next = r.records.last().filter(|_| r.more).map(|last| after(&last.key));
            let mut full_at = None;
            for (i, rec) in r.records.into_iter().enumerate() {
                if (i + 1) % TURN == 0 {
                    tokio::task::yield_now().await;
                }
                if let Some(o) = filter.select(&rec)? {
                    out.items.push(o);
                }
                if page.limit > 0 && out.items.len() >= page.limit {
                    full_at = Some((i, rec.key.clone()));
                    break;
                }
            }
            match full_at {
                Some((i, key)) => {
                    if i + 1 < total || r.more {
                        out.continue_token = next_token(prefix, &key, out.revision);
                        let left = r.count.saturating_sub(i as u64 + 1);
                        out.remaining = (filter.is_everything() && left > 0).then_some(left);
                    }
                    return Ok(out);
                }
                None => match next {
                    Some(next) => range.start = next,
                    None => return Ok(out),
                },
            }
        }
    }
}

fn next_token(prefix: &str, key: &str, revision: u64) -> String {
    let start = after(key.strip_prefix(prefix).unwrap_or(key));
    token(i64::try_from(revision).unwrap_or(-1), &start)
}

/// The first key after `key`.
fn after(key: &str) -> String {
    format!("{key}\0")
}
