//! Groups with a kind or two: rbac, policy, certificates, coordination, scheduling, node, flow control and others.

use super::duration::human;
use super::row::{Row, condition, list, or, shown, text};
use serde_json::Value;

pub fn kind(group: &str, kind: &str) -> Option<super::Kind> {
    Some(match (group, kind) {
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            ("Name:n,Role,Age,Users:w,Groups:w,ServiceAccounts:w", role_binding)
        }
        ("policy", "PodDisruptionBudget") => {
            ("Name:n,Min Available,Max Unavailable,Allowed Disruptions:i,Age", |r| {
                r.name();
                for f in ["spec.minAvailable", "spec.maxUnavailable"] {
                    let s = shown(r.at(f));
                    r.text(or(&s, "N/A"));
                }
                r.number_at("status.disruptionsAllowed");
                r.age();
            })
        }
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            ("Name:n,Age,SignerName,Requestor,RequestedDuration,Condition", signing_request)
        }
        ("certificates.k8s.io", "ClusterTrustBundle") => ("Name:n,SignerName", |r| {
            r.name();
            r.text_at("spec.signerName", "<none>");
        }),
        ("certificates.k8s.io", "PodCertificateRequest") => {
            ("Name:n,PodName,ServiceAccountName,NodeName,SignerName,State", |r| {
                r.name();
                for f in ["podName", "serviceAccountName", "nodeName", "signerName"] {
                    r.text_at(&format!("spec.{f}"), "");
                }
                let conditions = r.at("status.conditions");
                let state =
                    ["Denied", "Failed", "Issued"].into_iter().find(|k| condition(conditions, k).is_some());
                r.text(state.unwrap_or("Pending"));
            })
        }
        ("metrics.k8s.io", "NodeMetrics" | "PodMetrics") => ("Name:n,cpu:q,memory:q,Window:t", metrics),
        ("apiregistration.k8s.io", "APIService") => ("Name:n,Service,Available,Age", |r| {
            r.name();
            let place = match r.at("spec.service").is_null() {
                true => "Local".to_owned(),
                false => {
                    format!("{}/{}", shown(r.at("spec.service.namespace")), shown(r.at("spec.service.name")))
                }
            };
            r.text(place);
            let available = condition(r.at("status.conditions"), "Available");
            let (status, reason) =
                available.map_or(("Unknown", ""), |c| (text(c, "status"), text(c, "reason")));
            let told = match status == "True" || reason.is_empty() {
                true => status.to_owned(),
                false => format!("{status} ({reason})"),
            };
            r.text(told);
            r.age();
        }),
        ("coordination.k8s.io", "Lease") => ("Name:n,Holder,Age", |r| {
            r.name();
            r.text_at("spec.holderIdentity", "");
            r.age();
        }),
        ("coordination.k8s.io", "LeaseCandidate") => {
            ("Name:n,LeaseName,BinaryVersion,EmulationVersion,Age", |r| {
                r.name();
                for f in ["leaseName", "binaryVersion", "emulationVersion"] {
                    r.text_at(&format!("spec.{f}"), "");
                }
                r.age();
            })
        }
        ("scheduling.k8s.io", "PriorityClass") => {
            ("Name:n,Value:i,Global-Default:b,Age,PreemptionPolicy", |r| {
                r.name();
                r.number_at("value");
                r.flag_at("globalDefault");
                r.age();
                r.text_at("preemptionPolicy", "");
            })
        }
        ("node.k8s.io", "RuntimeClass") => ("Name:n,Handler,Age", |r| {
            r.name();
            r.text_at("handler", "");
            r.age();
        }),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => {
            ("Name:n,PriorityLevel,MatchingPrecedence,DistinguisherMethod,Age,MissingPL", |r| {
                r.name();
                r.text_at("spec.priorityLevelConfiguration.name", "<none>");
                r.number_at("spec.matchingPrecedence");
                r.text_at("spec.distinguisherMethod.type", "<none>");
                r.age();
                let dangling =
                    condition(r.at("status.conditions"), "Dangling").map_or("?", |c| text(c, "status"));
                r.text(dangling);
            })
        }
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => {
            ("Name:n,Type,NominalConcurrencyShares,Queues,HandSize,QueueLengthLimit,Age", priority_level)
        }
        ("internal.apiserver.k8s.io", "StorageVersion") => {
            ("Name:n,CommonEncodingVersion,StorageVersions,Age", |r| {
                r.name();
                r.text_at("status.commonEncodingVersion", "<unset>");
                let all: Vec<String> = list(r.at("status.storageVersions"))
                    .iter()
                    .map(|v| format!("{}={}", text(v, "apiServerID"), text(v, "encodingVersion")))
                    .collect();
                let all = all.join(",");
                r.text(or(&all, "<unset>"));
                r.age();
            })
        }
        ("storagemigration.k8s.io", "StorageVersionMigration") => ("Name,Resource", |r| {
            r.name();
            let f = |f: &str| r.str(&format!("spec.resource.{f}")).to_owned();
            let all: Vec<String> =
                ["resource", "version", "group"].iter().map(|x| f(x)).filter(|s| !s.is_empty()).collect();
            r.text(all.join("."));
        }),
        _ => return None,
    })
}

