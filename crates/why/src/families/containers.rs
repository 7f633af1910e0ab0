//! Containers that do not start, or start and end: images, configuration, crashes, memory.

use serde_json::Value;

use super::{images, mounts, probes};
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Thing, items, str_of};

/// A container of the pod with its status.
pub struct Container<'a> {
    pub name: &'a str,
    pub spec: &'a Value,
    pub status: &'a Value,
    /// `containerStatuses` or `initContainerStatuses`.
    pub list: &'static str,
    pub init: bool,
}

impl Container<'_> {
    /// Where in the pod something is seen.
    pub fn path(&self, field: &str) -> String {
        format!("status.{}[{}].{field}", self.list, self.name)
    }
    pub fn is_sidecar(&self) -> bool {
        self.init && self.spec["restartPolicy"] == "Always"
    }
}

pub fn all(p: &Thing) -> Vec<Container<'_>> {
    let mut out = Vec::new();
    for (specs, list, init) in [
        ("/spec/initContainers", "initContainerStatuses", true),
        ("/spec/containers", "containerStatuses", false),
    ] {
        let statuses = p.list(&format!("/status/{list}"));
        for spec in p.list(specs) {
            let name = str_of(&spec["name"]);
            let status = statuses.iter().find(|s| s["name"] == name).unwrap_or(&Value::Null);
            out.push(Container { name, spec, status, list, init });
        }
    }
    out
}

pub fn causes(f: &Facts, p: &Thing) -> Vec<Cause> {
    let mut out = Vec::new();
    for c in all(p) {
        if let Some(cause) = one(f, p, &c) {
            out.push(cause);
            // Those behind an init container that does not end only wait for it.
            if c.init && !c.is_sidecar() {
                break;
            }
        }
    }
    out
}

fn one(f: &Facts, p: &Thing, c: &Container<'_>) -> Option<Cause> {
    let waiting = &c.status["state"]["waiting"];
    let (reason, message) = (str_of(&waiting["reason"]), str_of(&waiting["message"]));
    let ended = &c.status["state"]["terminated"];
    let before = &c.status["lastState"]["terminated"];
    match reason {
        "" => {}
        "ContainerCreating" | "PodInitializing" => return None,
        "CreateContainerConfigError" => return Some(configuration(f, p, c, message)),
        "CrashLoopBackOff" => return Some(crash(f, p, c, before)),
        r if images::is_about(r) => {
            return Some(images::cause(f, p, c.name, str_of(&c.spec["image"]), reason, message));
        }
        r => return Some(start(f, p, c, r, message)),
    }
    if ended.is_object() && (ended["exitCode"] != 0 || is_again(p, c)) {
        return Some(crash(f, p, c, ended));
    }
    // It runs again after an end a moment ago.
    let lately = before.is_object()
        && (before["exitCode"] != 0 || killed_by(f, p, c, "liveness") || killed_by(f, p, c, "startup"))
        && f.since(str_of(&before["finishedAt"])).is_some_and(|s| s < super::pods::RECENT);
    lately.then(|| {
        let mut cause = crash(f, p, c, before);
        if p.condition("Ready").is_some_and(|r| r["status"] == "True") {
            cause.weight = cause.weight.max(Weight::State);
        }
        cause
    })
}

/// It ended well, but is to run for ever.
fn is_again(p: &Thing, c: &Container<'_>) -> bool {
    !c.init
        && matches!(p.text("/spec/restartPolicy"), "" | "Always")
        && c.status["restartCount"].as_i64().unwrap_or(0) > 0
}

/// The container could not be made: what it names is not there, or it may not be.
fn configuration(f: &Facts, p: &Thing, c: &Container<'_>, message: &str) -> Cause {
    let seen = |x: Cause| {
        x.seen(p, &c.path("state.waiting.reason"), "CreateContainerConfigError").seen(
            p,
            &c.path("state.waiting.message"),
            message,
        )
    };
    if let Some(cause) = mounts::environment(f, p, c).into_iter().next() {
        return seen(cause);
    }
    if message.contains("runAsNonRoot") || message.contains("non-root") {
        let image = str_of(&c.spec["image"]);
        return seen(
            Cause::root(
                "run-as-non-root",
                format!(
                    "the container {} may not run as root (runAsNonRoot), and the image {image} does",
                    c.name
                ),
            )
            .seen(p, "securityContext.runAsNonRoot", "true"),
        )
        .run(
            "give it a user with securityContext.runAsUser, such as 1000, or an image with a user of its own",
            f.edit(p),
        );
    }
    seen(Cause::root("container-config", format!("the container {} can't be made: {message}", c.name)))
        .run("correct it", f.edit(p))
}

/// Whether what was said means that the program is not in the image.
fn no_such_program(text: &str) -> bool {
    ["no such file or directory", "executable file not found", "not found in $path"]
        .iter()
        .any(|w| text.to_lowercase().contains(w))
}

fn command(c: &Container<'_>) -> String {
    let words = |v: &Value| items(v).iter().map(|w| str_of(w).to_owned()).collect::<Vec<_>>();
    let mut all = words(&c.spec["command"]);
    all.extend(words(&c.spec["args"]));
    match all.first() {
        Some(first) => first.clone(),
        None => "the image's own command".into(),
    }
}

