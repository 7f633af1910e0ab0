//! Namespaces that do not go away: what is left in them, and what could not be asked.

use crate::cause::Cause;
use crate::facts::{Facts, Thing, str_of};

/// In upstream's words, the most telling first.
const CONDITIONS: [(&str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "the API server can't tell all kinds there are"),
    ("NamespaceDeletionGroupVersionParsingFailure", "an API group has a name that can't be read"),
    ("NamespaceDeletionContentFailure", "something in it can't be deleted"),
    ("NamespaceFinalizersRemaining", "something in it has finalizers that nobody has removed"),
    ("NamespaceContentRemaining", "something in it is still there"),
];

pub fn causes(_: &Facts, n: &Thing) -> Vec<Cause> {
    if n.text("/status/phase") != "Terminating" {
        return Vec::new();
    }
    let mut out: Vec<Cause> = CONDITIONS
        .iter()
        .filter_map(|(kind, words)| {
            let c = n.condition(kind).filter(|c| c["status"] == "True")?;
            let message = str_of(&c["message"]);
            let cause = Cause::root("namespace-terminating", format!("it can't go away: {words}: {message}"))
                .seen(n, &format!("status.conditions[{kind}].message"), message);
            Some(if kind.ends_with("DiscoveryFailure") {
                cause.run(
                    "see which API service does not answer, and remove or repair it",
                    "kubectl get apiservices",
                )
            } else {
                cause.run("see what is left in it", format!("kelson why -n {}", n.name()))
            })
        })
        .collect();
    out.truncate(2);
    out
}