/// What a node or all containers of a pod use.
fn metrics(r: &mut Row) {
    use crate::quantity::{Format, Quantity};
    r.name();
    let containers = list(r.at("containers"));
    let all: Vec<&Value> = match r.at("usage") {
        Value::Null => containers.iter().map(|c| &c["usage"]).collect(),
        usage => vec![usage],
    };
    let of = |name: &str| all.iter().filter_map(|u| Quantity::parse(text(u, name)).ok()).collect::<Vec<_>>();
    let nanos = of("cpu").iter().fold(0i64, |sum, q| sum.saturating_add(q.scaled(-9)));
    let bytes = of("memory").iter().fold(0i64, |sum, q| sum.saturating_add(q.value()));
    r.text(crate::quantity::canonical(&format!("{nanos}n")).unwrap_or_default());
    r.text(Quantity::from_i64(bytes, Format::BinarySI).to_string());
    r.text_at("window", "");
}

fn role_binding(r: &mut Row) {
    r.name();
    r.text(format!("{}/{}", r.str("roleRef.kind"), r.str("roleRef.name")));
    r.age();
    let subjects = list(r.at("subjects"));
    let of = |kind: &str| subjects.iter().filter(|s| text(s, "kind") == kind).collect::<Vec<_>>();
    for kind in ["User", "Group"] {
        let all: Vec<&str> = of(kind).into_iter().map(|s| text(s, "name")).collect();
        r.text(all.join(", "));
    }
    let accounts: Vec<String> = of("ServiceAccount")
        .into_iter()
        .map(|s| format!("{}/{}", text(s, "namespace"), text(s, "name")))
        .collect();
    r.text(accounts.join(", "));
}

fn signing_request(r: &mut Row) {
    r.name();
    r.age();
    r.text_at("spec.signerName", "<none>");
    r.text_at("spec.username", "");
    let duration = r.at("spec.expirationSeconds").as_i64().map_or_else(|| "<none>".into(), human);
    r.text(duration);
    let has = |kind: &str| condition(r.at("status.conditions"), kind).is_some();
    let mut state = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !r.str("status.certificate").is_empty() {
        state.push_str(",Issued");
    }
    r.text(state);
}

fn priority_level(r: &mut Row) {
    r.name();
    r.text_at("spec.type", "");
    let limited = r.at("spec.limited");
    let shares =
        limited.get("nominalConcurrencyShares").or(r.at("spec.exempt").get("nominalConcurrencyShares"));
    let cell =
        |v: Option<&Value>| v.filter(|v| !v.is_null()).cloned().unwrap_or_else(|| Value::from("<none>"));
    let queuing = &limited["limitResponse"]["queuing"];
    let queued = text(&limited["limitResponse"], "type") == "Queue";
    r.cells.push(cell(shares));
    for f in ["queues", "handSize", "queueLengthLimit"] {
        r.cells.push(cell(queuing.get(f).filter(|_| queued)));
    }
    r.age();
}
