//! Probes: what they say of a container that runs, and of one they have ended.

use serde_json::Value;

use super::containers::{Container, all};
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Thing, items, str_of};

/// `GET http://:8080/ready`, `TCP port 80`, `the command test -e /ok`.
fn shown(probe: &Value) -> String {
    let port = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    if let Some(h) = probe["httpGet"].as_object() {
        let get = |k: &str| h.get(k).cloned().unwrap_or_default();
        let scheme = str_of(&get("scheme")).to_lowercase();
        let scheme = if scheme.is_empty() { "http" } else { &scheme };
        return format!(
            "GET {scheme}://{}:{}{}",
            str_of(&get("host")),
            port(&get("port")),
            str_of(&get("path"))
        );
    }
    if probe["tcpSocket"].is_object() {
        return format!("a connection to port {}", port(&probe["tcpSocket"]["port"]));
    }
    if probe["grpc"].is_object() {
        return format!("gRPC on port {}", port(&probe["grpc"]["port"]));
    }
    let words: Vec<&str> = items(&probe["exec"]["command"]).iter().map(str_of).collect();
    format!("the command {}", words.join(" "))
}

/// The newest thing that this kind of probe said.
fn said<'a>(f: &'a Facts, p: &Thing, kind: &str) -> Option<&'a Thing> {
    let begin = format!("{kind} probe ");
    f.events(p).into_iter().find(|e| {
        matches!(e.text("/reason"), "Unhealthy" | "ProbeWarning") && e.text("/message").starts_with(&begin)
    })
}

/// What the words of a failure mean.
fn meaning(text: &str, probe: &Value) -> Option<String> {
    let low = text.to_lowercase();
    let port = ["httpGet", "tcpSocket", "grpc"].iter().map(|k| &probe[*k]["port"]).find(|v| !v.is_null());
    let port = port.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).unwrap_or_default();
    if low.contains("connection refused") {
        return Some(format!("nothing listens on port {port}"));
    }
    if let Some(code) = low.split("statuscode: ").nth(1) {
        let code: String = code.chars().take_while(char::is_ascii_digit).collect();
        return Some(format!("it answers with status {code}"));
    }
    if low.contains("timeout") || low.contains("timed out") || low.contains("deadline exceeded") {
        let limit = probe["timeoutSeconds"].as_i64().unwrap_or(1);
        return Some(format!("no answer within {limit} s"));
    }
    None
}

/// What is the matter with a probe, in half a sentence.
fn matter(f: &Facts, p: &Thing, probe: &Value, word: &str) -> String {
    let event = said(f, p, word);
    let text = event.map_or("", |e| e.text("/message"));
    let what = shown(probe);
    match (meaning(text, probe), text.split_once(": ").map(|(_, t)| t.trim()).filter(|t| !t.is_empty())) {
        (Some(m), _) => format!("{what}: {m}"),
        (None, Some(t)) => format!("{what}: {}", t.lines().next().unwrap_or_default()),
        (None, None) => what,
    }
}

fn word(kind: &str) -> &'static str {
    match kind {
        "liveness" => "Liveness",
        "startup" => "Startup",
        _ => "Readiness",
    }
}

/// The container is ended by its probe again and again.
pub fn killed(f: &Facts, p: &Thing, c: &Container<'_>, kind: &str) -> Cause {
    let field = format!("{kind}Probe");
    let probe = &c.spec[field.as_str()];
    let event = said(f, p, word(kind));
    let (code, name) = match kind {
        "liveness" => ("liveness-probe", "liveness probe"),
        _ => ("startup-probe", "start-up probe"),
    };
    let cause = Cause::root(
        code,
        format!(
            "the {name} of the container {} fails, so it is restarted each time ({})",
            c.name,
            matter(f, p, probe, word(kind))
        ),
    )
    .seen(p, &format!("spec.containers[{}].{field}", c.name), shown(probe))
    .event(event);
    match kind {
        "liveness" => cause.run(
            "correct the probe, or give the program more time (initialDelaySeconds, startupProbe)",
            f.edit(p),
        ),
        _ => {
            cause.run("correct the probe, or give it more time (failureThreshold × periodSeconds)", f.edit(p))
        }
    }
}

