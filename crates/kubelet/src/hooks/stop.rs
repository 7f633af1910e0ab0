//! Stops one container: traffic led away, preStop within the grace period, then the stop signal, then SIGKILL.

use std::time::{Duration, Instant};

use crate::hooks::{PodCx, drain, handler};

pub struct Kill<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub grace_seconds: i64,
    pub message: &'a str,
    /// The pod goes, not only this container.
    pub pod_ends: bool,
    pub was_ready: bool,
    pub pod_ips: &'a [String],
    /// The hooks ran in an earlier, longer kill that this one cuts short.
    pub again: bool,
}

pub async fn stop(cx: &PodCx, k: &Kill<'_>) -> Result<(), String> {
    let (node, pod) = (&cx.node, &cx.pod);
    let begun = Instant::now();
    let grace = Duration::from_secs(u64::try_from(k.grace_seconds).unwrap_or(0));
    if !k.again {
        node.recorder.normal(node.about_container(pod, k.name), "Killing", k.message);
        if k.pod_ends && !grace.is_zero() {
            drain::wait(node, pod, k.was_ready, grace).await;
        }
        if let Some((_, c)) = pod.container(k.name)
            && let Some(h) = &c.lifecycle.pre_stop
            && !grace.is_zero()
        {
            let left = grace.saturating_sub(begun.elapsed()).max(Duration::from_secs(1));
            if let Err(e) = handler::run(node, pod, c, k.id, k.pod_ips, h, Some(left)).await {
                node.recorder.warning(
                    node.about_container(pod, k.name),
                    "FailedPreStopHook",
                    format!("PreStopHook failed: {e}"),
                );
            }
        }
    }
    let left = grace.saturating_sub(begun.elapsed());
    // Hooks that ate the grace period leave two seconds, as upstream.
    let least = if grace.is_zero() || k.again { Duration::ZERO } else { Duration::from_secs(2).min(grace) };
    let left = left.max(least).as_secs_f64().ceil() as i64;
    node.runtime
        .stop_container(k.id, left)
        .await
        .map_err(|e| format!("failed to stop container {}: {e}", k.name))
}
