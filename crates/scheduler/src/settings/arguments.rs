//! `pluginConfig`: arguments of plugins, into a profile.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::core::{FitStrategy, NodeTerm, Profile, SpreadDefaults, SpreadView};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FitArgs {
    ignored_resources: Vec<String>,
    ignored_resource_groups: Vec<String>,
    scoring_strategy: Option<Scoring>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Scoring {
    r#type: String,
    #[serde(default)]
    resources: Vec<Weighted>,
    requested_to_capacity_ratio: Option<Ratio>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weighted {
    name: String,
    #[serde(default)]
    weight: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ratio {
    shape: Vec<Point>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    utilization: i64,
    score: i64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct BalancedArgs {
    resources: Vec<Weighted>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct InterPodArgs {
    hard_pod_affinity_weight: Option<i64>,
    ignore_preferred_terms_of_existing_pods: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct NodeAffinityArgs {
    added_affinity: Option<Added>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Added {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<Terms>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    preferred: Vec<Preferred>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Terms {
    node_selector_terms: Vec<NodeTerm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Preferred {
    weight: i64,
    preference: NodeTerm,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct SpreadArgs {
    default_constraints: Vec<SpreadView>,
    defaulting_type: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PreemptionArgs {
    min_candidate_nodes_percentage: Option<i64>,
    min_candidate_nodes_absolute: Option<i64>,
}

/// What every kind of arguments may have: which kind they are, the plugin's name says as well.
#[derive(Deserialize, Default)]
#[serde(default)]
struct TypeMeta {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
}

fn read<T: DeserializeOwned + Default>(mut args: Value) -> Result<T, String> {
    if args.is_null() {
        return Ok(T::default());
    }
    TypeMeta::deserialize(&args).map_err(|e| format!(".args: {e}"))?;
    if let Some(fields) = args.as_object_mut() {
        ["apiVersion", "kind"].iter().for_each(|f| drop(fields.remove(*f)));
    }
    serde_json::from_value(args).map_err(|e| format!(".args: {e}"))
}

/// From `low` to `high`.
fn within(path: &str, v: i64, low: i64, high: i64) -> Result<i64, String> {
    match (low..=high).contains(&v) {
        true => Ok(v),
        false => Err(format!(".args.{path}: {v} is not between {low} and {high}")),
    }
}

pub fn apply(p: &mut Profile, plugin: &str, args: Value) -> Result<(), String> {
    match plugin {
        "NodeResourcesFit" => fit(p, read(args)?),
        "NodeResourcesBalancedAllocation" => {
            let a: BalancedArgs = read(args)?;
            if a.resources.iter().any(|r| r.weight > 1) {
                return Err(".args.resources: weights other than 1 are not supported".into());
            }
            if !a.resources.is_empty() {
                p.balanced_resources = a.resources.into_iter().map(|r| r.name).collect();
            }
            Ok(())
        }
        "InterPodAffinity" => {
            let a: InterPodArgs = read(args)?;
            if let Some(w) = a.hard_pod_affinity_weight {
                p.hard_affinity_weight = within("hardPodAffinityWeight", w, 0, 100)?;
            }
            p.ignore_preferred_of_existing = a.ignore_preferred_terms_of_existing_pods;
            Ok(())
        }
        "NodeAffinity" => {
            let a: NodeAffinityArgs = read(args)?;
            if let Some(added) = a.added_affinity {
                p.added_required = added.required.map(|r| r.node_selector_terms);
                p.added_preferred = added.preferred.into_iter().map(|x| (x.weight, x.preference)).collect();
            }
            Ok(())
        }
        "PodTopologySpread" => spread(p, read(args)?),
        "DefaultPreemption" => {
            let a: PreemptionArgs = read(args)?;
            let percent = a.min_candidate_nodes_percentage.unwrap_or(10);
            let least = a.min_candidate_nodes_absolute.unwrap_or(100);
            within("minCandidateNodesPercentage", percent, 0, 100)?;
            within("minCandidateNodesAbsolute", least, 0, i64::from(i32::MAX))?;
            if percent == 0 && least == 0 {
                return Err(
                    ".args: both minCandidateNodes are zero, so that no node would be looked at".into()
                );
            }
            p.candidates_percent = usize::try_from(percent).unwrap_or(10);
            p.candidates_least = usize::try_from(least).unwrap_or(100);
            Ok(())
        }
        "VolumeBinding" | "DynamicResources" | "NodeVolumeLimits" => Ok(()),
        other => Err(format!(": {other} takes no arguments")),
    }
}

fn fit(p: &mut Profile, a: FitArgs) -> Result<(), String> {
    p.ignored_resources = a.ignored_resources.into_iter().collect();
    p.ignored_groups = a.ignored_resource_groups.into_iter().collect();
    if let Some(group) = p.ignored_groups.iter().find(|g| g.contains('/')) {
        return Err(format!(".args.ignoredResourceGroups: {group} is a resource, not a group"));
    }
    let Some(s) = a.scoring_strategy else { return Ok(()) };
    let path = "scoringStrategy";
    p.strategy = match (s.r#type.as_str(), s.requested_to_capacity_ratio) {
        ("LeastAllocated", _) => FitStrategy::LeastAllocated,
        ("MostAllocated", _) => FitStrategy::MostAllocated,
        ("RequestedToCapacityRatio", Some(r)) => {
            let mut points: Vec<(i64, i64)> = Vec::new();
            for (i, x) in r.shape.iter().enumerate() {
                let at = format!("{path}.requestedToCapacityRatio.shape[{i}]");
                within(&format!("{at}.utilization"), x.utilization, 0, 100)?;
                within(&format!("{at}.score"), x.score, 0, 10)?;
                if points.last().is_some_and(|(u, _)| *u >= x.utilization) {
                    return Err(format!(".args.{at}.utilization: the points are not in ascending order"));
                }
                points.push((x.utilization, x.score * 10));
            }
            if points.is_empty() {
                return Err(format!(
                    ".args.{path}.requestedToCapacityRatio.shape: at least one point is needed"
                ));
            }
            FitStrategy::RequestedToCapacityRatio(points)
        }
        ("RequestedToCapacityRatio", None) => {
            return Err(format!(".args.{path}.requestedToCapacityRatio: is missing"));
        }
        (other, _) => return Err(format!(".args.{path}.type: {other:?} is not a strategy")),
    };
    if !s.resources.is_empty() {
        p.fit_resources.clear();
        for r in s.resources {
            let weight =
                if r.weight == 0 { 1 } else { within(&format!("{path}.resources"), r.weight, 1, 100)? };
            p.fit_resources.push((r.name, weight));
        }
    }
    Ok(())
}

fn spread(p: &mut Profile, a: SpreadArgs) -> Result<(), String> {
    p.spread = match a.defaulting_type.as_str() {
        "" | "System" if a.default_constraints.is_empty() => SpreadDefaults::System,
        "System" => {
            return Err(".args.defaultConstraints: must be empty when defaultingType is System".into());
        }
        "List" | "" => {
            let none = std::collections::BTreeMap::new();
            let mut list = Vec::new();
            for (i, c) in a.default_constraints.into_iter().enumerate() {
                let c = c.into_spread(&none);
                let at = format!(".args.defaultConstraints[{i}]");
                if c.selector.is_some() {
                    return Err(format!(
                        "{at}.labelSelector: must be empty: the pod's services and owner decide"
                    ));
                }
                if c.max_skew < 1 || c.topology_key.is_empty() {
                    return Err(format!("{at}: needs a topologyKey and a maxSkew above zero"));
                }
                list.push(c);
            }
            SpreadDefaults::List(list)
        }
        other => return Err(format!(".args.defaultingType: {other:?} is not System or List")),
    };
    Ok(())
}
