//! How a pod comes by a certificate, and by the next one: asked for, waited for, held, asked for again in time. Denied or
//! failed is for good. Pure: times are handed in as milliseconds, and what is to be done is handed out.

use std::sync::Arc;

use serde::Deserialize;

const MINUTE: i64 = 60_000;
/// A request of ours that cannot be seen after this time (and some) was deleted.
const ABANDONED: i64 = 10 * MINUTE;
/// So long after its time a new certificate is overdue.
const OVERDUE: i64 = 10 * MINUTE;
/// Spreads what was set up together.
pub const JITTER: i64 = 5 * MINUTE;

/// A private key and the chain issued for it, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    pub key: String,
    pub chain: String,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bundle(…)")
    }
}

/// What stands in a PodCertificateRequest.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Request {
    pub spec: RequestSpec,
    pub status: RequestStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RequestSpec {
    #[serde(rename = "podUID")]
    pub pod_uid: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestStatus {
    pub conditions: Vec<Decision>,
    certificate_chain: String,
    begin_refresh_at: Option<String>,
    not_after: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Decision {
    #[serde(rename = "type")]
    kind: String,
    reason: String,
    message: String,
}

#[derive(Clone)]
pub struct Held {
    bundle: Arc<Bundle>,
    refresh_at: i64,
    not_after: i64,
    told_overdue: bool,
    told_expired: bool,
}

/// A request under way, and the key that waits for its certificate.
#[derive(Clone)]
pub struct Asked {
    key: String,
    name: String,
    abandon_at: i64,
}

#[derive(Clone, Default)]
pub enum State {
    #[default]
    Initial,
    Waiting(Asked),
    Denied(Decision),
    Failed(Decision),
    Fresh(Held),
    Refreshing(Held, Asked),
}

/// An event about the pod: reason and message.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub reason: &'static str,
    pub message: String,
}

/// What follows from a look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// A new request is to be made.
    pub ask: bool,
    pub told: Vec<Told>,
}

impl State {
    /// The request that is under way.
    pub fn request(&self) -> Option<&str> {
        match self {
            State::Waiting(a) | State::Refreshing(_, a) => Some(&a.name),
            _ => None,
        }
    }

    /// Whether there is nothing to show before a signer has answered.
    pub fn waits(&self) -> bool {
        matches!(self, State::Waiting(_))
    }

    pub fn bundle(&self) -> Result<Arc<Bundle>, String> {
        let decided = |how: &str, d: &Decision| {
            Err(format!(
                "PodCertificateRequest was permanently {how}: reason={:?} message={:?}",
                d.reason, d.message
            ))
        };
        match self {
            State::Initial | State::Waiting(_) => Err("credential bundle is not issued yet".into()),
            State::Denied(d) => decided("denied", d),
            State::Failed(d) => decided("failed", d),
            State::Fresh(h) | State::Refreshing(h, _) => Ok(h.bundle.clone()),
        }
    }

    /// A request was made at `now` under this name.
    pub fn asked(&mut self, key: String, name: String, now: i64, jitter: i64) {
        let asked = Asked { key, name, abandon_at: now + ABANDONED + jitter };
        *self = match std::mem::take(self) {
            State::Fresh(h) | State::Refreshing(h, _) => State::Refreshing(h, asked),
            _ => State::Waiting(asked),
        };
    }

    /// Takes in what is known of the request (`seen`, under `place` for people) and how late it is.
    pub fn turn(&mut self, seen: Option<&Request>, place: &str, now: i64, jitter: i64) -> Turn {
        let mut turn = Turn::default();
        if let State::Waiting(a) | State::Refreshing(_, a) = self {
            match seen {
                None if now > a.abandon_at => {
                    *self = match std::mem::take(self) {
                        State::Refreshing(h, _) => State::Fresh(h),
                        _ => State::Initial,
                    };
                }
                None => {}
                Some(r) => {
                    let key = a.key.clone();
                    if let Some(next) = decided(r, key, now, jitter, place, &mut turn.told) {
                        *self = next;
                    }
                }
            }
        }
        match self {
            State::Initial => turn.ask = true,
            State::Fresh(h) if now >= h.refresh_at => {
                h.complain(now, &mut turn.told);
                turn.ask = true;
            }
            State::Refreshing(h, _) => h.complain(now, &mut turn.told),
            _ => {}
        }
        turn
    }

