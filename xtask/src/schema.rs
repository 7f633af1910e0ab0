//! schema.txt: one line per definition (`=id<TAB>map type<TAB>group/version/kind,...`), then one line per field:
//! name, type code, presence code, then `key=value` extras, all separated by tabs and sorted by name.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::Result;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const CRD: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.";

/// Definitions that are scalars or free JSON on the wire get a type code of their own.
fn special(id: &str) -> Option<&'static str> {
    Some(match id {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => "q",
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => "ios",
        "io.k8s.apimachinery.pkg.runtime.RawExtension" => "raw",
        _ => match (id.strip_prefix(META), id.strip_prefix(CRD)) {
            (Some("Time"), _) => "t",
            (Some("MicroTime"), _) => "mt",
            (Some("FieldsV1"), _) => "fields",
            (Some("Patch"), _) => "raw",
            (_, Some("JSON")) => "json",
            (_, Some("JSONSchemaPropsOrArray")) => "soa",
            (_, Some("JSONSchemaPropsOrBool")) => "sob",
            (_, Some("JSONSchemaPropsOrStringArray")) => "sos",
            _ => return None,
        },
    })
}

fn short(id: &str) -> String {
    match id.strip_prefix("io.k8s.api.") {
        Some(rest) => format!("~{rest}"),
        None => id.to_string(),
    }
}

fn type_code(p: &Value) -> Result<String> {
    if let Some(id) = p["ref"].as_str() {
        return Ok(special(id).map_or_else(|| format!("@{}", short(id)), str::to_string));
    }
    Ok(match (p["type"].as_str(), p["format"].as_str()) {
        (Some("string"), Some("byte")) => "bytes".into(),
        (Some("string"), _) => "s".into(),
        (Some("integer"), Some("int64")) => "i64".into(),
        (Some("integer"), _) => "i32".into(),
        (Some("number"), _) => "f".into(),
        (Some("boolean"), _) => "b".into(),
        (Some("array"), _) => format!("[{}", type_code(&p["items"])?),
        (Some("object"), _) if p["additionalProperties"].is_object() => {
            format!("{{{}", type_code(&p["additionalProperties"])?)
        }
        (Some("object"), _) | (None, _) => "raw".into(),
        (Some(t), _) => return Err(format!("unknown type {t}").into()),
    })
}

fn presence_code(kind: &str, omit: &str) -> String {
    let k = match kind {
        "pointer" => 'p',
        "string" => 's',
        "slice" => 'l',
        "map" => 'm',
        "number" => 'n',
        "bool" => 'b',
        _ => 'S',
    };
    let o = match omit {
        "always" => 'a',
        o if o.contains("omitzero") => 'z',
        _ => 'o',
    };
    format!("{k}{o}")
}

/// What Go would do with a field that the presence table does not list (inlined structs of unlisted types).
fn guess(code: &str, required: bool) -> String {
    let omit = if required { 'a' } else { 'o' };
    match code.as_bytes().first() {
        Some(b'[') | Some(b'{') if code.starts_with('[') => format!("l{omit}"),
        Some(b'{') => format!("m{omit}"),
        _ if code == "bytes" => format!("l{omit}"),
        _ if code == "s" => format!("s{omit}"),
        _ if required => "Sa".into(),
        _ => "po".into(),
    }
}

/// Where the fields of an inlined struct find their presence.
fn inline_source(name: &str, id: &str) -> Option<String> {
    let package = &id[..id.rfind('.')? + 1];
    let base = match name {
        "EphemeralContainerCommon" => "Container",
        other => other.rsplit('.').next()?,
    };
    Some(format!("{package}{base}"))
}

fn presence(presence: &Value, id: &str, field: &str) -> Option<String> {
    let table = presence.get(id)?;
    let code = |row: &Value| Some(presence_code(row[0].as_str()?, row[1].as_str()?));
    if let Some(row) = table.get(field) {
        return code(row);
    }
    for inline in table["_inline"].as_array()? {
        let source = inline_source(inline.as_str()?, id)?;
        if source != id
            && let Some(row) = presence.get(&source).and_then(|t| t.get(field))
        {
            return code(row);
        }
    }
    None
}

fn strings(v: &Value) -> Vec<&str> {
    v.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

pub fn render(schemas: &Value, pres: &Value) -> Result<String> {
    let mut out = String::new();
    let all: BTreeMap<&String, &Value> = schemas.as_object().ok_or("schemas: no object")?.iter().collect();
    for (id, d) in all {
        if special(id).is_some() {
            continue;
        }
        let gvks: Vec<String> = d["x-kubernetes-group-version-kind"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|g| {
                let s = |k: &str| g[k].as_str().unwrap_or_default();
                format!("{}/{}/{}", s("group"), s("version"), s("kind"))
            })
            .collect();
        // DeleteOptions is registered in every group version; that list is rebuilt from the catalog.
        let gvks = if gvks.len() > 5 { Vec::new() } else { gvks };
        let atomic = d["x-kubernetes-map-type"].as_str().unwrap_or("-");
        writeln!(out, "={}\t{}\t{}", short(id), atomic, gvks.join(","))?;
        let required = strings(&d["required"]);
        let props: BTreeMap<&String, &Value> = d["properties"].as_object().into_iter().flatten().collect();
        for (name, p) in props {
            let code = type_code(p).map_err(|e| format!("{id}.{name}: {e}"))?;
            let req = required.contains(&name.as_str());
            let pc = match name.as_str() {
                "apiVersion" | "kind" if pres.get(id).and_then(|t| t.get(name)).is_none() => "so".to_string(),
                _ => presence(pres, id, name).unwrap_or_else(|| guess(&code, req)),
            };
            write!(out, "{name}\t{code}\t{pc}")?;
            if req {
                out.push_str("\treq");
            }
            for (key, from) in [("enum", "enum"), ("known", "knownValues")] {
                let e = strings(&p[from]);
                if !e.is_empty() {
                    write!(out, "\t{key}={}", e.join("|"))?;
                }
            }
            for (key, from) in [
                ("lt", "x-kubernetes-list-type"),
                ("mt", "x-kubernetes-map-type"),
                ("ps", "x-kubernetes-patch-strategy"),
                ("mk", "x-kubernetes-patch-merge-key"),
            ] {
                if let Some(v) = p[from].as_str() {
                    write!(out, "\t{key}={v}")?;
                }
            }
            let keys = strings(&p["x-kubernetes-list-map-keys"]);
            if !keys.is_empty() {
                write!(out, "\tlk={}", keys.join(","))?;
            }
            if let Some(v) = p.get("default") {
                write!(out, "\tdef={v}")?;
            }
            out.push('\n');
        }
    }
    Ok(out)
}