/// `CreateContainerError`, `RunContainerError`, `PostStartHookError` and their like.
fn start(f: &Facts, p: &Thing, c: &Container<'_>, reason: &str, message: &str) -> Cause {
    let event = f.event(p, &["FailedPostStartHook", "Failed"]);
    let seen = |x: Cause| {
        x.seen(p, &c.path("state.waiting.reason"), reason).seen(p, &c.path("state.waiting.message"), message)
    };
    let what = if message.is_empty() { event.map_or("", |e| e.text("/message")) } else { message };
    if no_such_program(what) {
        return seen(not_there(f, p, c, what));
    }
    if reason == "PostStartHookError" {
        return seen(Cause::root(
            "post-start",
            format!("the postStart hook of the container {} fails: {what}", c.name),
        ))
        .event(event)
        .run("correct lifecycle.postStart", f.edit(p));
    }
    seen(Cause::root("container-start", format!("the container {} can't be started: {what}", c.name)))
        .event(event)
        .run("correct it", f.edit(p))
}

fn not_there(f: &Facts, p: &Thing, c: &Container<'_>, what: &str) -> Cause {
    let image = str_of(&c.spec["image"]);
    let program = command(c);
    Cause::root(
        "command-missing",
        format!(
            "the command {program} of the container {} is not in the image {image}: no such file",
            c.name
        ),
    )
    .seen(p, &format!("spec.containers[{}].command", c.name), program)
    .seen(p, &c.path("state"), what.trim())
    .run("correct command, or use an image that has it", f.edit(p))
}

/// Since when a shift in the container was told of by its kubelet.
fn killed_by(f: &Facts, p: &Thing, c: &Container<'_>, kind: &str) -> bool {
    let words = format!("ontainer {} failed {kind} probe", c.name);
    f.events(p).into_iter().any(|e| e.text("/reason") == "Killing" && e.text("/message").contains(&words))
}

/// It ran and ended.
fn crash(f: &Facts, p: &Thing, c: &Container<'_>, end: &Value) -> Cause {
    let (code, reason, message) =
        (end["exitCode"].as_i64().unwrap_or(0), str_of(&end["reason"]), str_of(&end["message"]));
    let restarts = c.status["restartCount"].as_i64().unwrap_or(0);
    let place = if c.status["state"]["terminated"].is_object() { "state" } else { "lastState" };
    let what = if c.init { "init container" } else { "container" };
    let seen = |x: Cause| {
        let mut x = x
            .seen(p, &c.path(&format!("{place}.terminated.exitCode")), code.to_string())
            .seen(p, &c.path(&format!("{place}.terminated.reason")), reason)
            .seen(p, &c.path("restartCount"), restarts.to_string());
        let key = (p.ns().to_owned(), p.name().to_owned(), c.name.to_owned());
        if let Some(log) = f.logs.get(&key).filter(|l| !l.is_empty()) {
            x = x.seen(p, &format!("log of {} before it ended", c.name), log.trim_end());
        }
        x
    };
    let previous = if place == "lastState" { " --previous" } else { "" };
    let logs = p.kubectl(&format!("logs {} -c {}{previous}", p.name(), c.name));
    if reason == "OOMKilled" {
        let limit = str_of(&c.spec["resources"]["limits"]["memory"]);
        let says = match limit {
            "" => format!(
                "the {what} {} is ended for want of memory: it has no limit of its own, so the pod's or the node's was reached",
                c.name
            ),
            l => format!(
                "the {what} {} is ended for want of memory: it needs more than its limit of {l}",
                c.name
            ),
        };
        let more = f.set(p, "resources", &format!("-c {} --limits=memory=AMOUNT", c.name));
        return seen(Cause::root("out-of-memory", says))
            .seen(p, &format!("spec.containers[{}].resources.limits.memory", c.name), limit)
            .run("allow it more", more)
            .help("or make it use less");
    }
    if matches!(reason, "StartError" | "ContainerCannotRun") || (code == 128 && no_such_program(message)) {
        if no_such_program(message) {
            return seen(not_there(f, p, c, message));
        }
        return seen(Cause::root(
            "container-start",
            format!("the {what} {} can't be started: {message}", c.name),
        ))
        .run("correct it", f.edit(p));
    }
    for kind in ["liveness", "startup"] {
        if killed_by(f, p, c, kind) {
            return seen(probes::killed(f, p, c, kind));
        }
    }
    if code == 0 && !c.init {
        return seen(Cause::root(
            "ends-at-once",
            format!("the {what} {} ends by itself, with success, and is started again each time: it should run for ever, or be a Job", c.name),
        ))
        .run("see what it said", logs)
        .run("give it a command that stays, or make a Job of it", f.edit(p));
    }
    let why = match code {
        126 => ", which says that its command may not be run".to_owned(),
        127 => ", which says that its command was not found".to_owned(),
        134 => ", which says that it gave up by itself (abort)".to_owned(),
        137 => ", which says that it was killed (SIGKILL)".to_owned(),
        139 => ", which says that it read or wrote memory that is not its own (SIGSEGV)".to_owned(),
        143 => ", which says that it was told to stop (SIGTERM)".to_owned(),
        n if n > 128 && n < 160 => format!(", which says that signal {} ended it", n - 128),
        _ => String::new(),
    };
    let how = match (
        c.init && !c.is_sidecar(),
        p.text("/spec/restartPolicy") == "Never" || super::pods::is_finished(p),
    ) {
        (true, _) => "fails".to_owned(),
        (false, true) => "failed".to_owned(),
        (false, false) => "crashes again and again".to_owned(),
    };
    let code_word = if c.init && !c.is_sidecar() { "init-failing" } else { "crash" };
    let mut says = format!("the {what} {} {how} with exit code {code}{why}", c.name);
    if !message.is_empty() {
        says.push_str(&format!(": {}", message.trim().lines().last().unwrap_or_default()));
    }
    seen(Cause::root(code_word, says)).run("see what it said", logs)
}
