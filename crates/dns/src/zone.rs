//! Answers for the names of the cluster, pure over what a `Source` knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::{EndpointView, ServiceView, SliceView};

/// Seconds that an answer may be kept, as upstream's default.
const TTL: u32 = 30;
/// Steps of ExternalName that point at each other.
const MAX_CHAIN: usize = 8;

/// What the zone reads.
pub trait Source: Send + Sync + 'static {
    fn namespace(&self, name: &str) -> bool;
    fn service(&self, namespace: &str, name: &str) -> Option<ServiceView>;
    fn slices(&self, namespace: &str, service: &str) -> Vec<SliceView>;
    /// Namespace and name of the services with this cluster address.
    fn services_by_ip(&self, ip: IpAddr) -> Vec<(String, String)>;
    /// Namespace and service of the slices that hold this address.
    fn endpoints_by_ip(&self, ip: IpAddr) -> Vec<(String, String)>;
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Authoritative. No records and `NoError`: the name exists, the type does not.
    Own { code: ResponseCode, answers: Vec<Record>, additionals: Vec<Record>, soa: Option<Record> },
    /// A name of the zone that leads out of it: ask for the target and put these in front.
    Outside { answers: Vec<Record>, target: Name },
    /// Not our zone.
    Foreign,
}

pub struct Zone<S> {
    domain: Vec<String>,
    origin: Name,
    source: S,
}

fn labels(name: &Name) -> Vec<String> {
    name.iter().map(|l| String::from_utf8_lossy(l).to_ascii_lowercase()).collect()
}

fn dashed(ip: &str) -> String {
    ip.replace(['.', ':'], "-")
}

/// Reads `10-1-2-3` and `fd00--1` back.
fn undashed(s: &str) -> Option<IpAddr> {
    Ipv4Addr::from_str(&s.replace('-', "."))
        .map(IpAddr::V4)
        .ok()
        .or_else(|| Ipv6Addr::from_str(&s.replace('-', ":")).map(IpAddr::V6).ok())
}

/// The address behind `4.3.2.1.in-addr.arpa` or the nibbles of `ip6.arpa`.
fn reverse(l: &[String]) -> Option<IpAddr> {
    let l: Vec<&str> = l.iter().map(String::as_str).collect();
    match l.as_slice() {
        [d, c, b, a, "in-addr", "arpa"] => format!("{a}.{b}.{c}.{d}").parse().ok().map(IpAddr::V4),
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let mut v: u128 = 0;
            for n in nibbles.iter().rev() {
                v = (v << 4) | u128::from(u8::from_str_radix(n, 16).ok().filter(|_| n.len() == 1)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(v)))
        }
        _ => None,
    }
}

fn is_ready(e: &EndpointView) -> bool {
    e.conditions.ready.unwrap_or(true)
}

/// The first label under which an endpoint of a headless service stands.
fn host_label(e: &EndpointView) -> Option<String> {
    e.hostname.clone().filter(|h| !h.is_empty()).or_else(|| e.addresses.first().map(|a| dashed(a)))
}

fn address(name: &Name, ip: IpAddr, kind: RecordType) -> Option<Record> {
    let data = match (ip, kind) {
        (IpAddr::V4(a), RecordType::A | RecordType::ANY) => RData::A(a.into()),
        (IpAddr::V6(a), RecordType::AAAA | RecordType::ANY) => RData::AAAA(a.into()),
        _ => return None,
    };
    Some(Record::from_rdata(name.clone(), TTL, data))
}

impl<S: Source> Zone<S> {
    pub fn new(domain: &str, source: S) -> Self {
        let origin =
            Name::from_str(&format!("{}.", domain.trim_end_matches('.'))).unwrap_or_else(|_| Name::root());
        Self { domain: labels(&origin), origin, source }
    }

    fn name(&self, parts: &[&str]) -> Option<Name> {
        Name::from_str(&format!("{}.{}", parts.join("."), self.origin)).ok()
    }

    fn soa(&self) -> Option<Record> {
        let host = self.name(&["ns", "dns"])?;
        let mail = self.name(&["hostmaster"])?;
        Some(Record::from_rdata(
            self.origin.clone(),
            TTL,
            RData::SOA(SOA::new(host, mail, 1, 7200, 1800, 86400, 5)),
        ))
    }

    fn own(&self, code: ResponseCode, answers: Vec<Record>) -> Answer {
        let soa = if answers.is_empty() { self.soa() } else { None };
        Answer::Own { code, answers, additionals: Vec::new(), soa }
    }

