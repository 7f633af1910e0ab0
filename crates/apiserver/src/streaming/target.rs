//! Where a stream goes: container of a pod, path and query at the kubelet. Pure.

use api::Status;
use serde_json::Value;

use crate::request_info::{Query, int, truthy};

fn names(pod: &Value, list: &str) -> Vec<String> {
    pod["spec"][list]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["name"].as_str())
        .map(str::to_owned)
        .collect()
}

/// The container that is meant, or why it is not clear which.
pub fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let main = names(pod, "containers");
    let init = names(pod, "initContainers");
    if !asked.is_empty() {
        let known = main.iter().chain(&init).chain(&names(pod, "ephemeralContainers")).any(|c| c == asked);
        if known {
            return Ok(asked.to_owned());
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")));
    }
    match main.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        many => {
            let mut m = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                many.join(" ")
            );
            if !init.is_empty() {
                m.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(m))
        }
    }
}

fn escape(s: &str) -> String {
    percent_encoding::utf8_percent_encode(s, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A query with the given parameters.
pub fn query(params: &[(&str, &str)]) -> String {
    let all: Vec<String> = params.iter().map(|(k, v)| format!("{k}={}", escape(v))).collect();
    if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
}

/// Log options, checked and passed on.
pub fn log_query(q: &Query, name: &str) -> Result<String, Status> {
    let mut out: Vec<(&str, &str)> = Vec::new();
    for k in ["follow", "previous", "timestamps"] {
        if let Some(v) = q.get(k).filter(|v| truthy(v)) {
            let _ = v;
            out.push((k, "true"));
        }
    }
    for (k, at_least) in [("sinceSeconds", 1), ("tailLines", 0), ("limitBytes", 1)] {
        let Some(v) = q.get(k).filter(|v| !v.is_empty()) else { continue };
        let n: i64 = int(v)?;
        if n < at_least {
            return Err(Status::invalid(
                "",
                "PodLogOptions",
                name,
                vec![api::Cause {
                    reason: "FieldValueInvalid".into(),
                    message: format!(
                        "Invalid value: {n}: must be greater than {}",
                        if at_least == 0 { "or equal to 0" } else { "0" }
                    ),
                    field: k.into(),
                }],
            ));
        }
        out.push((k, v));
    }
    for k in ["sinceTime", "stream"] {
        if let Some(v) = q.get(k).filter(|v| !v.is_empty()) {
            out.push((k, v));
        }
    }
    if q.get("sinceSeconds").is_some_and(|v| !v.is_empty())
        && q.get("sinceTime").is_some_and(|v| !v.is_empty())
    {
        return Err(Status::invalid(
            "",
            "PodLogOptions",
            name,
            vec![api::Cause {
                reason: "FieldValueForbidden".into(),
                message: "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified".into(),
                field: String::new(),
            }],
        ));
    }
    Ok(query(&out))
}

/// The kubelet's query of exec and attach.
pub fn stream_query(q: &Query, sub: &str) -> Result<String, Status> {
    let mut out: Vec<(&str, &str)> = Vec::new();
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if q.flag(ours) {
            out.push((theirs, "1"));
        }
    }
    if sub == "exec" {
        let before = out.len();
        out.extend(q.all("command").map(|c| ("command", c)));
        if out.len() == before {
            return Err(Status::bad_request("you must specify at least 1 command for the container"));
        }
    }
    if !out.iter().any(|(k, _)| matches!(*k, "input" | "output" | "error")) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(query(&out))
}

/// `[scheme:]name[:port]`
pub fn scheme_name_port(s: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = s.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    (!name.is_empty() && matches!(scheme, "" | "http" | "https")).then_some((scheme, name, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(container(&one, "").expect("one"), "a");
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(
            container(&two, "").expect_err("two").message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(container(&two, "i").expect("init"), "i");
        assert_eq!(container(&two, "x").expect_err("x").message, "container x is not valid for pod p");
    }

    #[test]
    fn queries() {
        let q = Query::parse("follow=true&tailLines=5&previous=false");
        assert_eq!(log_query(&q, "p").expect("log"), "?follow=true&tailLines=5");
        assert_eq!(log_query(&Query::parse("tailLines=x"), "p").expect_err("x").code, 400);
        assert_eq!(log_query(&Query::parse("tailLines=-1"), "p").expect_err("-1").code, 422);
        let q = Query::parse("command=sh&command=-c&command=a%20b&stdin=true&stdout=true&container=c");
        assert_eq!(
            stream_query(&q, "exec").expect("exec"),
            "?input=1&output=1&command=sh&command=%2Dc&command=a%20b"
        );
        assert!(stream_query(&Query::parse("stdout=1"), "exec").is_err());
    }

    #[test]
    fn proxied_names() {
        assert_eq!(scheme_name_port("a"), Some(("", "a", "")));
        assert_eq!(scheme_name_port("a:80"), Some(("", "a", "80")));
        assert_eq!(scheme_name_port("https:a:web"), Some(("https", "a", "web")));
        assert_eq!(scheme_name_port("ftp:a:web"), None);
        assert_eq!(scheme_name_port(":80"), None);
    }
}
