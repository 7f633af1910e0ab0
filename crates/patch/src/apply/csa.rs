//! Moving an object from client-side to server-side apply: what `kubectl apply --server-side` does before its first one.

use super::managers::{ManagerId, Managers, Operation, Trust, decode, encode};
use serde_json::Value;

/// Entries with the fields that `from` (writers such as `kubectl-client-side-apply`) own handed to the applier `to`;
/// `None` when there is nothing to move.
pub fn upgrade(
    managed_fields: &Value,
    from: &[&str],
    to: &str,
    subresource: &str,
) -> Result<Option<Value>, String> {
    let mut all = decode(Some(managed_fields.clone()), Trust::Foreign)?;
    let old: Vec<ManagerId> = all
        .keys()
        .filter(|id| {
            id.operation == Operation::Update
                && id.subresource == subresource
                && from.contains(&id.manager.as_str())
        })
        .cloned()
        .collect();
    if old.is_empty() {
        return Ok(None);
    }
    let target = ManagerId::new(to, Operation::Apply, "", subresource);
    let moved: Managers = old.into_iter().filter_map(|id| all.remove_entry(&id)).collect();
    for (_, e) in moved {
        match all.get_mut(&target) {
            Some(t) => {
                let both = t.set()?.union(e.set()?);
                t.replace(both);
            }
            None => {
                all.insert(target.clone(), e);
            }
        }
    }
    Ok(encode(all))
}
