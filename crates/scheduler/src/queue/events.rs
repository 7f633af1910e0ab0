//! What happens in a cluster, and whom it could help.

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    NodeChanged,
    /// A pod ended or left its node.
    PodGone,
    /// A pod came to a node, or its labels there changed.
    PodPlaced,
    NamespaceChanged,
    /// A claim, a volume, a storage class, or what drivers take.
    StorageChanged,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterEvent {
    pub kind: Kind,
    /// Where, for what happens at one node.
    pub node: Option<String>,
}

impl From<Kind> for ClusterEvent {
    fn from(kind: Kind) -> Self {
        Self { kind, node: None }
    }
}

/// What no event but a change of the pod itself can end.
pub fn is_held(plugin: &str) -> bool {
    matches!(plugin, "SchedulingGates" | "DynamicResources")
}

/// Plugins that count pods on other nodes than the one that changed.
fn counts_elsewhere(plugin: &str) -> bool {
    matches!(plugin, "PodTopologySpread" | "InterPodAffinity" | "VolumeRestrictions")
}

impl Kind {
    pub fn at(self, node: &str) -> ClusterEvent {
        ClusterEvent { kind: self, node: Some(node.to_owned()) }
    }

    /// Whether it could help a pod that these plugins refused.
    pub fn helps(self, failed: &[&str]) -> bool {
        let by = |p: &&str| match self {
            _ if is_held(p) => false,
            Self::NodeChanged => true,
            Self::PodGone => {
                counts_elsewhere(p) || matches!(*p, "NodeResourcesFit" | "NodePorts" | "NodeVolumeLimits")
            }
            Self::PodPlaced => matches!(*p, "PodTopologySpread" | "InterPodAffinity"),
            Self::NamespaceChanged => *p == "InterPodAffinity",
            Self::StorageChanged => {
                matches!(*p, "VolumeBinding" | "VolumeZone" | "VolumeRestrictions" | "NodeVolumeLimits")
            }
        };
        failed.is_empty() || failed.iter().any(by)
    }
}

impl ClusterEvent {
    /// The node where the pod would have to fit now, if the event is to help it: none when that may be any.
    pub fn place(&self, failed: &[&str]) -> Option<&str> {
        let here = !failed.is_empty() && !failed.iter().any(|p| counts_elsewhere(p));
        self.node.as_deref().filter(|_| here)
    }
}
