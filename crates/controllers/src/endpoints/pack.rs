//! How endpoints are spread over slices, pure: the fewest writes. What is right stays where it is, changed slices are
//! filled up first, then one that has room, and only then new ones are made.

use std::collections::BTreeMap;

use api::Object;
use api::object::DecodeError;
use serde::Deserialize;
use serde_json::Value;

use super::plan::Group;

/// Endpoints a slice, as upstream.
pub const MAX: usize = 100;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slice {
    pub ports: Vec<Value>,
    pub endpoints: Vec<Value>,
}

/// A slice that exists.
#[derive(Debug, Clone)]
pub struct Have {
    pub object: Object,
    pub family: String,
    pub slice: Slice,
    /// Labels are as they should be.
    pub labelled: bool,
    /// Belongs to the present service, not to one that had its name before.
    pub owned: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct View {
    #[serde(default)]
    address_type: String,
    #[serde(default)]
    endpoints: Option<Vec<Value>>,
    #[serde(default)]
    ports: Option<Vec<Value>>,
}

impl Have {
    pub fn of(object: &Object, labels: &BTreeMap<String, String>, owner: &str) -> Result<Self, DecodeError> {
        let v: View = object.view()?;
        let mut endpoints = v.endpoints.unwrap_or_default();
        endpoints.iter_mut().for_each(normalise);
        Ok(Self {
            family: v.address_type,
            slice: Slice { ports: v.ports.unwrap_or_default(), endpoints },
            labelled: object.meta().labels == *labels,
            owned: object.meta().owner_references().iter().any(|o| o.uid == owner),
            object: object.clone(),
        })
    }
}

/// Conditions that the API leaves out when false are compared as false.
fn normalise(e: &mut Value) {
    if let Some(c) = e.get_mut("conditions").and_then(Value::as_object_mut) {
        for name in ["ready", "serving", "terminating"] {
            c.entry(name).or_insert(Value::Bool(false));
        }
    }
}

#[derive(Debug, Default)]
pub struct Steps {
    pub create: Vec<Slice>,
    pub update: Vec<(Object, Slice)>,
    pub delete: Vec<Object>,
}

/// What an endpoint is, whatever its state.
fn identity(e: &Value) -> String {
    let t = &e["targetRef"];
    format!("{}|{}|{}|{}/{}", e["addresses"], e["nodeName"], e["hostname"], t["namespace"], t["name"])
}

/// The steps for the slices of one family. A family without endpoints keeps one empty slice, so that a service without
/// pods is known to have none.
pub fn pack(have: Vec<Have>, groups: Vec<Group>, max: usize) -> Steps {
    let count = have.len();
    let mut steps = Steps::default();
    let mut foreign = Vec::new();
    let mut by_ports: BTreeMap<String, Vec<Have>> = BTreeMap::new();
    for h in have {
        if h.owned {
            by_ports.entry(Value::from(h.slice.ports.clone()).to_string()).or_default().push(h);
        } else {
            foreign.push(h.object);
        }
    }
    for group in groups {
        let present = by_ports.remove(&Value::from(group.ports.clone()).to_string()).unwrap_or_default();
        pack_group(present, group, max, &mut steps);
    }
    let mut empty: Option<Have> = None;
    for h in by_ports.into_values().flatten() {
        if empty.is_none() && h.labelled && h.slice == Slice::default() {
            empty = Some(h);
        } else {
            steps.delete.push(h.object);
        }
    }
    let none_left =
        steps.delete.len() + foreign.len() + usize::from(empty.is_some()) == count && steps.create.is_empty();
    match empty {
        Some(_) if none_left => {}
        Some(h) => steps.delete.push(h.object),
        None if none_left => steps.create.push(Slice::default()),
        None => {}
    }
    // What would be deleted beside something new becomes that.
    while !steps.create.is_empty() && !steps.delete.is_empty() {
        let (Some(slice), Some(object)) = (steps.create.pop(), steps.delete.pop()) else { break };
        steps.update.push((object, slice));
    }
    steps.delete.extend(foreign);
    steps
}

fn pack_group(present: Vec<Have>, group: Group, max: usize, steps: &mut Steps) {
    let mut rest: BTreeMap<String, Value> = group.endpoints.into_iter().map(|e| (identity(&e), e)).collect();
    let (mut changed, mut same): (Vec<(Object, Vec<Value>)>, Vec<(Object, Vec<Value>)>) = Default::default();
    for h in present {
        let before = h.slice.endpoints;
        let kept: Vec<Value> = before.iter().filter_map(|e| rest.remove(&identity(e))).collect();
        if kept == before && h.labelled {
            same.push((h.object, kept));
        } else if kept.is_empty() {
            steps.delete.push(h.object);
        } else {
            changed.push((h.object, kept));
        }
    }
    changed.sort_by_key(|(_, e)| std::cmp::Reverse(e.len()));
    for (_, endpoints) in &mut changed {
        fill(endpoints, &mut rest, max);
    }
    while !rest.is_empty() {
        // The fullest slice that takes all that is left.
        let room = (0..same.len())
            .filter(|i| same.get(*i).is_some_and(|(_, e)| e.len() + rest.len() <= max))
            .max_by_key(|i| same.get(*i).map_or(0, |(_, e)| e.len()));
        match room {
            Some(i) => {
                let (object, mut endpoints) = same.remove(i);
                fill(&mut endpoints, &mut rest, max);
                changed.push((object, endpoints));
            }
            None => {
                let mut endpoints = Vec::new();
                fill(&mut endpoints, &mut rest, max.max(1));
                steps.create.push(Slice { ports: group.ports.clone(), endpoints });
            }
        }
    }
    let ports = group.ports;
    steps
        .update
        .extend(changed.into_iter().map(|(o, endpoints)| (o, Slice { ports: ports.clone(), endpoints })));
}

fn fill(endpoints: &mut Vec<Value>, rest: &mut BTreeMap<String, Value>, max: usize) {
    while endpoints.len() < max {
        let Some((_, e)) = rest.pop_first() else { break };
        endpoints.push(e);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoint(i: usize, ready: bool) -> Value {
        json!({"addresses": [format!("10.0.{}.{}", i / 250, i % 250)],
            "conditions": {"ready": ready, "serving": ready, "terminating": false}, "targetRef": {"name": format!("p{i:04}")}})
    }

    fn group(port: i64, range: std::ops::Range<usize>) -> Group {
        Group { ports: vec![json!({"port": port})], endpoints: range.map(|i| endpoint(i, true)).collect() }
    }

    fn have(name: &str, slice: Slice) -> Have {
        let object = Object::from_value(json!({"metadata": {"name": name}}), 1).expect("object");
        Have { object, family: "IPv4".into(), slice, labelled: true, owned: true }
    }

    fn sizes(steps: &Steps) -> (Vec<usize>, Vec<usize>, usize) {
        (
            steps.create.iter().map(|s| s.endpoints.len()).collect(),
            steps.update.iter().map(|(_, s)| s.endpoints.len()).collect(),
            steps.delete.len(),
        )
    }

    fn slices(port: i64, range: std::ops::Range<usize>) -> Vec<Have> {
        let steps = pack(vec![], vec![group(port, range)], MAX);
        steps.create.into_iter().enumerate().map(|(i, s)| have(&format!("s{i}"), s)).collect()
    }

    #[test]
    fn new_endpoints_are_cut_into_slices_and_right_ones_stay() {
        let all = slices(80, 0..250);
        assert_eq!(all.iter().map(|h| h.slice.endpoints.len()).collect::<Vec<_>>(), [100, 100, 50]);
        assert_eq!(sizes(&pack(all, vec![group(80, 0..250)], MAX)), (vec![], vec![], 0));
    }

    #[test]
    fn one_more_goes_where_there_is_room_and_one_less_changes_one_slice() {
        assert_eq!(sizes(&pack(slices(80, 0..250), vec![group(80, 0..251)], MAX)), (vec![], vec![51], 0));
        assert_eq!(sizes(&pack(slices(80, 0..250), vec![group(80, 1..250)], MAX)), (vec![], vec![99], 0));
        // One leaves a full slice and another comes: the changed slice takes it.
        assert_eq!(sizes(&pack(slices(80, 0..250), vec![group(80, 1..251)], MAX)), (vec![], vec![100], 0));
        assert_eq!(sizes(&pack(slices(80, 0..100), vec![group(80, 0..101)], MAX)), (vec![1], vec![], 0));
        let mut g = group(80, 0..250);
        g.endpoints[3] = endpoint(3, false);
        assert_eq!(sizes(&pack(slices(80, 0..250), vec![g], MAX)), (vec![], vec![100], 0));
    }

    #[test]
    fn an_empty_slice_stands_for_none_and_is_used_again() {
        let none = pack(vec![], vec![], MAX);
        assert_eq!(none.create, [Slice::default()]);
        assert_eq!(sizes(&pack(vec![have("e", Slice::default())], vec![], MAX)), (vec![], vec![], 0));
        let first = pack(vec![have("e", Slice::default())], vec![group(80, 0..1)], MAX);
        assert_eq!((sizes(&first), first.update[0].0.name()), ((vec![], vec![1], 0), "e"));
        assert_eq!(sizes(&pack(slices(80, 0..150), vec![], MAX)), (vec![], vec![0], 1));
        // Other ports: the slice of the old ones becomes that of the new ones.
        assert_eq!(sizes(&pack(slices(80, 0..1), vec![group(81, 0..1)], MAX)), (vec![], vec![1], 0));
        assert_eq!(
            sizes(&pack(slices(80, 0..3), vec![group(80, 0..2), group(81, 2..3)], MAX)),
            (vec![1], vec![2], 0)
        );
    }

    #[test]
    fn slices_of_a_former_service_go_and_wrong_labels_are_written() {
        let mut all = slices(80, 0..2);
        all[0].labelled = false;
        assert_eq!(sizes(&pack(all, vec![group(80, 0..2)], MAX)), (vec![], vec![2], 0));
        let mut all = slices(80, 0..2);
        all[0].owned = false;
        assert_eq!(sizes(&pack(all, vec![group(80, 0..2)], MAX)), (vec![2], vec![], 1));
        // Twice the same endpoint: one of them goes.
        let mut all = slices(80, 0..2);
        let mut twin = all[0].clone();
        twin.object = Object::from_value(json!({"metadata": {"name": "twin"}}), 1).expect("object");
        all.push(twin);
        let steps = pack(all, vec![group(80, 0..2)], MAX);
        assert_eq!((sizes(&steps), steps.delete[0].name()), ((vec![], vec![], 1), "twin"));
    }
}
