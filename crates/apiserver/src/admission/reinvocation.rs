//! Mutating policies and webhooks are asked again, once, when another changed the object after them. Pure.
//! https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#reinvocation-policy

use std::collections::HashSet;

use serde_json::Value;

/// What the steps of one request know about each other.
#[derive(Debug, Default)]
pub struct Reinvocation {
    /// This is the second way through the chain.
    pub second: bool,
    /// Somebody changed the object.
    pub wanted: bool,
    pub policies: Asked,
    pub webhooks: Asked,
}

/// Those of one step who were asked and wish to be asked again.
#[derive(Debug, Default)]
pub struct Asked {
    before: HashSet<String>,
    again: HashSet<String>,
    /// The object after this step.
    left: Option<Value>,
}

impl Asked {
    /// At the beginning of the second way: what others did since counts as a change.
    pub fn begin(&mut self, object: &Value) {
        if self.left.as_ref().is_some_and(|o| o != object) {
            self.changed();
        }
    }

    pub fn end(&mut self, object: &Value) {
        self.left = Some(object.clone());
    }

    pub fn wants_again(&self, key: &str) -> bool {
        self.again.contains(key)
    }

    /// The object changed: whoever was asked before is to be asked again.
    pub fn changed(&mut self) {
        self.again.extend(self.before.drain());
    }

    pub fn asked(&mut self, key: String) {
        self.before.insert(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_those_before_a_change_are_asked_again() {
        let mut a = Asked::default();
        a.asked("one".into());
        a.changed();
        a.asked("two".into());
        a.end(&json!(1));
        assert!(a.wants_again("one") && !a.wants_again("two"));
        a.begin(&json!(1));
        assert!(!a.wants_again("two"));
        a.begin(&json!(2));
        assert!(a.wants_again("two"));
    }
}
