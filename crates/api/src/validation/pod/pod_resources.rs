//! What the pod as a whole asks for: resources over all containers, and resource claims.

use super::super::amount::{self, Quantity, quantity};
use super::super::at::At;
use super::super::common::{format, required};
use super::super::errors::ErrorList;
use super::super::names;
use super::super::path::Place;
use super::{Ctx, resources};
use std::collections::{BTreeMap, HashSet};

/// `spec.resourceClaims`.
pub fn claims(list: &At, e: &mut ErrorList) {
    let mut seen = HashSet::new();
    for c in list.iter() {
        let name = c.get("name");
        if required(&name, e) {
            if seen.insert(name.str()) {
                format(&name, names::dns1123_label, e);
            } else {
                e.duplicate(&name, name.str());
            }
        }
        let (claim, template) = (c.get("resourceClaimName"), c.get("resourceClaimTemplateName"));
        match (claim.is_null(), template.is_null()) {
            (false, false) => {
                e.bad(
                    &c,
                    "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
                );
            }
            (true, true) => {
                e.bad_as(
                    "PodResourceClaim",
                    &c,
                    "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
                );
            }
            _ => {}
        }
        for f in [&claim, &template] {
            if !f.is_null() {
                format(f, names::dns1123_subdomain, e);
            }
        }
    }
}

fn pod_resource_name(name: &str, at: &dyn Place, e: &mut ErrorList) {
    if amount::resource_name(name, at, e) && !matches!(name, "cpu" | "memory") && !amount::is_huge_page(name)
    {
        e.not_supported(at, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// `spec.resources`, against what the containers ask for together.
pub fn pod_level(spec: &At, ctx: &Ctx, e: &mut ErrorList) {
    let r = spec.get("resources");
    if r.has("claims") {
        e.forbidden(&r.at("claims"), "claims cannot be set for Resources at pod-level");
    }
    resources::requirements(&r, &ctx.claims, pod_resource_name, e);
    let requests = r.get("requests");
    for (name, sum) in container_requests(spec) {
        let pod = quantity(requests.raw(&name)).unwrap_or_default();
        if sum > pod {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            e.invalid(&requests.p.key(&name), pod.to_string(), &why);
        }
    }
    let limits = r.get("limits");
    let list = spec.get("containers");
    for (i, c) in list.iter().enumerate() {
        let resources = c.get("resources");
        for (name, limit) in resources.get("limits").entries() {
            if let (Some(limit), Some(pod)) = (quantity(limit.v), quantity(limits.raw(name)))
                && limit > pod
            {
                let place = r.at("containers");
                let place = place.index(i);
                let place = place.key(name);
                let why = format!("must be less than or equal to pod limits of {pod}");
                e.invalid(&place.child("limits"), limit.to_string(), &why);
            }
        }
    }
}

/// The most that the containers request at one time, init containers and sidecars counted.
fn container_requests(spec: &At) -> BTreeMap<String, Quantity> {
    let mut total: BTreeMap<String, Quantity> = BTreeMap::new();
    let requests = |c: &At| -> Vec<(String, Quantity)> {
        let r = c.get("resources");
        let r = r.get("requests");
        r.entries().filter_map(|(k, v)| Some((k.to_owned(), quantity(v.v)?))).collect()
    };
    for c in spec.get("containers").iter() {
        for (name, q) in requests(&c) {
            let t = total.entry(name).or_default();
            *t += q;
        }
    }
    let mut sidecars: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut peak: BTreeMap<String, Quantity> = BTreeMap::new();
    for c in spec.get("initContainers").iter() {
        let sidecar = c.s("restartPolicy") == "Always";
        for (name, q) in requests(&c) {
            let before = sidecars.get(&name).cloned().unwrap_or_default();
            let now = before + q;
            if sidecar {
                sidecars.insert(name.clone(), now);
                let t = total.entry(name.clone()).or_default();
                *t += q;
            }
            let p = peak.entry(name).or_default();
            if now > *p {
                *p = now;
            }
        }
    }
    for (name, p) in peak {
        let t = total.entry(name).or_default();
        if p > *t {
            *t = p;
        }
    }
    total
}
