//! Watch events as they go over the wire, each made once for all who are sent it. Owns a small fixed table; spawns nothing.

use api::Object;
use bytes::Bytes;
use parking_lot::Mutex;

/// A thousand watchers of one kind read the same event within a moment: few slots do.
const SLOTS: usize = 32;
/// Larger ones are made for each: what stays here is bounded.
const LARGEST: usize = 16 * 1024;

/// How an event is written; objects that several forms show differ in nothing else here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    Protobuf,
    /// Metadata only, as JSON and as protobuf.
    Partial,
    PartialProtobuf,
}

struct Made {
    /// Kept, so that its address means this object for as long as this stands here.
    object: Bytes,
    revision: u64,
    word: &'static str,
    form: Form,
    line: Bytes,
}

struct Table([Option<Made>; SLOTS]);

static RECENT: Mutex<Table> = Mutex::new(Table([const { None }; SLOTS]));

/// The line of an event about `o`; `make` is called where it is not here yet. It depends on nothing but the arguments.
pub fn shared(o: &Object, word: &'static str, form: Form, make: impl FnOnce() -> Bytes) -> Bytes {
    let object = o.stored_bytes();
    if object.len() > LARGEST {
        return make();
    }
    let at = o.revision() as usize % SLOTS;
    let is = |m: &Made| {
        m.revision == o.revision()
            && (m.object.as_ptr(), m.object.len()) == (object.as_ptr(), object.len())
            && m.word == word
            && m.form == form
    };
    if let Some(m) = RECENT.lock().0[at].as_ref().filter(|m| is(m)) {
        return m.line.clone();
    }
    let line = make();
    if line.len() <= LARGEST {
        let made = Made { object: object.clone(), revision: o.revision(), word, form, line: line.clone() };
        // What it takes the place of is freed outside of the lock.
        let _old = RECENT.lock().0[at].replace(made);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::cell::Cell;

    #[test]
    fn an_event_is_made_once_for_all() {
        let made = Cell::new(0);
        let line = |o: &Object, word, form| {
            shared(o, word, form, || {
                made.set(made.get() + 1);
                format!("{word} {}", made.get()).into()
            })
        };
        let object = |name: &str, revision| {
            Object::from_value(json!({"metadata": {"name": name}}), revision).expect("an object")
        };
        // Far from what other tests use.
        let a = object("a", 9_000_001);
        assert_eq!(line(&a, "ADDED", Form::Json), "ADDED 1");
        assert_eq!(line(&a.clone(), "ADDED", Form::Json), "ADDED 1");
        // Another word, form, object of the same revision, or revision of the same object.
        assert_eq!(line(&a, "DELETED", Form::Json), "DELETED 2");
        assert_eq!(line(&a, "DELETED", Form::Protobuf), "DELETED 3");
        assert_eq!(line(&object("a", 9_000_001), "DELETED", Form::Protobuf), "DELETED 4");
        let later =
            Object::from_parts(a.stored_bytes().clone(), a.meta_shared().clone(), 9_000_001 + SLOTS as u64);
        assert_eq!(line(&later, "DELETED", Form::Protobuf), "DELETED 5");
        // Too large to be kept.
        let large = object(&"x".repeat(LARGEST), 9_000_002);
        assert_eq!(line(&large, "ADDED", Form::Json), "ADDED 6");
        assert_eq!(line(&large, "ADDED", Form::Json), "ADDED 7");
    }
}
