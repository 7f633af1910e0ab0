//! The images of a container, its own and those it mounts: there already, or pulled by their policy with the pod's pull
//! secrets.

use std::collections::BTreeMap;
use std::time::Instant;

use base64::Engine;
use cri::{AuthConfig, CriError, Image, ImageSpec, PullReason};
use serde_json::Value;

use crate::hooks::PodCx;
use crate::hooks::container::StartError;
use crate::pod::{Container, pull_policy};

/// An image that is to be on the node.
struct Wanted<'a> {
    image: &'a str,
    policy: &'a str,
    /// What its events are about.
    about: client::ObjectRef,
}

/// The container's image: its id and what the runtime says of it.
pub async fn ensure(cx: &PodCx, c: &Container) -> Result<(String, Option<Image>), StartError> {
    let about = cx.node.about_container(&cx.pod, &c.name);
    ensure_image(cx, &Wanted { image: &c.image, policy: c.pull_policy(), about }).await
}

/// The images that the container mounts as volumes, by the volume's name.
pub async fn volumes(cx: &PodCx, c: &Container) -> Result<BTreeMap<String, ImageSpec>, StartError> {
    let (mut out, mut last) = (BTreeMap::new(), None);
    for v in cx.pod.spec.volumes.iter().filter(|v| c.volume_mounts.iter().any(|m| m.name == v.name)) {
        let Some(i) = &v.image else { continue };
        let policy = pull_policy(&i.pull_policy, &i.reference);
        let wanted = Wanted { image: &i.reference, policy, about: cx.node.about_pod(&cx.pod) };
        match ensure_image(cx, &wanted).await {
            Ok((id, _)) => {
                let spec = ImageSpec { user_specified_image: i.reference.clone(), ..ImageSpec::new(id) };
                out.insert(v.name.clone(), spec);
            }
            Err(e) => {
                let about = cx.node.about_container(&cx.pod, &c.name);
                cx.node.recorder.warning(about, "Failed", format!("Error: {}", e.reason));
                last = Some(e);
            }
        }
    }
    last.map_or(Ok(out), Err)
}

async fn ensure_image(cx: &PodCx, c: &Wanted<'_>) -> Result<(String, Option<Image>), StartError> {
    let node = &cx.node;
    let about = c.about.clone();
    let spec = ImageSpec { user_specified_image: c.image.to_owned(), ..ImageSpec::new(c.image) };
    if c.image.trim() != c.image || c.image.is_empty() {
        let message = format!(
            "Failed to apply default image tag \"{}\": couldn't parse image name \"{}\": invalid reference format",
            c.image, c.image
        );
        node.recorder.warning(about, "InspectFailed", message.clone());
        return Err(StartError::config("InvalidImageName", message));
    }
    let present = match node.runtime.image_status(&spec).await {
        Ok(i) => i,
        Err(CriError::ImagePull { reason: PullReason::InvalidImageName, message })
        | Err(CriError::InvalidArgument(message)) => {
            let message = format!(
                "Failed to apply default image tag \"{}\": couldn't parse image name \"{}\": {message}",
                c.image, c.image
            );
            node.recorder.warning(about, "InspectFailed", message.clone());
            return Err(StartError::config("InvalidImageName", message));
        }
        Err(e) => {
            let message = format!("Failed to inspect image \"{}\": {e}", c.image);
            node.recorder.warning(about, "InspectFailed", message.clone());
            return Err(StartError::config("ImageInspectError", message));
        }
    };
    match (present, c.policy) {
        (Some(i), "IfNotPresent" | "Never") => {
            let text = format!(
                "Container image \"{}\" already present on machine and can be accessed by the pod",
                c.image
            );
            node.recorder.normal(about, "Pulled", text);
            Ok((i.id.clone(), Some(i)))
        }
        (None, "Never") => {
            let message = format!("Container image \"{}\" is not present with pull policy of Never", c.image);
            node.recorder.warning(about, "ErrImageNeverPull", message.clone());
            Err(StartError::config("ErrImageNeverPull", message))
        }
        _ => pull(cx, c, &spec).await,
    }
}

