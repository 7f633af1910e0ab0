//! KubeSchedulerConfiguration (`kubescheduler.config.k8s.io/v1`) as profiles of the core and settings of the queue. A key
//! that is not known is an error, as upstream's strict decoding has it; what concerns upstream's process alone (client
//! connection, leader election, parallelism, sampling of nodes) is accepted and does nothing: every node is looked at.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::core::{Profile, Profiles};
use crate::extender::{self, Extender};
use crate::plugins::FILTERS;

mod arguments;

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
/// Of upstream's process alone, or of no effect here.
const WITHOUT_EFFECT: [&str; 7] = [
    "parallelism",
    "percentageOfNodesToScore",
    "leaderElection",
    "clientConnection",
    "enableProfiling",
    "enableContentionProfiling",
    "delayCacheUntilActive",
];

/// What a scheduler runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    pub profiles: Profiles,
    pub first_backoff: Duration,
    pub max_backoff: Duration,
    pub extenders: Vec<Extender>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            profiles: Profiles::default(),
            first_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            extenders: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    profiles: Vec<ProfileFile>,
    #[serde(default)]
    extenders: Vec<extender::File>,
    pod_initial_backoff_seconds: Option<u64>,
    pod_max_backoff_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileFile {
    #[serde(default)]
    scheduler_name: String,
    #[serde(default)]
    plugins: Plugins,
    #[serde(default)]
    plugin_config: Vec<PluginConfig>,
    /// Accepted: every node is looked at.
    #[serde(default, rename = "percentageOfNodesToScore")]
    _sampled: Value,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Plugins {
    multi_point: Set,
    pre_enqueue: Set,
    queue_sort: Set,
    pre_filter: Set,
    filter: Set,
    post_filter: Set,
    pre_score: Set,
    score: Set,
    reserve: Set,
    permit: Set,
    pre_bind: Set,
    bind: Set,
    post_bind: Set,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Set {
    enabled: Vec<Named>,
    disabled: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    #[serde(default)]
    weight: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    name: String,
    #[serde(default)]
    args: Value,
}

/// Plugins with a weight here; the other ones that are known.
const SCORES: [&str; 7] = [
    "TaintToleration",
    "NodeAffinity",
    "NodeResourcesFit",
    "NodeResourcesBalancedAllocation",
    "InterPodAffinity",
    "ImageLocality",
    "PodTopologySpread",
];
const OTHERS: [&str; 6] = [
    "SchedulingGates",
    "PrioritySort",
    "DefaultPreemption",
    "DefaultBinder",
    "DynamicResources",
    "GangScheduling",
];

fn known(name: &str) -> bool {
    FILTERS.contains(&name) || SCORES.contains(&name) || OTHERS.contains(&name)
}

impl Settings {
    /// From the file's content, JSON or what YAML was turned into. Errors say at which path.
    pub fn parse(mut v: Value) -> Result<Self, String> {
        if let Some(fields) = v.as_object_mut() {
            WITHOUT_EFFECT.iter().for_each(|f| drop(fields.remove(*f)));
        }
        let file: File = serde_json::from_value(v).map_err(|e| e.to_string())?;
        if file.api_version != API_VERSION || file.kind != "KubeSchedulerConfiguration" {
            return Err(format!(
                "apiVersion {} and kind {} are not {API_VERSION} and KubeSchedulerConfiguration",
                file.api_version, file.kind
            ));
        }
        let mut profiles = Vec::new();
        if file.profiles.is_empty() {
            profiles.push(Profile::default());
        }
        for (i, p) in file.profiles.into_iter().enumerate() {
            profiles.push(profile(p).map_err(|e| format!("profiles[{i}]{e}"))?);
        }
        let names: BTreeSet<&str> = profiles.iter().map(|p| p.name.as_str()).collect();
        if names.len() < profiles.len() {
            return Err("profiles: two of them have the same schedulerName".into());
        }
        let first = file.pod_initial_backoff_seconds.unwrap_or(1);
        let max = file.pod_max_backoff_seconds.unwrap_or(10);
        if first == 0 || max < first {
            return Err(
                "podInitialBackoffSeconds: must be above zero and no more than podMaxBackoffSeconds".into()
            );
        }
        let mut extenders: Vec<Extender> = Vec::new();
        for (i, e) in file.extenders.into_iter().enumerate() {
            let at = |e: String| format!("extenders[{i}]{e}");
            for p in &mut profiles {
                p.ignored_resources.extend(extender::left_alone(&e));
            }
            let e = Extender::new(e).map_err(at)?;
            if let Some(twice) =
                e.managed().iter().find(|m| extenders.iter().any(|o| o.managed().contains(m)))
            {
                return Err(at(format!(".managedResources: {twice} is another extender's already")));
            }
            extenders.push(e);
        }
        if extenders.iter().filter(|e| e.binds()).count() > 1 {
            return Err("extenders: only one can have a bindVerb".into());
        }
        Ok(Self {
            profiles: Profiles::new(profiles),
            first_backoff: Duration::from_secs(first),
            max_backoff: Duration::from_secs(max),
            extenders,
        })
    }
}

fn profile(file: ProfileFile) -> Result<Profile, String> {
    let mut p = Profile::default();
    if !file.scheduler_name.is_empty() {
        p.name = file.scheduler_name;
    }
    let plugins = file.plugins;
    let sets = [
        ("multiPoint", &plugins.multi_point),
        ("preEnqueue", &plugins.pre_enqueue),
        ("queueSort", &plugins.queue_sort),
        ("preFilter", &plugins.pre_filter),
        ("filter", &plugins.filter),
        ("postFilter", &plugins.post_filter),
        ("preScore", &plugins.pre_score),
        ("score", &plugins.score),
        ("reserve", &plugins.reserve),
        ("permit", &plugins.permit),
        ("preBind", &plugins.pre_bind),
        ("bind", &plugins.bind),
        ("postBind", &plugins.post_bind),
    ];
    for (point, set) in sets {
        for n in set.enabled.iter().chain(&set.disabled) {
            let every = n.name == "*" && set.disabled.iter().any(|d| d.name == "*");
            if !every && !known(&n.name) {
                return Err(format!(".plugins.{point}: plugin {:?} does not exist", n.name));
            }
        }
        apply(&mut p, point, set)?;
    }
    let mut seen = BTreeSet::new();
    for c in file.plugin_config {
        if !seen.insert(c.name.clone()) {
            return Err(format!(".pluginConfig: {:?} is there twice", c.name));
        }
        arguments::apply(&mut p, &c.name, c.args).map_err(|e| format!(".pluginConfig[{}]{e}", c.name))?;
    }
    Ok(p)
}

/// What one extension point switches off and on.
fn apply(p: &mut Profile, point: &str, set: &Set) -> Result<(), String> {
    let (filters, scores) =
        (matches!(point, "multiPoint" | "filter"), matches!(point, "multiPoint" | "score"));
    for d in &set.disabled {
        let this = |name: &str| d.name == "*" || d.name == name;
        if filters {
            p.without.extend(FILTERS.iter().filter(|f| this(f)).map(|f| (*f).to_owned()));
        }
        if scores {
            SCORES.iter().filter(|s| this(s)).for_each(|s| *weight(p, s) = 0);
        }
        if matches!(point, "multiPoint" | "postFilter") && this("DefaultPreemption") {
            p.preempts = false;
        }
        // Enabled again in the same place, they stay.
        for needed in ["DefaultBinder", "PrioritySort"] {
            let here = matches!((point, needed), ("multiPoint", _) | ("bind", "DefaultBinder"))
                || (point == "queueSort" && needed == "PrioritySort");
            if here && this(needed) && !set.enabled.iter().any(|e| e.name == needed) {
                return Err(format!(
                    ".plugins.{point}: {needed} can't be switched off: nothing could take its place"
                ));
            }
        }
    }
    let mut default = Profile::default();
    for e in &set.enabled {
        if filters {
            p.without.remove(&e.name);
        }
        if scores && SCORES.contains(&e.name.as_str()) {
            let w = e.weight.unwrap_or(0);
            if !(0..=i64::from(i32::MAX)).contains(&w) {
                return Err(format!(".plugins.{point}: the weight {w} of {} is out of range", e.name));
            }
            *weight(p, &e.name) = if w > 0 { w } else { *weight(&mut default, &e.name) };
        }
        if matches!(point, "multiPoint" | "postFilter") && e.name == "DefaultPreemption" {
            p.preempts = true;
        }
    }
    Ok(())
}

/// The weight of a plugin that scores.
fn weight<'a>(p: &'a mut Profile, plugin: &str) -> &'a mut i64 {
    let w = &mut p.weights;
    match plugin {
        "TaintToleration" => &mut w.taint_toleration,
        "NodeAffinity" => &mut w.node_affinity,
        "NodeResourcesFit" => &mut w.fit,
        "NodeResourcesBalancedAllocation" => &mut w.balanced,
        "InterPodAffinity" => &mut w.inter_pod_affinity,
        "ImageLocality" => &mut w.image_locality,
        _ => &mut w.spread,
    }
}

#[cfg(test)]
mod tests;
