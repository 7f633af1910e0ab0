//! A container's environment: envFrom, env with its sources, service variables. Pure: the objects it needs are handed in.

use std::collections::{BTreeMap, HashMap};

use crate::containers::expand::expand;
use crate::containers::fields::{self, NodeFacts};
use crate::pod::{Container, Pod};

/// ConfigMaps and Secrets by name; `None`: looked up and not there.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    pub config_maps: HashMap<String, Option<BTreeMap<String, String>>>,
    pub secrets: HashMap<String, Option<BTreeMap<String, Vec<u8>>>>,
}

/// A Service as far as its variables go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceVars {
    pub name: String,
    pub cluster_ip: String,
    /// name, protocol, port
    pub ports: Vec<(String, String, i32)>,
}

/// Names of config maps and secrets that the environment of this container needs.
pub fn wanted(c: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for f in &c.env_from {
        maps.extend(f.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(f.secret_ref.iter().map(|r| r.name.clone()));
    }
    for s in c.env.iter().filter_map(|e| e.value_from.as_ref()) {
        maps.extend(s.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(s.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    maps.sort();
    maps.dedup();
    secrets.sort();
    secrets.dedup();
    (maps, secrets)
}

/// The variables a Service gives: upstream's and the old link style.
pub fn service_vars(services: &[ServiceVars]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for s in services {
        let Some(first) = s.ports.first() else { continue };
        let prefix = env_name(&s.name);
        let join = |ip: &str, port: i32| {
            if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
        };
        out.insert(format!("{prefix}_SERVICE_HOST"), s.cluster_ip.clone());
        out.insert(format!("{prefix}_SERVICE_PORT"), first.2.to_string());
        for (name, _, port) in s.ports.iter().filter(|p| !p.0.is_empty()) {
            out.insert(format!("{prefix}_SERVICE_PORT_{}", env_name(name)), port.to_string());
        }
        for (i, (_, proto, port)) in s.ports.iter().enumerate() {
            let proto = if proto.is_empty() { "TCP" } else { proto };
            let url = format!("{}://{}", proto.to_lowercase(), join(&s.cluster_ip, *port));
            if i == 0 {
                out.insert(format!("{prefix}_PORT"), url.clone());
            }
            let p = format!("{prefix}_PORT_{port}_{}", proto.to_uppercase());
            out.insert(format!("{p}_PROTO"), proto.to_lowercase());
            out.insert(format!("{p}_PORT"), port.to_string());
            out.insert(format!("{p}_ADDR"), s.cluster_ip.clone());
            out.insert(p, url);
        }
    }
    out
}

fn env_name(s: &str) -> String {
    s.replace('-', "_").to_uppercase()
}

/// The whole environment, or why it can't be made (`CreateContainerConfigError`).
pub fn build(
    pod: &Pod,
    c: &Container,
    pod_ips: &[String],
    node: &NodeFacts,
    sources: &Sources,
    services: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let ns = &pod.metadata.namespace;
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for from in &c.env_from {
        if let Some(r) = &from.config_map_ref {
            match sources.config_maps.get(&r.name).and_then(Option::as_ref) {
                Some(data) => {
                    env.extend(data.iter().map(|(k, v)| (format!("{}{k}", from.prefix), v.clone())))
                }
                None if r.optional == Some(true) => {}
                None => return Err(format!("configmap \"{}\" not found", r.name)),
            }
        }
        if let Some(r) = &from.secret_ref {
            match sources.secrets.get(&r.name).and_then(Option::as_ref) {
                Some(data) => {
                    env.extend(data.iter().map(|(k, v)| {
                        (format!("{}{k}", from.prefix), String::from_utf8_lossy(v).into_owned())
                    }))
                }
                None if r.optional == Some(true) => {}
                None => return Err(format!("secret \"{}\" not found", r.name)),
            }
        }
    }
    for var in &c.env {
        let value = match (&var.value_from, var.value.is_empty()) {
            (Some(s), true) => {
                let found = if let Some(f) = &s.field_ref {
                    let v = fields::field(pod, &f.field_path, pod_ips, node);
                    Some(v.ok_or_else(|| format!("unsupported fieldPath: {}", f.field_path))?)
                } else if let Some(r) = &s.resource_field_ref {
                    Some(fields::resource(pod, c, r, node)?)
                } else if let Some(r) = &s.config_map_key_ref {
                    let map = sources.config_maps.get(&r.name).and_then(Option::as_ref);
                    match (map, map.and_then(|m| m.get(&r.key)), r.optional == Some(true)) {
                        (_, Some(v), _) => Some(v.clone()),
                        (_, None, true) => None,
                        (None, None, false) => return Err(format!("configmap \"{}\" not found", r.name)),
                        (Some(_), None, false) => {
                            return Err(format!("couldn't find key {} in ConfigMap {ns}/{}", r.key, r.name));
                        }
                    }
                } else if let Some(r) = &s.secret_key_ref {
                    let map = sources.secrets.get(&r.name).and_then(Option::as_ref);
                    match (map, map.and_then(|m| m.get(&r.key)), r.optional == Some(true)) {
                        (_, Some(v), _) => Some(String::from_utf8_lossy(v).into_owned()),
                        (_, None, true) => None,
                        (None, None, false) => return Err(format!("secret \"{}\" not found", r.name)),
                        (Some(_), None, false) => {
                            return Err(format!("couldn't find key {} in Secret {ns}/{}", r.key, r.name));
                        }
                    }
                } else {
                    Some(String::new())
                };
                match found {
                    Some(v) => v,
                    None => continue,
                }
            }
            _ => expand(&var.value, &|n| env.get(n).or_else(|| services.get(n)).cloned()),
        };
        env.insert(var.name.clone(), value);
    }
    for (k, v) in services {
        env.entry(k.clone()).or_insert_with(|| v.clone());
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn container(v: Value) -> (Pod, Container) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [v]}
        }))
        .expect("pod");
        let c = pod.spec.containers[0].clone();
        (pod, c)
    }

    fn sources() -> Sources {
        Sources {
            config_maps: [
                ("cm".to_owned(), Some([("k".to_owned(), "v".to_owned())].into())),
                ("gone".to_owned(), None),
            ]
            .into(),
            secrets: [("s".to_owned(), Some([("pw".to_owned(), b"geheim".to_vec())].into()))].into(),
        }
    }

    #[test]
    fn env_overrides_env_from_and_expands() {
        let (pod, c) = container(json!({"name": "c",
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(P_k)-$(DB_SERVICE_HOST)-$(Z)"},
                {"name": "pw", "value": "over"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "x", "optional": true}}}]}));
        let svc = service_vars(&[ServiceVars {
            name: "db".into(),
            cluster_ip: "10.96.0.7".into(),
            ports: vec![("sql".into(), "TCP".into(), 5432)],
        }]);
        let env = build(&pod, &c, &[], &NodeFacts::default(), &sources(), &svc).expect("env");
        assert_eq!(env["B"], "1-v-10.96.0.7-$(Z)");
        assert_eq!(env["pw"], "over");
        assert_eq!(env["N"], "p");
        assert_eq!(env["DB_PORT_5432_TCP"], "tcp://10.96.0.7:5432");
        assert_eq!(env["DB_SERVICE_PORT_SQL"], "5432");
        assert!(!env.contains_key("O"));
    }

    #[test]
    fn missing_sources_are_named() {
        for (v, want) in [
            (json!({"configMapKeyRef": {"name": "gone", "key": "x"}}), "configmap \"gone\" not found"),
            (json!({"configMapKeyRef": {"name": "cm", "key": "x"}}), "couldn't find key x in ConfigMap n/cm"),
            (json!({"secretKeyRef": {"name": "zz", "key": "x"}}), "secret \"zz\" not found"),
        ] {
            let (pod, c) = container(json!({"name": "c", "env": [{"name": "A", "valueFrom": v}]}));
            let got = build(&pod, &c, &[], &NodeFacts::default(), &sources(), &BTreeMap::new());
            assert_eq!(got.expect_err("must fail"), want);
        }
    }
}
