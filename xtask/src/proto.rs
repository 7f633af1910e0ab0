//! protobuf.txt: one line per message (`=id`), then one line per field: number, JSON name, type code and, where
//! needed, `r` (repeated), `m` (map with string keys) or `i` (inlined struct).

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::Result;

fn short(id: &str) -> String {
    match id.strip_prefix("k8s.io.api.") {
        Some(rest) => format!("~{rest}"),
        None => id.to_string(),
    }
}

fn code(t: &str) -> String {
    match t {
        "string" => "s".into(),
        "int32" => "i32".into(),
        "int64" => "i64".into(),
        "bool" => "b".into(),
        "double" => "f".into(),
        "bytes" => "y".into(),
        "k8s.io.apimachinery.pkg.api.resource.Quantity" => "q".into(),
        "k8s.io.apimachinery.pkg.util.intstr.IntOrString" => "ios".into(),
        "k8s.io.apimachinery.pkg.apis.meta.v1.Time" => "t".into(),
        "k8s.io.apimachinery.pkg.apis.meta.v1.MicroTime" => "mt".into(),
        "k8s.io.apimachinery.pkg.apis.meta.v1.FieldsV1" => "raw".into(),
        "k8s.io.apimachinery.pkg.runtime.RawExtension" => "raw".into(),
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON" => "raw".into(),
        other => format!("@{}", short(other)),
    }
}

pub fn render(messages: &Value) -> Result<String> {
    let mut out = String::new();
    let all: BTreeMap<&String, &Value> = messages.as_object().ok_or("protobuf: no object")?.iter().collect();
    for (id, fields) in all {
        writeln!(out, "={}", short(id))?;
        let mut rows: Vec<&Value> = fields.as_array().into_iter().flatten().collect();
        rows.sort_by_key(|f| f["number"].as_u64());
        for f in rows {
            let number = f["number"].as_u64().ok_or_else(|| format!("{id}: a field without a number"))?;
            let name = f["json"].as_str().or(f["name"].as_str()).unwrap_or_default();
            let flag = match (f["label"].as_str(), f.get("map"), f.get("inline")) {
                (Some("repeated"), _, _) => "\tr",
                (_, Some(_), _) => "\tm",
                (_, _, Some(_)) => "\ti",
                _ => "",
            };
            writeln!(out, "{number}\t{name}\t{}{flag}", code(f["type"].as_str().unwrap_or_default()))?;
        }
    }
    Ok(out)
}
