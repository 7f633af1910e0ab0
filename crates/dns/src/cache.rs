//! Answers of other resolvers, kept for as long as they say, at most half a minute, also when they say that there is
//! nothing. With five dots asked for in every name, most questions of pods end in the same few negative answers.

use std::collections::HashMap;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use parking_lot::Mutex;

/// Seconds, as upstream's default cache.
const LONGEST: u32 = 30;
const MOST: usize = 8192;

/// What makes two questions the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    name: Name,
    kind: RecordType,
    class: DNSClass,
    /// Signatures wanted; checks switched off.
    flags: (bool, bool),
}

struct Entry {
    answer: Message,
    at: i64,
    until: i64,
}

#[derive(Default)]
pub struct Cache {
    entries: Mutex<HashMap<Key, Entry>>,
}

fn key(question: &Message) -> Option<Key> {
    let [query] = question.queries.as_slice() else { return None };
    Some(Key {
        name: query.name.to_lowercase(),
        kind: query.query_type,
        class: query.query_class,
        flags: (
            question.edns.as_ref().is_some_and(|e| e.flags().dnssec_ok),
            question.metadata.checking_disabled,
        ),
    })
}

/// How many seconds an answer may be kept; `None`: not at all.
fn lifetime(answer: &Message) -> Option<u32> {
    let m = &answer.metadata;
    if m.truncation || !matches!(m.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return None;
    }
    let ttl = if answer.answers.is_empty() {
        answer.authorities.iter().find_map(|r| match &r.data {
            RData::SOA(soa) => Some(soa.minimum.min(r.ttl)),
            _ => None,
        })?
    } else {
        answer.answers.iter().map(|r| r.ttl).min()?
    };
    (ttl > 0).then(|| ttl.min(LONGEST))
}

impl Cache {
    /// The kept answer to this question, with what is left of its time.
    pub fn get(&self, question: &Message, now: i64) -> Option<Message> {
        let entries = self.entries.lock();
        let entry = entries.get(&key(question)?).filter(|e| now < e.until)?;
        let age = u32::try_from(now - entry.at).unwrap_or(0);
        let mut answer = entry.answer.clone();
        answer.metadata.id = question.metadata.id;
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        answer.queries.clone_from(&question.queries);
        if question.edns.is_none() {
            answer.edns = None;
        }
        for r in answer.answers.iter_mut().chain(&mut answer.authorities).chain(&mut answer.additionals) {
            r.ttl = r.ttl.saturating_sub(age);
        }
        Some(answer)
    }

    pub fn put(&self, question: &Message, answer: Message, now: i64) {
        let (Some(key), Some(ttl)) = (key(question), lifetime(&answer)) else { return };
        let mut entries = self.entries.lock();
        if entries.len() >= MOST {
            entries.retain(|_, e| now < e.until);
        }
        if entries.len() >= MOST {
            entries.clear();
        }
        entries.insert(key, Entry { answer, at: now, until: now + i64::from(ttl) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode, Query};
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::SOA;

    fn name(s: &str) -> Name {
        // Not `from_str`, which folds case.
        Name::from_ascii(s).expect("name")
    }

    fn question(n: &str, id: u16) -> Message {
        let mut m = Message::new(id, MessageType::Query, OpCode::Query);
        m.add_query(Query::query(name(n), RecordType::A));
        m
    }

    fn answer(code: ResponseCode, ttl: Option<u32>, minimum: Option<u32>) -> Message {
        let mut m = Message::response(1, OpCode::Query);
        m.metadata.response_code = code;
        m.add_answers(ttl.map(|t| {
            Record::from_rdata(name("a."), t, RData::A(std::net::Ipv4Addr::new(1, 2, 3, 4).into()))
        }));
        let soa = |min| RData::SOA(SOA::new(name("ns."), name("x."), 1, 1, 1, 1, min));
        if let Some(min) = minimum {
            m.add_authority(Record::from_rdata(name("a."), 100, soa(min)));
        }
        m
    }

    #[test]
    fn how_long_an_answer_is_kept() {
        use ResponseCode::{NXDomain, NoError, ServFail};
        let table = [
            (answer(NoError, Some(10), None), Some(10)),
            (answer(NoError, Some(900), None), Some(30)),
            (answer(NoError, Some(0), None), None),
            (answer(NXDomain, None, Some(5)), Some(5)),
            (answer(NoError, None, Some(300)), Some(30)),
            (answer(NoError, None, None), None),
            (answer(ServFail, None, Some(5)), None),
        ];
        for (i, (a, want)) in table.iter().enumerate() {
            assert_eq!(lifetime(a), *want, "row {i}");
        }
        let mut cut = answer(NoError, Some(10), None);
        cut.metadata.truncation = true;
        assert_eq!(lifetime(&cut), None);
    }

    #[test]
    fn a_kept_answer_ages_and_ends() {
        let c = Cache::default();
        c.put(&question("A.example.", 7), answer(ResponseCode::NoError, Some(20), None), 100);
        let got = c.get(&question("a.EXAMPLE.", 9), 105).expect("kept");
        assert_eq!((got.metadata.id, got.answers[0].ttl), (9, 15));
        assert_eq!(got.queries[0].name.to_string(), "a.EXAMPLE.");
        assert!(c.get(&question("a.example.", 9), 120).is_none());
        assert!(c.get(&question("b.example.", 9), 105).is_none());
    }
}