async fn pull(cx: &PodCx, c: &Wanted<'_>, spec: &ImageSpec) -> Result<(String, Option<Image>), StartError> {
    let (node, about) = (&cx.node, c.about.clone());
    node.recorder.normal(about.clone(), "Pulling", format!("Pulling image \"{}\"", c.image));
    let begun = Instant::now();
    let mut keys = credentials(cx, c.image).await.into_iter().map(Some).collect::<Vec<_>>();
    if keys.is_empty() {
        keys.push(None);
    }
    let mut last = CriError::Internal("no pull was tried".into());
    for auth in &keys {
        match node.runtime.pull_image(spec, auth.as_ref(), None).await {
            Ok(id) => {
                let image = node.runtime.image_status(&ImageSpec::new(&id)).await.ok().flatten();
                let size = image.as_ref().map_or(0, |i| i.size);
                let took = format!("{:.3}s", begun.elapsed().as_secs_f64());
                let text = format!(
                    "Successfully pulled image \"{}\" in {took} ({took} including waiting). Image size: {size} bytes.",
                    c.image
                );
                node.recorder.normal(about, "Pulled", text);
                return Ok((id, image));
            }
            Err(e) => last = e,
        }
    }
    let (reason, text) = match last {
        CriError::ImagePull { reason, message } => (reason.as_str(), message),
        other => ("ErrImagePull", other.to_string()),
    };
    let message = format!("Failed to pull image \"{}\": {text}", c.image);
    node.recorder.warning(about.clone(), "Failed", message.clone());
    node.recorder.warning(about, "Failed", format!("Error: {reason}"));
    Err(StartError::image(
        reason,
        text,
        format!("Back-off pulling image \"{}\": {reason}: {message}", c.image),
    ))
}

/// The credentials of the pod's pull secrets that fit the image's registry.
async fn credentials(cx: &PodCx, image: &str) -> Vec<AuthConfig> {
    let ns = &cx.pod.metadata.namespace;
    let mut out = Vec::new();
    for r in &cx.pod.spec.image_pull_secrets {
        let Ok(Some(s)) = cx.node.refs.secret(ns, &r.name, &cx.user).await else { continue };
        if let Some(raw) = s.data.get(".dockerconfigjson")
            && let Ok(v) = serde_json::from_slice::<Value>(raw)
        {
            out.extend(matching(&v["auths"], image));
        }
        if let Some(raw) = s.data.get(".dockercfg")
            && let Ok(v) = serde_json::from_slice::<Value>(raw)
        {
            out.extend(matching(&v, image));
        }
    }
    out
}

/// Entries of a docker config whose registry (and path prefix) fits the image; the longest first.
pub fn matching(auths: &Value, image: &str) -> Vec<AuthConfig> {
    let full = match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    };
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for (server, v) in auths.as_object().into_iter().flatten() {
        let host = server.trim_start_matches("https://").trim_start_matches("http://");
        let host = host.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
        let host = if host == "index.docker.io" { "docker.io" } else { host };
        let fits = full == host || full.strip_prefix(host).is_some_and(|r| r.starts_with(['/', ':', '@']));
        if !fits {
            continue;
        }
        let text = |k: &str| v[k].as_str().unwrap_or_default().to_owned();
        let mut a = AuthConfig {
            username: text("username"),
            password: text("password"),
            auth: text("auth"),
            server_address: server.clone(),
            identity_token: text("identitytoken"),
            registry_token: text("registrytoken"),
        };
        if a.username.is_empty()
            && let Ok(raw) = base64::engine::general_purpose::STANDARD.decode(&a.auth)
            && let Some((u, p)) = String::from_utf8_lossy(&raw).split_once(':')
        {
            a.username = u.to_owned();
            a.password = p.to_owned();
        }
        found.push((host.len(), a));
    }
    found.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    found.into_iter().map(|(_, a)| a).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn registries_match_by_prefix() {
        let auths = json!({"https://index.docker.io/v1/": {"auth": "dTpw"}, "reg:5000": {"username": "a"},
            "reg:5000/team": {"username": "b"}});
        let users = |i: &str| matching(&auths, i).into_iter().map(|a| a.username).collect::<Vec<_>>();
        assert_eq!(users("nginx"), ["u"]);
        assert_eq!(users("reg:5000/team/x:1"), ["b", "a"]);
        assert_eq!(users("reg:5000/teamx:1"), ["a"]);
        assert!(users("ghcr.io/x/y").is_empty());
    }
}
