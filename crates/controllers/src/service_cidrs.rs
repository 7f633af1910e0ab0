//! The service-cidr-controller loop: a ServiceCIDR carries a finalizer and says that it is ready; one that is deleted goes
//! once no Service's address would be left without a range. Owns nothing, spawns its workers.
//! https://kubernetes.io/docs/tasks/network/extend-service-ip-ranges/

use std::net::IpAddr;
use std::time::Duration;

use api::Object;
use api::resource::{IP_ADDRESSES, SERVICE_CIDRS};
use client::{ObjectRef, Patch, clock};
use netlink::Cidr;
use serde_json::{Value, json};

use crate::Context;
use crate::skeleton::{self, Key, Next, Queue, key_of};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// Until every API server has seen that nothing is to be taken from the range any more.
const GRACE: Duration = Duration::from_secs(10);

/// Status, reason and message.
type Ready = (bool, &'static str, &'static str);
const READY: Ready = (true, "", "Kubernetes Service CIDR is ready");
const TERMINATING: Ready = (
    false,
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
);

#[derive(Debug, Clone, PartialEq)]
struct Range {
    name: String,
    cidrs: Vec<Cidr>,
}

fn range(o: &Object) -> Range {
    let cidrs = o.value().map(|v| v["spec"]["cidrs"].clone()).unwrap_or_default();
    let cidrs = cidrs.as_array().into_iter().flatten().filter_map(|c| c.as_str()?.parse().ok()).collect();
    Range { name: o.name().to_owned(), cidrs }
}

fn holds(outer: &Cidr, inner: &Cidr) -> bool {
    outer.len <= inner.len && outer.contains(inner.addr)
}

/// Whether a range may go: others hold all of it, or all addresses in it. Pure.
fn may_go(range: &Range, all: &[Range], addresses: &[IpAddr]) -> bool {
    let others = || all.iter().filter(|r| r.name != range.name).flat_map(|r| &r.cidrs);
    if range.cidrs.iter().all(|c| others().any(|o| holds(o, c))) {
        return true;
    }
    let inside = |ip: &&IpAddr| range.cidrs.iter().any(|c| c.contains(**ip));
    addresses.iter().filter(inside).all(|ip| others().any(|o| o.contains(*ip)))
}

fn managed(o: &Object) -> Option<IpAddr> {
    o.meta().labels.get(MANAGED_BY).filter(|m| *m == ALLOCATOR)?;
    o.name().parse().ok()
}