/// Containers that run, but are not ready, or have not started yet.
pub fn causes(f: &Facts, p: &Thing) -> Vec<Cause> {
    all(p).iter().filter_map(|c| running(f, p, c)).collect()
}

fn running(f: &Facts, p: &Thing, c: &Container<'_>) -> Option<Cause> {
    if !c.status["state"]["running"].is_object() {
        return None;
    }
    if c.init && !c.is_sidecar() {
        let since = f.since(str_of(&c.status["state"]["running"]["startedAt"])).unwrap_or(0);
        return (since > 60).then(|| {
            Cause::state(
                "init-running",
                format!(
                    "the init container {} has been running for {}, and the others wait for its end",
                    c.name,
                    api::columns::duration::human(since)
                ),
            )
            .seen(p, &c.path("state.running.startedAt"), str_of(&c.status["state"]["running"]["startedAt"]))
            .run("see what it says", p.kubectl(&format!("logs {} -c {}", p.name(), c.name)))
        });
    }
    let (startup, readiness) = (&c.spec["startupProbe"], &c.spec["readinessProbe"]);
    if startup.is_object() && c.status["started"] != true {
        let event = said(f, p, "Startup");
        // Before its first failure it only needs time.
        let weight = if event.is_some() { Weight::Root } else { Weight::State };
        return Some(
            Cause::new(
                "startup-probe",
                weight,
                format!(
                    "the start-up probe of the container {} does not succeed ({})",
                    c.name,
                    matter(f, p, startup, "Startup")
                ),
            )
            .seen(p, &format!("spec.containers[{}].startupProbe", c.name), shown(startup))
            .seen(p, &c.path("started"), "false")
            .event(event)
            .run("correct the probe, or give it more time (failureThreshold × periodSeconds)", f.edit(p)),
        );
    }
    if readiness.is_object() && c.status["ready"] != true {
        let event = said(f, p, "Readiness");
        let weight = if event.is_some() { Weight::Root } else { Weight::State };
        return Some(
            Cause::new(
                "readiness-probe",
                weight,
                format!(
                    "the container {} runs, but its readiness probe fails, so no service leads to it ({})",
                    c.name,
                    matter(f, p, readiness, "Readiness")
                ),
            )
            .seen(p, &format!("spec.containers[{}].readinessProbe", c.name), shown(readiness))
            .seen(p, &c.path("ready"), "false")
            .event(event)
            .run("see what the container says", p.kubectl(&format!("logs {} -c {}", p.name(), c.name)))
            .run("or correct the probe", f.edit(p)),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn probes_are_said_in_words() {
        for (probe, text, want, means) in [
            (
                json!({"httpGet": {"port": 8080, "path": "/ready"}}),
                "Readiness probe failed: HTTP probe failed with statuscode: 404",
                "GET http://:8080/ready",
                Some("it answers with status 404"),
            ),
            (
                json!({"tcpSocket": {"port": "web"}}),
                "Liveness probe failed: dial tcp 10.0.0.1:9: connect: connection refused",
                "a connection to port web",
                Some("nothing listens on port web"),
            ),
            (
                json!({"exec": {"command": ["test", "-e", "/ok"]}, "timeoutSeconds": 3}),
                "Startup probe failed: command timed out",
                "the command test -e /ok",
                Some("no answer within 3 s"),
            ),
            (json!({"grpc": {"port": 9}}), "Startup probe failed: x", "gRPC on port 9", None),
        ] {
            assert_eq!((shown(&probe).as_str(), meaning(text, &probe).as_deref()), (want, means));
        }
    }
}
