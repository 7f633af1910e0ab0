//! From the data of an object to the files of a volume: items, modes, optional. Pure.

use std::collections::BTreeMap;

use crate::containers::fields::{self, NodeFacts};
use crate::pod::{Container, DownwardFile, KeyToPath, Pod};
use crate::volumes::atomic::{File, Payload};

pub const DEFAULT_MODE: i32 = 0o644;

fn mode(m: i32) -> u32 {
    u32::try_from(m).unwrap_or(0o644) & 0o777
}

/// Files of a config map or secret. `what` is `configmap` or `secret`, for the error.
pub fn keyed(
    data: &BTreeMap<String, Vec<u8>>,
    items: &[KeyToPath],
    default_mode: i32,
    optional: bool,
    what: &str,
) -> Result<Payload, String> {
    let file = |d: &[u8], m: Option<i32>| File {
        data: d.to_vec(),
        mode: mode(m.unwrap_or(default_mode)),
        owner: None,
    };
    if items.is_empty() {
        return Ok(data.iter().map(|(k, v)| (k.clone(), file(v, None))).collect());
    }
    let mut out = Payload::new();
    for i in items {
        match data.get(&i.key) {
            Some(d) => {
                out.insert(i.path.trim_end_matches('/').to_owned(), file(d, i.mode));
            }
            None if optional => {}
            None => return Err(format!("{what} references non-existent {what} key: {}", i.key)),
        }
    }
    Ok(out)
}

pub fn downward(
    pod: &Pod,
    items: &[DownwardFile],
    default_mode: i32,
    ips: &[String],
    node: &NodeFacts,
) -> Result<Payload, String> {
    let mut out = Payload::new();
    for i in items {
        let value = if let Some(f) = &i.field_ref {
            fields::field(pod, &f.field_path, ips, node)
                .ok_or_else(|| format!("unsupported fieldPath: {}", f.field_path))?
        } else if let Some(r) = &i.resource_field_ref {
            fields::resource(pod, &Container::default(), r, node)?
        } else {
            continue;
        };
        let m = mode(i.mode.unwrap_or(default_mode));
        out.insert(
            i.path.trim_end_matches('/').to_owned(),
            File { data: value.into_bytes(), mode: m, owner: None },
        );
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_and_modes() {
        let data: BTreeMap<String, Vec<u8>> =
            [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())].into();
        assert_eq!(keyed(&data, &[], 0o644, false, "configmap").expect("all").len(), 2);
        let item = |key: &str| KeyToPath { key: key.into(), path: "x/y".into(), mode: Some(0o400) };
        let one = keyed(&data, &[item("b")], 0o644, false, "configmap").expect("one");
        assert_eq!(one["x/y"], File { data: b"2".to_vec(), mode: 0o400, owner: None });
        assert!(keyed(&data, &[item("c")], 0o644, true, "configmap").is_ok_and(|p| p.is_empty()));
        let e = keyed(&data, &[item("c")], 0o644, false, "configmap").expect_err("missing");
        assert_eq!(e, "configmap references non-existent configmap key: c");
    }
}