    /// When there may be something to do without any news, while there is something to show.
    pub fn look_again(&self, now: i64) -> Option<i64> {
        match self {
            State::Fresh(h) => Some(h.refresh_at),
            State::Refreshing(h, a) => {
                let late = (!h.told_overdue).then_some(h.refresh_at + OVERDUE);
                let over = (!h.told_expired).then_some(h.not_after);
                let times = [late, over, Some(a.abandon_at)];
                // One past the time, since only then is it late.
                times.into_iter().flatten().filter(|t| *t >= now).min().map(|t| t + 1)
            }
            _ => None,
        }
    }

    /// The state in the words of the metric.
    pub fn word(&self, now: i64) -> &'static str {
        match self {
            State::Initial | State::Waiting(_) => "not_yet_issued",
            State::Denied(_) => "denied",
            State::Failed(_) => "failed",
            State::Fresh(h) | State::Refreshing(h, _) if now > h.not_after => "expired",
            State::Fresh(h) | State::Refreshing(h, _) if now > h.refresh_at + OVERDUE => {
                "overdue_for_refresh"
            }
            State::Fresh(_) | State::Refreshing(..) => "fresh",
        }
    }
}

impl Held {
    /// Each is told once.
    fn complain(&mut self, now: i64, told: &mut Vec<Told>) {
        if now > self.refresh_at + OVERDUE && !std::mem::replace(&mut self.told_overdue, true) {
            let message = "PodCertificate refresh overdue".into();
            told.push(Told { reason: "CertificateOverdueForRefresh", message });
        }
        if now > self.not_after && !std::mem::replace(&mut self.told_expired, true) {
            told.push(Told { reason: "CertificateExpired", message: "PodCertificate expired".into() });
        }
    }
}

/// Where a decided request leads.
fn decided(
    r: &Request,
    key: String,
    now: i64,
    jitter: i64,
    place: &str,
    told: &mut Vec<Told>,
) -> Option<State> {
    let ms = |t: &Option<String>| t.as_deref().and_then(client::clock::parse).map(|t| t.as_millisecond());
    let mut refused = |reason: &'static str, how: &str, d: &Decision| {
        let message =
            format!("PodCertificateRequest {place} {how}, reason={:?}, message={:?}", d.reason, d.message);
        told.push(Told { reason, message });
        d.clone()
    };
    r.status.conditions.iter().find_map(|d| match d.kind.as_str() {
        "Denied" => Some(State::Denied(refused("Denied", "was denied", d))),
        "Failed" => Some(State::Failed(refused("Failed", "failed", d))),
        "Issued" => {
            let chain = clean(&r.status.certificate_chain);
            let not_after = ms(&r.status.not_after).unwrap_or(now);
            Some(State::Fresh(Held {
                bundle: Arc::new(Bundle { key: key.clone(), chain }),
                refresh_at: ms(&r.status.begin_refresh_at).unwrap_or(not_after) + jitter,
                not_after,
                told_overdue: false,
                told_expired: false,
            }))
        }
        _ => None,
    })
}

