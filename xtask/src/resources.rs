//! resources.txt: one line per group, version and resource, then one indented line per subresource.

use std::fmt::Write;

use serde_json::Value;

use crate::Result;

const STANDARD: &str = "create,delete,deletecollection,get,list,patch,update,watch";

fn list(v: &Value) -> String {
    let l: Vec<&str> = v.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match l.join(",").as_str() {
        "" => "-".into(),
        STANDARD => "*".into(),
        other => other.into(),
    }
}

fn core(s: &Value) -> &str {
    match s.as_str() {
        None | Some("") => "-",
        Some(g) => g,
    }
}

pub fn render(rows: &Value) -> Result<String> {
    let mut out = String::new();
    for r in rows.as_array().ok_or("resources: no array")? {
        let s = |k: &str| r[k].as_str().ok_or_else(|| format!("resources: no {k} in {r}"));
        writeln!(
            out,
            "{} {} {} {} {} {} {} {} {}",
            core(&r["group"]),
            s("version")?,
            s("plural")?,
            s("kind")?,
            s("singular")?,
            if r["namespaced"].as_bool().unwrap_or(false) { "ns" } else { "cluster" },
            list(&r["verbs"]),
            list(&r["shortNames"]),
            list(&r["categories"]),
        )?;
        for sub in r["subresources"].as_array().into_iter().flatten() {
            let s = |k: &str| sub[k].as_str().ok_or_else(|| format!("resources: no {k} in {sub}"));
            let flag = match (sub["connect"].as_bool(), sub["pathTail"].as_bool()) {
                (Some(true), Some(true)) => "connect-tail",
                (Some(true), _) => "connect",
                _ => "-",
            };
            writeln!(
                out,
                "\t{} {} {} {} {} {} {}",
                s("name")?,
                s("kind")?,
                core(&sub["group"]),
                s("version")?,
                list(&sub["verbs"]),
                list(&sub["methods"]),
                flag
            )?;
        }
    }
    Ok(out)
}
