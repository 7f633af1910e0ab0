//! How everything has to be once nothing breaks any more, and what may be left on the nodes when all is deleted: nothing.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use e2e::machines::{Machines, NODES};
use serde_json::{Value, json};

use crate::api::{Api, NAMESPACE, own};
use crate::workloads::{SETS, resource};

fn number(o: &Value, path: &str) -> u64 {
    o.pointer(path).and_then(Value::as_u64).unwrap_or_default()
}

/// The first of these counters of the status that is not `wanted`.
fn counters(app: &str, o: &Value, wanted: u64, fields: &[&str]) -> Result<(), String> {
    if number(o, "/status/observedGeneration") < number(o, "/metadata/generation") {
        return Err(format!("{app}: its latest state is not observed"));
    }
    for field in fields {
        let has = number(o, &format!("/status/{field}"));
        if has != wanted {
            return Err(format!("{app}: {field} is {has}, not {wanted}"));
        }
    }
    Ok(())
}

/// The pods of an app are this many, ready and to stay.
fn pods(api: &Api, app: &str, wanted: u64) -> Result<(), String> {
    let all = api.items(&own("v1", &format!("pods?labelSelector=app%3D{app}"))).ok_or("no answer")?;
    let is_ready = |p: &&Value| {
        let mut conditions = p["status"]["conditions"].as_array().into_iter().flatten();
        !p["metadata"]["deletionTimestamp"].is_string()
            && conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    // What its node refused stays for whoever wants to know, until it is too much.
    let there = all.iter().filter(|p| p["status"]["phase"] != "Failed").count() as u64;
    let ready = all.iter().filter(is_ready).count() as u64;
    if (there, ready) == (wanted, wanted) {
        return Ok(());
    }
    Err(format!("{app}: {there} pods, {ready} of them ready, not {wanted}"))
}

/// Why not all is as it should be.
pub fn settled(api: &Api, jobs: &[(String, u64)]) -> Result<(), String> {
    for node in NODES {
        let n = api.get(&format!("/api/v1/nodes/{node}")).ok_or("no answer")?;
        let mut conditions = n["status"]["conditions"].as_array().into_iter().flatten();
        if !conditions.any(|c| c["type"] == "Ready" && c["status"] == "True") {
            return Err(format!("{node} is not ready"));
        }
    }
    for app in ["web", "big", "each"].into_iter().chain(SETS) {
        let kind = resource(app);
        let o = api.get(&own("apps/v1", &format!("{kind}/{app}"))).ok_or("no answer")?;
        let replicas = if app == "each" { 3 } else { number(&o, "/spec/replicas") };
        let fields: &[&str] = match kind {
            "deployments" => &["replicas", "updatedReplicas", "availableReplicas"],
            "daemonsets" => &["desiredNumberScheduled", "updatedNumberScheduled", "numberReady"],
            _ => &["replicas", "updatedReplicas", "readyReplicas"],
        };
        counters(app, &o, replicas, fields)?;
        pods(api, app, replicas)?;
    }
    for (job, completions) in jobs {
        let o = api.get(&own("batch/v1", &format!("jobs/{job}"))).ok_or("no answer")?;
        let mut conditions = o["status"]["conditions"].as_array().into_iter().flatten();
        if !conditions.any(|c| c["type"] == "Complete" && c["status"] == "True") {
            return Err(format!("{job} is not complete: {}", o["status"]));
        }
        if number(&o, "/status/succeeded") != *completions {
            return Err(format!("{job}: {} of {completions} succeeded", number(&o, "/status/succeeded")));
        }
    }
    Ok(())
}

/// Asks until it is so, or gives up and says what was lacking.
pub fn wait(api: &Api, patience: Duration, mut is: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let end = api.now() + patience;
    loop {
        match is() {
            Ok(()) => return Ok(()),
            Err(why) if api.now() > end => return Err(why),
            Err(_) => std::thread::park_timeout(Duration::from_millis(300)),
        }
    }
}

/// The processes that hold pods of these directories.
fn shims(dirs: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for e in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(e.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(" shim ") && dirs.iter().any(|d| line.contains(&format!("{d}/"))) {
            out.push(line);
        }
    }
    out
}

fn cgroups(dir: &Path, uids: &HashSet<String>, out: &mut Vec<String>) {
    for e in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if e.file_type().is_ok_and(|t| t.is_dir()) {
            let name = e.file_name().to_string_lossy().into_owned();
            if name.strip_prefix("pod").is_some_and(|uid| uids.contains(uid)) {
                out.push(e.path().to_string_lossy().into_owned());
            }
            cgroups(&e.path(), uids, out);
        }
    }
}

/// What nodes have beside pods: names of links, by host.
pub fn links(machines: &Machines) -> Vec<Vec<String>> {
    (0..NODES.len()).map(|n| machines.hosts.host(n).links()).collect()
}

/// Why the nodes are not as they were before there were pods.
pub fn nothing_left(api: &Api, machines: &Machines, before: &[Vec<String>]) -> Result<(), String> {
    let dirs: Vec<String> =
        machines.agents.iter().map(testkit::Agent::data).chain([machines.cluster.data()]).collect();
    let shims = shims(&dirs);
    if !shims.is_empty() {
        return Err(format!("containers of nobody: {shims:?}"));
    }
    let mut left = Vec::new();
    cgroups(Path::new("/sys/fs/cgroup"), &api.judge().uids, &mut left);
    if !left.is_empty() {
        return Err(format!("control groups of nobody: {left:?}"));
    }
    for (n, (now, before)) in links(machines).iter().zip(before).enumerate() {
        let more: Vec<&String> = now.iter().filter(|l| !before.contains(l)).collect();
        if !more.is_empty() {
            return Err(format!("links of nobody on {}: {more:?}", NODES[n]));
        }
    }
    Ok(())
}

/// Deletes all, and waits until the namespace is gone.
pub fn delete_all(api: &Api) -> Result<(), String> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}");
    api.delete(&path, &json!({}));
    wait(api, Duration::from_secs(120), || {
        let answer = api.send("GET", &path, "application/json", &Value::Null).ok_or("no answer")?;
        if answer.code == 404 {
            Ok(())
        } else {
            Err(format!("the namespace is still there: {}", answer.json()["status"]))
        }
    })
}