/// The certificates alone: what stands between and in their blocks besides is dropped.
fn clean(chain: &str) -> String {
    let all = pki::trust::certificates(chain).unwrap_or_default();
    pki::trust::to_pem(all.iter().map(AsRef::as_ref))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// 2026-01-01T00:00:00Z.
    const START: i64 = 1_767_225_600_000;

    fn request(kind: &str) -> Request {
        let conditions = if kind.is_empty() {
            json!([])
        } else {
            json!([{"type": kind, "status": "True", "reason": "R", "message": "m"}])
        };
        let chain = format!("said before\n{}", pki::trust::to_pem([&b"leaf"[..], b"above"]));
        let mut v = json!({"spec": {"podUID": "u"}, "status": {"conditions": conditions}});
        if kind == "Issued" {
            v["status"]["certificateChain"] = json!(chain);
            v["status"]["beginRefreshAt"] = json!("2026-01-01T00:30:00Z");
            v["status"]["notAfter"] = json!("2026-01-01T01:00:00Z");
        }
        serde_json::from_value(v).expect("request")
    }

    fn asked(state: &mut State, key: &str, name: &str, now: i64) {
        state.asked(key.into(), name.into(), now, MINUTE);
    }

    /// Reasons of the events, and whether to ask.
    fn turn(state: &mut State, seen: Option<&Request>, now: i64) -> (Vec<&'static str>, bool) {
        let t = state.turn(seen, "ns/req", now, MINUTE);
        (t.told.iter().map(|t| t.reason).collect(), t.ask)
    }

    fn issued() -> State {
        let mut s = State::default();
        assert_eq!(turn(&mut s, None, START), (vec![], true));
        asked(&mut s, "k1", "r1", START);
        assert_eq!(turn(&mut s, None, START), (vec![], false));
        assert!(s.waits() && s.request() == Some("r1"));
        assert_eq!(turn(&mut s, Some(&request("")), START), (vec![], false));
        assert_eq!(s.bundle(), Err("credential bundle is not issued yet".into()));
        assert_eq!(turn(&mut s, Some(&request("Issued")), START), (vec![], false));
        s
    }

    #[test]
    fn a_certificate_is_asked_for_held_and_replaced() {
        let mut s = issued();
        let first = s.bundle().expect("issued");
        assert_eq!((first.key.as_str(), first.chain.matches("BEGIN CERTIFICATE").count()), ("k1", 2));
        assert!(first.chain.starts_with("-----BEGIN CERTIFICATE-----\n"));
        // Half past, and the minute that spreads.
        let due = START + 31 * MINUTE;
        assert_eq!((s.look_again(START), s.word(START)), (Some(due), "fresh"));
        assert_eq!(turn(&mut s, None, due - 1), (vec![], false));
        assert_eq!(turn(&mut s, None, due), (vec![], true));
        asked(&mut s, "k2", "r2", due);
        assert_eq!((s.request(), s.bundle()), (Some("r2"), Ok(first.clone())));
        assert_eq!(turn(&mut s, Some(&request("")), due), (vec![], false));
        let mut second = request("Issued");
        second.status.begin_refresh_at = Some("2026-01-01T01:00:00Z".into());
        assert_eq!(turn(&mut s, Some(&second), due), (vec![], false));
        assert_eq!(s.bundle().expect("again").key, "k2");
        assert_eq!(s.look_again(due), Some(START + 61 * MINUTE));
    }

    #[test]
    fn what_is_late_is_told_once() {
        let mut s = issued();
        let due = START + 31 * MINUTE;
        turn(&mut s, None, due);
        asked(&mut s, "k2", "r2", due);
        let pending = request("");
        let late = s.look_again(due).expect("a time");
        assert_eq!(late, due + OVERDUE + 1);
        assert_eq!(turn(&mut s, Some(&pending), late - 1), (vec![], false));
        assert_eq!(turn(&mut s, Some(&pending), late), (vec!["CertificateOverdueForRefresh"], false));
        assert_eq!(s.word(late), "overdue_for_refresh");
        assert_eq!(turn(&mut s, Some(&pending), late), (vec![], false));
        let over = START + 60 * MINUTE + 1;
        assert_eq!(turn(&mut s, Some(&pending), over), (vec!["CertificateExpired"], false));
        assert_eq!((s.word(over), s.bundle().is_ok()), ("expired", true));
        // While nobody can be asked, too.
        let mut s = issued();
        assert_eq!(
            turn(&mut s, None, over),
            (vec!["CertificateOverdueForRefresh", "CertificateExpired"], true)
        );
        assert_eq!(turn(&mut s, None, over), (vec![], true));
    }

    #[test]
    fn a_refusal_is_for_good() {
        for (kind, how, said) in [("Denied", "denied", "was denied"), ("Failed", "failed", "failed")] {
            for mut s in [State::default(), issued()] {
                asked(&mut s, "k", "r", START);
                let t = s.turn(Some(&request(kind)), "ns/req", START, 0);
                let message = format!("PodCertificateRequest ns/req {said}, reason=\"R\", message=\"m\"");
                assert_eq!(t.told, [Told { reason: kind, message }]);
                let want = format!("PodCertificateRequest was permanently {how}: reason=\"R\" message=\"m\"");
                assert_eq!((s.bundle(), s.word(START)), (Err(want), how));
                assert_eq!(turn(&mut s, None, START + 10 * OVERDUE), (vec![], false));
            }
        }
    }

    #[test]
    fn a_lost_request_is_made_again() {
        let gone = START + ABANDONED + MINUTE + 1;
        let mut s = State::default();
        asked(&mut s, "k", "r", START);
        assert_eq!(turn(&mut s, None, gone - 1), (vec![], false));
        assert_eq!(turn(&mut s, None, gone), (vec![], true));
        assert_eq!(s.request(), None);
        let mut s = issued();
        asked(&mut s, "k", "r", START);
        assert_eq!(turn(&mut s, None, gone), (vec![], false), "what is held is good still");
        assert!(matches!(s, State::Fresh(_)));
    }

    #[test]
    fn times_that_are_missing_mean_at_once() {
        let mut r = request("Issued");
        (r.status.begin_refresh_at, r.status.not_after) = (None, None);
        let mut s = State::default();
        asked(&mut s, "k", "r", START);
        turn(&mut s, Some(&r), START);
        assert_eq!(s.look_again(START), Some(START + MINUTE));
        assert_eq!(
            serde_json::from_value::<Request>(Value::Object(Default::default())).expect("empty").spec.pod_uid,
            ""
        );
    }
}