fn is_told(v: &Value, (status, reason, message): Ready) -> bool {
    let status = if status { "True" } else { "False" };
    let text = |c: &Value, f: &str| c[f].as_str().unwrap_or_default().to_owned();
    v["status"]["conditions"].as_array().into_iter().flatten().any(|c| {
        c["type"] == "Ready"
            && c["status"] == status
            && text(c, "reason") == reason
            && text(c, "message") == message
    })
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (ranges, addresses) = (ctx.informers.get(&SERVICE_CIDRS), ctx.informers.get(&IP_ADDRESSES));
    let (all, q) = (ranges.clone(), queue.clone());
    ranges.on_change(move |c| {
        let Some(o) = c.object() else { return };
        q.add(key_of(o));
        // One that comes or goes decides on those that it overlaps.
        if c.old.is_some() != c.new.is_some() {
            let own = range(o);
            for other in all.list(None) {
                if range(&other).cidrs.iter().any(|x| own.cidrs.iter().any(|y| x.overlaps(y))) {
                    q.add(key_of(&other));
                }
            }
        }
    });
    let (all, q) = (ranges.clone(), queue.clone());
    addresses.on_change(move |c| {
        let Some(ip) = c.object().and_then(managed) else { return };
        for r in all.list(None).iter().filter(|r| r.meta().is_deleting()) {
            if range(r).cidrs.iter().any(|x| x.contains(ip)) {
                q.add(key_of(r));
            }
        }
    });
    if !skeleton::synced(&ctx.token, &[&ranges, &addresses]).await {
        return;
    }
    skeleton::work("service-cidr-controller", &ctx.token, &queue, 2, |key: Key| {
        let (ctx, ranges, addresses) = (&ctx, &ranges, &addresses);
        async move {
            let Some(o) = ranges.get("", &key.1) else { return Ok(Next::Wait) };
            let has = o.meta().finalizers().iter().any(|f| f == FINALIZER);
            let told = if o.meta().is_deleting() {
                let all: Vec<Range> = ranges.list(None).iter().map(range).collect();
                let used: Vec<IpAddr> = addresses.list(None).iter().filter_map(managed).collect();
                if may_go(&range(&o), &all, &used) {
                    let deleted = o.meta().deletion_timestamp().and_then(clock::parse);
                    let since = deleted.map(|d| clock::between(d, clock::now())).unwrap_or(GRACE);
                    if since < GRACE {
                        return Ok(Next::After(GRACE.saturating_sub(since)));
                    }
                    if has {
                        let gone = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": [FINALIZER] } });
                        patch(ctx, &key.1, "", Patch::Strategic(gone)).await?;
                    }
                    return Ok(Next::Wait);
                }
                TERMINATING
            } else {
                if !has {
                    let added = json!({ "metadata": { "finalizers": [FINALIZER] } });
                    patch(ctx, &key.1, "", Patch::Strategic(added)).await?;
                }
                READY
            };
            if !is_told(&o.value()?, told) {
                let (status, reason, message) = told;
                let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": if status { "True" } else { "False" },
                    "reason": reason, "message": message, "lastTransitionTime": clock::rfc3339(clock::now()) }] } });
                if let Err(e) = patch(ctx, &key.1, "status", Patch::Strategic(status)).await {
                    let about = ObjectRef::of(&SERVICE_CIDRS, &o);
                    let text = "The ServiceCIDR Status can not be set to Ready=True";
                    ctx.events.warning(about, "KubernetesServiceCIDRError", text);
                    return Err(e.into());
                }
            }
            Ok(Next::Wait)
        }
    })
    .await;
}

async fn patch(ctx: &Context, name: &str, sub: &str, patch: Patch) -> Result<(), api::Status> {
    match ctx.client.patch(&SERVICE_CIDRS, "", name, sub, &patch).await {
        Err(s) if !s.is_not_found() => Err(s),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, cidrs: &[&str]) -> Range {
        let cidrs = cidrs.iter().map(|c| c.parse().expect("cidr")).collect();
        Range { name: name.into(), cidrs }
    }

    #[test]
    fn no_address_is_left_without_a_range() {
        let a = of("a", &["10.0.0.0/24", "fd00::/112"]);
        let ip = |s: &str| s.parse::<IpAddr>().expect("address");
        for (name, others, used, want) in [
            ("unused", vec![], vec![], true),
            ("used", vec![], vec!["10.0.0.5"], false),
            ("used elsewhere", vec![], vec!["10.1.0.5"], true),
            ("within another", vec![of("b", &["10.0.0.0/16", "fd00::/64"])], vec!["10.0.0.5"], true),
            ("the same again", vec![of("b", &["10.0.0.0/24", "fd00::/112"])], vec!["10.0.0.5"], true),
            ("half of it within another", vec![of("b", &["10.0.0.0/16"])], vec!["fd00::5"], false),
            ("the address within another", vec![of("b", &["10.0.0.0/28"])], vec!["10.0.0.5"], true),
            ("the address not within another", vec![of("b", &["10.0.0.0/28"])], vec!["10.0.0.50"], false),
        ] {
            let all: Vec<Range> = others.into_iter().chain([a.clone()]).collect();
            let used: Vec<IpAddr> = used.into_iter().map(ip).collect();
            assert_eq!(may_go(&a, &all, &used), want, "{name}");
        }
    }
}
