//! Images that can't be had: no such image or tag, no right to pull, no registry, no pull allowed.

use crate::cause::Cause;
use crate::facts::{Facts, Lookup, Thing, items, names, str_of};

const REASONS: [&str; 8] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "ErrImagePullBackOff",
];

pub fn is_about(reason: &str) -> bool {
    REASONS.contains(&reason)
}

/// Registry and repository on one side, tag or digest on the other.
fn split(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest);
    }
    match image.rsplit_once(':') {
        // A port is no tag.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// With the registry and library that short names leave out.
fn full(repository: &str) -> String {
    match (registry(repository), repository.contains('/')) {
        ("docker.io", false) => format!("docker.io/library/{repository}"),
        ("docker.io", true) if !repository.starts_with("docker.io/") => format!("docker.io/{repository}"),
        _ => repository.to_owned(),
    }
}

/// Tags of the same repository that nodes have.
fn tags(f: &Facts, image: &str) -> Vec<String> {
    let (repository, tag) = split(image);
    let mut out = Vec::new();
    for name in f.all("node").iter().flat_map(|n| n.list("/status/images")).flat_map(|i| items(&i["names"])) {
        let (r, t) = split(str_of(name));
        if full(r) == full(repository) && t != tag && !t.starts_with("sha256:") && !out.iter().any(|o| o == t)
        {
            out.push(t.to_owned());
        }
    }
    out.sort();
    out
}

fn about_secrets(f: &Facts, p: &Thing, mut c: Cause, host: &str) -> Cause {
    let secrets = p.list("/spec/imagePullSecrets");
    if secrets.is_empty() {
        let make = format!(
            "create secret docker-registry pull-{} --docker-server={host} --docker-username=USER --docker-password=PASSWORD",
            host.replace([':', '.'], "-")
        );
        return c
            .seen(p, "spec.imagePullSecrets", "none")
            .run("if it is private, make a secret for the registry", p.kubectl(&make))
            .run("and name it in imagePullSecrets", f.edit(p));
    }
    for s in secrets {
        let name = str_of(&s["name"]);
        match f.look("secret", p.ns(), name) {
            Lookup::Missing => {
                c = c.seen(p, "spec.imagePullSecrets", format!("{name}, which does not exist in {}", p.ns()));
            }
            Lookup::There(s)
                if !matches!(
                    s.text("/type"),
                    "kubernetes.io/dockerconfigjson" | "kubernetes.io/dockercfg"
                ) =>
            {
                c = c.seen(
                    s,
                    "type",
                    format!("{}, which holds no credentials of registries", s.text("/type")),
                );
            }
            _ => c = c.seen(p, "spec.imagePullSecrets", name),
        }
    }
    c.help(format!("see that one of the secrets is for {host} and still valid"))
}

/// `path` is the container's place in the status; `waiting` is its `state.waiting`.
pub fn cause(f: &Facts, p: &Thing, container: &str, image: &str, reason: &str, message: &str) -> Cause {
    let failed = f.events(p).into_iter().find(|e| {
        e.text("/reason") == "Failed"
            && e.text("/message").contains("ull image")
            && e.text("/message").contains(image)
    });
    // Back-off hides what happened; the event before it says it.
    let told = failed.map_or(message, |e| e.text("/message"));
    // The name may hold anything, such as a port that looks like a status.
    let low = format!("{told} {message}").replace(image, "").to_lowercase();
    let (repository, tag) = split(image);
    let host = registry(image);
    let node = p.text("/spec/nodeName");
    let set = f.set(p, "image", &format!("{container}=IMAGE"));
    let done = |c: Cause| {
        c.seen(p, &format!("status.containerStatuses[{container}].state.waiting.reason"), reason)
            .seen(p, &format!("spec.containers[{container}].image"), image)
            .event(failed)
    };
    let has = |words: &[&str]| words.iter().any(|w| low.contains(w));
    if reason == "InvalidImageName" {
        return done(Cause::root("image-name", format!("{image:?} is no name of an image")))
            .run("correct it", set);
    }
    if reason == "ErrImageNeverPull" {
        return done(Cause::root(
            "image-never-pulled",
            format!("the image {image} is not on {node}, and imagePullPolicy Never forbids to pull it"),
        ))
        .run("bring it onto the node", format!("kelson image import ARCHIVE   # on {node}"))
        .run("or allow pulls (imagePullPolicy: IfNotPresent)", f.edit(p));
    }
    if has(&["certificate", "x509", "tls:", "http response to https"]) {
        return done(Cause::root(
            "registry-tls",
            format!("the registry {host} is not trusted by {node}: {told}"),
        ))
        .help(format!(
            "give {node} the registry's authority, or name it as one without TLS (--insecure-registries)"
        ));
    }
    if has(&["too many requests", "toomanyrequests", "rate limit"]) {
        let c = Cause::root(
            "registry-limit",
            format!("the registry {host} gives no more images for now: too many requests"),
        );
        return about_secrets(f, p, done(c), host);
    }
    if has(&[
        "no such host",
        "connection refused",
        "i/o timeout",
        "deadline exceeded",
        "failed to reach",
        "dns error",
        "network is unreachable",
        "no route to host",
        "failed to lookup",
        "error sending request",
        "timed out",
        "temporary failure",
    ]) {
        return known(
            f,
            image,
            done(Cause::root(
                "registry-unreachable",
                format!(
                    "the registry {host} can't be reached from {node}, so the image {image} can't be pulled"
                ),
            )),
        )
        .help(format!("see whether {node} reaches {host}, or whether the image's name is right"))
        .run("use another image", set);
    }
    if has(&[
        "unauthorized",
        "access denied",
        "denied:",
        "forbidden",
        "authorization",
        "authentication required",
        "status 401",
        "status 403",
    ]) {
        let c = Cause::root(
            "image-denied",
            format!(
                "the registry {host} does not give the image {image} to this pod: it is private, or does not exist"
            ),
        );
        return about_secrets(f, p, done(c), host);
    }
    if has(&[
        "not found",
        "manifest unknown",
        "manifest_unknown",
        "status 404",
        "no such image",
        "name unknown",
    ]) {
        let others = tags(f, image);
        let says = if others.is_empty() {
            format!("the image {image} does not exist: {host} knows no such name or tag")
        } else {
            format!("the image {repository} has no tag {tag}: {host} does not know it")
        };
        return known(f, image, done(Cause::root("image-missing", says))).run("use one that exists", set);
    }
    known(f, image, done(Cause::root("image-pull", format!("the image {image} can't be pulled: {told}"))))
        .run("use another image", set)
}

fn known(f: &Facts, image: &str, c: Cause) -> Cause {
    let others = tags(f, image);
    if others.is_empty() { c } else { c.help(format!("nodes have these tags of it: {}", names(&others, 5))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        for (image, name, tag, host) in [
            ("busybox", "busybox", "latest", "docker.io"),
            ("busybox:1.36", "busybox", "1.36", "docker.io"),
            ("reg:5000/team/x", "reg:5000/team/x", "latest", "reg:5000"),
            ("reg:5000/team/x:2", "reg:5000/team/x", "2", "reg:5000"),
            ("x/y@sha256:ab", "x/y", "sha256:ab", "docker.io"),
        ] {
            assert_eq!((split(image), registry(image)), ((name, tag), host), "{image}");
        }
        assert_eq!(full("busybox"), "docker.io/library/busybox");
        assert_eq!(full("a/b"), "docker.io/a/b");
        assert_eq!(full("docker.io/a/b"), "docker.io/a/b");
        assert_eq!(full("reg:5000/a"), "reg:5000/a");
    }
}