    pub fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        let all = labels(name);
        if let Some(ip) = reverse(&all) {
            return self.pointer(name, ip, kind);
        }
        let Some(rest) = all.strip_suffix(self.domain.as_slice()) else { return Answer::Foreign };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        match rest.as_slice() {
            [] => {
                let soa = matches!(kind, RecordType::SOA | RecordType::ANY).then(|| self.soa()).flatten();
                self.own(ResponseCode::NoError, soa.into_iter().collect())
            }
            ["dns-version"] => {
                let txt = matches!(kind, RecordType::TXT | RecordType::ANY).then(|| {
                    Record::from_rdata(name.clone(), TTL, RData::TXT(TXT::new(vec!["1.1.0".into()])))
                });
                self.own(ResponseCode::NoError, txt.into_iter().collect())
            }
            ["svc" | "pod"] => self.own(ResponseCode::NoError, vec![]),
            [ns, "svc" | "pod"] => {
                let code =
                    if self.source.namespace(ns) { ResponseCode::NoError } else { ResponseCode::NXDomain };
                self.own(code, vec![])
            }
            [ip, ns, "pod"] => match undashed(ip).filter(|_| self.source.namespace(ns)) {
                Some(ip) => self.own(ResponseCode::NoError, address(name, ip, kind).into_iter().collect()),
                None => self.own(ResponseCode::NXDomain, vec![]),
            },
            [service, ns, "svc"] => self.service(name, kind, ns, service, 0),
            // Nothing stands here, but below it: a name without records, not one that is missing.
            [proto, service, ns, "svc"] if proto.starts_with('_') => {
                self.between(ns, service, proto.trim_start_matches('_'))
            }
            [host, service, ns, "svc"] => self.endpoint(name, kind, ns, service, host),
            [port, proto, service, ns, "svc"] if port.starts_with('_') && proto.starts_with('_') => {
                self.srv(name, kind, ns, service, port.trim_start_matches('_'), proto.trim_start_matches('_'))
            }
            _ => self.own(ResponseCode::NXDomain, vec![]),
        }
    }

    fn endpoints(&self, ns: &str, service: &str) -> Vec<EndpointView> {
        let slices = self.source.slices(ns, service).into_iter();
        slices.flat_map(|s| s.endpoints.unwrap_or_default()).filter(is_ready).collect()
    }

    fn service(&self, name: &Name, kind: RecordType, ns: &str, service: &str, depth: usize) -> Answer {
        let Some(s) = self.source.service(ns, service) else {
            return self.own(ResponseCode::NXDomain, vec![]);
        };
        if s.spec.r#type == "ExternalName" {
            let Ok(target) = Name::from_str(&format!("{}.", s.spec.external_name.trim_end_matches('.')))
            else {
                return self.own(ResponseCode::ServFail, vec![]);
            };
            let mut answers =
                vec![Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(target.clone())))];
            if kind == RecordType::CNAME {
                return self.own(ResponseCode::NoError, answers);
            }
            let inner =
                if depth < MAX_CHAIN { self.follow(&target, kind, depth + 1) } else { Answer::Foreign };
            return match inner {
                Answer::Foreign if depth >= MAX_CHAIN => self.own(ResponseCode::ServFail, vec![]),
                Answer::Foreign => Answer::Outside { answers, target },
                Answer::Outside { answers: more, target } => {
                    answers.extend(more);
                    Answer::Outside { answers, target }
                }
                Answer::Own { code, answers: more, additionals, soa } => {
                    answers.extend(more);
                    Answer::Own { code, answers, additionals, soa }
                }
            };
        }
        if kind == RecordType::SRV {
            return self.srv(name, kind, ns, service, "*", "*");
        }
        let ips: Vec<String> = if s.spec.cluster_ip == "None" {
            self.endpoints(ns, service).into_iter().filter_map(|e| e.addresses.into_iter().next()).collect()
        } else {
            s.spec.cluster_ips
        };
        let mut answers: Vec<Record> =
            ips.iter().filter_map(|ip| address(name, ip.parse().ok()?, kind)).collect();
        answers.dedup();
        self.own(ResponseCode::NoError, answers)
    }

    fn follow(&self, name: &Name, kind: RecordType, depth: usize) -> Answer {
        let all = labels(name);
        let Some(rest) = all.strip_suffix(self.domain.as_slice()) else { return Answer::Foreign };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        match rest.as_slice() {
            [service, ns, "svc"] => self.service(name, kind, ns, service, depth),
            _ => self.answer(name, kind),
        }
    }

    /// A pod of a headless service by its hostname or its dashed address.
    fn endpoint(&self, name: &Name, kind: RecordType, ns: &str, service: &str, host: &str) -> Answer {
        let mut found = false;
        let mut answers = Vec::new();
        if self.source.service(ns, service).is_some() {
            for e in self.endpoints(ns, service).iter().filter(|e| host_label(e).is_some_and(|h| h == host)) {
                found = true;
                answers.extend(e.addresses.first().and_then(|a| address(name, a.parse().ok()?, kind)));
            }
        }
        self.own(if found { ResponseCode::NoError } else { ResponseCode::NXDomain }, answers)
    }

    /// `_tcp.service.namespace.svc`: above the names of the ports.
    fn between(&self, ns: &str, service: &str, proto: &str) -> Answer {
        let ports = self.source.service(ns, service).map(|s| s.spec.ports).unwrap_or_default();
        let exists = ports.iter().any(|p| !p.name.is_empty() && p.protocol.eq_ignore_ascii_case(proto));
        self.own(if exists { ResponseCode::NoError } else { ResponseCode::NXDomain }, vec![])
    }

    fn srv(&self, name: &Name, kind: RecordType, ns: &str, service: &str, port: &str, proto: &str) -> Answer {
        let Some(s) = self.source.service(ns, service) else {
            return self.own(ResponseCode::NXDomain, vec![]);
        };
        let fits = |n: &str, p: &str| {
            (port == "*" || (n == port && !n.is_empty())) && (proto == "*" || p.eq_ignore_ascii_case(proto))
        };
        let mut out: Vec<(u16, Name, Vec<IpAddr>)> = Vec::new();
        if s.spec.cluster_ip == "None" {
            for slice in self.source.slices(ns, service) {
                for p in slice.ports.iter().flatten() {
                    let (n, t) =
                        (p.name.as_deref().unwrap_or_default(), p.protocol.as_deref().unwrap_or("TCP"));
                    let Some(number) = p.port.filter(|_| fits(n, t)) else { continue };
                    for e in slice.endpoints.iter().flatten().filter(|e| is_ready(e)) {
                        let target = host_label(e).and_then(|h| self.name(&[&h, service, ns, "svc"]));
                        let ips = e.addresses.iter().take(1).filter_map(|a| a.parse().ok()).collect();
                        out.extend(target.map(|t| (number, t, ips)));
                    }
                }
            }
        } else {
            for p in s.spec.ports.iter().filter(|p| fits(&p.name, &p.protocol)) {
                let ips = s.spec.cluster_ips.iter().filter_map(|a| a.parse().ok()).collect();
                out.extend(self.name(&[service, ns, "svc"]).map(|t| (p.port, t, ips)));
            }
        }
        if out.is_empty() {
            return self.own(ResponseCode::NXDomain, vec![]);
        }
        if !matches!(kind, RecordType::SRV | RecordType::ANY) {
            return self.own(ResponseCode::NoError, vec![]);
        }
        let weight = u16::try_from(100 / out.len().max(1)).unwrap_or(1).max(1);
        let mut additionals: Vec<Record> = out
            .iter()
            .flat_map(|(_, t, ips)| ips.iter().filter_map(|ip| address(t, *ip, RecordType::ANY)))
            .collect();
        additionals.dedup();
        let answers = out
            .into_iter()
            .map(|(p, t, _)| Record::from_rdata(name.clone(), TTL, RData::SRV(SRV::new(0, weight, p, t))))
            .collect();
        Answer::Own { code: ResponseCode::NoError, answers, additionals, soa: None }
    }

    fn pointer(&self, name: &Name, ip: IpAddr, kind: RecordType) -> Answer {
        let mut targets: Vec<Name> =
            self.source.services_by_ip(ip).iter().filter_map(|(ns, s)| self.name(&[s, ns, "svc"])).collect();
        for (ns, s) in self.source.endpoints_by_ip(ip) {
            let headless = self.source.service(&ns, &s).is_some_and(|v| v.spec.cluster_ip == "None");
            for e in
                self.endpoints(&ns, &s).iter().filter(|e| e.addresses.iter().any(|a| a.parse() == Ok(ip)))
            {
                // Only names that lead back to this address.
                if headless || e.hostname.is_some() {
                    targets.extend(host_label(e).and_then(|h| self.name(&[&h, &s, &ns, "svc"])));
                }
            }
        }
        targets.sort();
        targets.dedup();
        if targets.is_empty() {
            return Answer::Foreign;
        }
        let wanted = matches!(kind, RecordType::PTR | RecordType::ANY);
        let record = |t| Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(t)));
        self.own(
            ResponseCode::NoError,
            if wanted { targets.into_iter().map(record).collect() } else { vec![] },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    struct Fake;

    fn view<T: serde::de::DeserializeOwned>(v: Value) -> T {
        serde_json::from_value(v).expect("view")
    }

    impl Source for Fake {
        fn namespace(&self, name: &str) -> bool {
            name == "d"
        }
        fn service(&self, ns: &str, name: &str) -> Option<ServiceView> {
            let spec = match (ns, name) {
                ("d", "web") => json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
                    "ports": [{"name": "http", "protocol": "TCP", "port": 80}]}),
                ("d", "db") => json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": []}),
                ("d", "out") => json!({"type": "ExternalName", "externalName": "example.com"}),
                ("d", "alias") => json!({"type": "ExternalName", "externalName": "web.d.svc.cluster.local"}),
                ("d", "loop") => json!({"type": "ExternalName", "externalName": "loop.d.svc.cluster.local"}),
                _ => return None,
            };
            Some(view(json!({ "spec": spec })))
        }
        fn slices(&self, _: &str, service: &str) -> Vec<SliceView> {
            if service != "db" {
                return vec![];
            }
            vec![view(json!({"endpoints": [
                {"addresses": ["10.1.0.4"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.1.0.5"], "conditions": {"ready": true}},
                {"addresses": ["10.1.0.6"], "conditions": {"ready": false}}],
                "ports": [{"name": "sql", "protocol": "TCP", "port": 5432}]}))]
        }
        fn services_by_ip(&self, ip: IpAddr) -> Vec<(String, String)> {
            if ip.to_string() == "10.96.0.5" { vec![("d".into(), "web".into())] } else { vec![] }
        }
        fn endpoints_by_ip(&self, ip: IpAddr) -> Vec<(String, String)> {
            if ip.to_string() == "10.1.0.4" { vec![("d".into(), "db".into())] } else { vec![] }
        }
    }

    fn ask(name: &str, kind: RecordType) -> (String, Vec<String>) {
        let zone = Zone::new("cluster.local", Fake);
        match zone.answer(&Name::from_str(name).expect("name"), kind) {
            Answer::Own { code, answers, .. } => {
                (format!("{code:?}"), answers.iter().map(|r| r.data.to_string()).collect())
            }
            Answer::Outside { target, .. } => ("outside".into(), vec![target.to_string()]),
            Answer::Foreign => ("foreign".into(), vec![]),
        }
    }

    #[test]
    fn names_of_the_schema() {
        let table: &[(&str, RecordType, &str, &[&str])] = &[
            ("web.d.svc.cluster.local.", RecordType::A, "NoError", &["10.96.0.5"]),
            ("WEB.D.svc.Cluster.Local.", RecordType::A, "NoError", &["10.96.0.5"]),
            ("web.d.svc.cluster.local.", RecordType::AAAA, "NoError", &[]),
            ("none.d.svc.cluster.local.", RecordType::A, "NXDomain", &[]),
            ("db.d.svc.cluster.local.", RecordType::A, "NoError", &["10.1.0.4", "10.1.0.5"]),
            ("db-0.db.d.svc.cluster.local.", RecordType::A, "NoError", &["10.1.0.4"]),
            ("10-1-0-5.db.d.svc.cluster.local.", RecordType::A, "NoError", &["10.1.0.5"]),
            ("db-1.db.d.svc.cluster.local.", RecordType::A, "NXDomain", &[]),
            (
                "_http._tcp.web.d.svc.cluster.local.",
                RecordType::SRV,
                "NoError",
                &["0 100 80 web.d.svc.cluster.local."],
            ),
            (
                "_sql._tcp.db.d.svc.cluster.local.",
                RecordType::SRV,
                "NoError",
                &["0 50 5432 db-0.db.d.svc.cluster.local.", "0 50 5432 10-1-0-5.db.d.svc.cluster.local."],
            ),
            ("_tcp.web.d.svc.cluster.local.", RecordType::A, "NoError", &[]),
            ("_udp.web.d.svc.cluster.local.", RecordType::A, "NXDomain", &[]),
            ("_x._tcp.web.d.svc.cluster.local.", RecordType::SRV, "NXDomain", &[]),
            ("10-1-0-9.d.pod.cluster.local.", RecordType::A, "NoError", &["10.1.0.9"]),
            ("5.0.96.10.in-addr.arpa.", RecordType::PTR, "NoError", &["web.d.svc.cluster.local."]),
            ("4.0.1.10.in-addr.arpa.", RecordType::PTR, "NoError", &["db-0.db.d.svc.cluster.local."]),
            ("9.9.9.9.in-addr.arpa.", RecordType::PTR, "foreign", &[]),
            ("out.d.svc.cluster.local.", RecordType::A, "outside", &["example.com."]),
            (
                "alias.d.svc.cluster.local.",
                RecordType::A,
                "NoError",
                &["web.d.svc.cluster.local.", "10.96.0.5"],
            ),
            ("example.com.", RecordType::A, "foreign", &[]),
            ("d.svc.cluster.local.", RecordType::A, "NoError", &[]),
            ("x.svc.cluster.local.", RecordType::A, "NXDomain", &[]),
        ];
        for (name, kind, code, want) in table {
            let got = ask(name, *kind);
            assert_eq!(
                (got.0.as_str(), got.1.iter().map(String::as_str).collect::<Vec<_>>()),
                (*code, want.to_vec()),
                "{name} {kind}"
            );
        }
        assert_eq!(ask("loop.d.svc.cluster.local.", RecordType::A).0, "ServFail");
    }
}
