//! How the lists and objects of built-in kinds merge, which their published definitions state with
//! `x-kubernetes-*` extensions that k8s-openapi leaves out.
//!
//! Source: the `patchStrategy`, `patchMergeKey`, `listType`, `listMapKey`, `mapType` and `structType` markers of
//! Kubernetes 1.33. Types are named by the last three parts of their definition's name.

use super::{PatchStrategy, Topology};

/// A list that is not simply replaced.
#[derive(Debug)]
pub(crate) struct ListRule {
    kind: &'static str,
    field: &'static str,
    /// The keys under which server-side apply owns items; empty for an atomic list, `*` for a set.
    keys: &'static [&'static str],
    /// The key by which strategic merge patches merge; `*` for a set of scalars, empty where the list is replaced.
    merge_key: &'static str,
    retain_keys: bool,
}

const fn merged(kind: &'static str, field: &'static str, keys: &'static [&'static str]) -> ListRule {
    ListRule { kind, field, keys, merge_key: keys[0], retain_keys: false }
}

const fn retained(kind: &'static str, field: &'static str, keys: &'static [&'static str]) -> ListRule {
    ListRule { kind, field, keys, merge_key: keys[0], retain_keys: true }
}

/// Owned by item, but replaced by strategic merge patches.
const fn owned(kind: &'static str, field: &'static str, keys: &'static [&'static str]) -> ListRule {
    ListRule { kind, field, keys, merge_key: "", retain_keys: false }
}

/// Merged by strategic merge patches, but owned as a whole.
const fn patched(kind: &'static str, field: &'static str, merge_key: &'static str) -> ListRule {
    ListRule { kind, field, keys: &[], merge_key, retain_keys: false }
}

const LISTS: &[ListRule] = &[
    merged("meta.v1.ObjectMeta", "ownerReferences", &["uid"]),
    merged("meta.v1.ObjectMeta", "finalizers", &["*"]),
    merged("core.v1.Container", "ports", &["containerPort", "protocol"]),
    merged("core.v1.Container", "env", &["name"]),
    merged("core.v1.Container", "volumeMounts", &["mountPath"]),
    merged("core.v1.Container", "volumeDevices", &["devicePath"]),
    merged("core.v1.EphemeralContainer", "ports", &["containerPort", "protocol"]),
    merged("core.v1.EphemeralContainer", "env", &["name"]),
    merged("core.v1.EphemeralContainer", "volumeMounts", &["mountPath"]),
    merged("core.v1.EphemeralContainer", "volumeDevices", &["devicePath"]),
    owned("core.v1.ResourceRequirements", "claims", &["name"]),
    merged("core.v1.ContainerStatus", "volumeMounts", &["mountPath"]),
    merged("core.v1.ContainerStatus", "allocatedResourcesStatus", &["name"]),
    owned("core.v1.ResourceStatus", "resources", &["resourceID"]),
    retained("core.v1.PodSpec", "volumes", &["name"]),
    merged("core.v1.PodSpec", "initContainers", &["name"]),
    merged("core.v1.PodSpec", "containers", &["name"]),
    merged("core.v1.PodSpec", "ephemeralContainers", &["name"]),
    merged("core.v1.PodSpec", "imagePullSecrets", &["name"]),
    merged("core.v1.PodSpec", "hostAliases", &["ip"]),
    merged("core.v1.PodSpec", "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    merged("core.v1.PodSpec", "schedulingGates", &["name"]),
    retained("core.v1.PodSpec", "resourceClaims", &["name"]),
    merged("core.v1.PodStatus", "conditions", &["type"]),
    patched("core.v1.PodStatus", "hostIPs", "ip"),
    merged("core.v1.PodStatus", "podIPs", &["ip"]),
    retained("core.v1.PodStatus", "resourceClaimStatuses", &["name"]),
    merged("core.v1.ReplicationControllerStatus", "conditions", &["type"]),
    merged("core.v1.PersistentVolumeClaimStatus", "conditions", &["type"]),
    merged("core.v1.ServiceSpec", "ports", &["port", "protocol"]),
    merged("core.v1.ServiceStatus", "conditions", &["type"]),
    merged("core.v1.ServiceAccount", "secrets", &["name"]),
    merged("core.v1.NodeSpec", "podCIDRs", &["*"]),
    merged("core.v1.NodeStatus", "conditions", &["type"]),
    merged("core.v1.NodeStatus", "addresses", &["type"]),
    merged("core.v1.NamespaceStatus", "conditions", &["type"]),
    merged("apps.v1.DeploymentStatus", "conditions", &["type"]),
    merged("apps.v1.ReplicaSetStatus", "conditions", &["type"]),
    patched("batch.v1.JobStatus", "conditions", "type"),
    owned("batch.v1.PodFailurePolicyOnExitCodesRequirement", "values", &["*"]),
    owned("batch.v1.UncountedTerminatedPods", "succeeded", &["*"]),
    owned("batch.v1.UncountedTerminatedPods", "failed", &["*"]),
    merged("autoscaling.v2.HorizontalPodAutoscalerStatus", "conditions", &["type"]),
    merged("policy.v1.PodDisruptionBudgetStatus", "conditions", &["type"]),
    owned("discovery.v1.Endpoint", "addresses", &["*"]),
    owned("apiextensions.v1.CustomResourceDefinitionStatus", "conditions", &["type"]),
    merged("apiextensions.v1.JSONSchemaProps", "x-kubernetes-validations", &["rule"]),
];

/// Types that server-side apply owns as one value.
const ATOMIC_TYPES: &[&str] = &[
    "meta.v1.LabelSelector",
    "meta.v1.OwnerReference",
    "core.v1.ConfigMapKeySelector",
    "core.v1.EndpointAddress",
    "core.v1.EndpointPort",
    "core.v1.LocalObjectReference",
    "core.v1.NodeSelector",
    "core.v1.NodeSelectorTerm",
    "core.v1.ObjectFieldSelector",
    "core.v1.ObjectReference",
    "core.v1.ResourceFieldSelector",
    "core.v1.ScopeSelector",
    "core.v1.SecretKeySelector",
    "core.v1.SecretReference",
    "core.v1.TopologySelectorTerm",
    "core.v1.TypedLocalObjectReference",
    "autoscaling.v1.CrossVersionObjectReference",
    "discovery.v1.EndpointPort",
    "rbac.v1.RoleRef",
    "rbac.v1.Subject",
];

/// Maps that server-side apply owns as one value.
const ATOMIC_MAPS: &[(&str, &str)] = &[
    ("core.v1.PodSpec", "nodeSelector"),
    ("core.v1.ReplicationControllerSpec", "selector"),
    ("core.v1.ServiceSpec", "selector"),
];

/// Objects of an atomic type that are owned by field all the same.
const GRANULAR_FIELDS: &[(&str, &str)] = &[("core.v1.PersistentVolumeSpec", "claimRef")];

/// Objects whose fields a patch drops unless it retains them.
const RETAINED_OBJECTS: &[(&str, &str)] = &[("apps.v1.DeploymentSpec", "strategy")];

/// Fields whose default is part of a list's key.
const KEY_DEFAULTS: &[(&str, &str, &str)] =
    &[("core.v1.ContainerPort", "protocol", "TCP"), ("core.v1.ServicePort", "protocol", "TCP")];

impl ListRule {
    pub(crate) fn topology(&self) -> Topology {
        match self.keys {
            [] => Topology::Atomic,
            ["*"] => Topology::Set,
            keys => Topology::ListMap(keys.iter().map(|k| (*k).to_owned()).collect()),
        }
    }

    pub(crate) fn patch(&self) -> PatchStrategy {
        match (self.merge_key, self.retain_keys) {
            ("", _) => PatchStrategy::Replace,
            ("*", _) => PatchStrategy::MergeSet,
            (key, true) => PatchStrategy::RetainKeys { merge_key: Some(key.to_owned()) },
            (key, false) => PatchStrategy::MergeByKey(key.to_owned()),
        }
    }
}

/// The last three parts of a definition's name: `core.v1.PodSpec`.
pub(super) fn short_name(definition: &str) -> &str {
    definition.rmatch_indices('.').nth(2).map_or(definition, |(at, _)| definition.get(at + 1..).unwrap_or_default())
}

/// The rule of a list that does not simply get replaced.
pub(crate) fn list_rule(definition: &str, field: &str) -> Option<&'static ListRule> {
    let kind = short_name(definition);
    LISTS.iter().find(|l| l.kind == kind && l.field == field)
}

/// Whether and how an object or map deviates from being owned and patched field by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtomicObject {
    No,
    Yes,
    /// Owned by field; a strategic merge patch keeps only the keys it retains.
    RetainKeys,
}

/// How `field` of `definition`, an object of the type `target` or a map where that is empty, is owned.
pub(crate) fn atomic_object(definition: &str, field: &str, target: &str) -> AtomicObject {
    let at = &(short_name(definition), field);
    if RETAINED_OBJECTS.contains(at) {
        return AtomicObject::RetainKeys;
    }
    let atomic = ATOMIC_TYPES.contains(&short_name(target)) && !GRANULAR_FIELDS.contains(at);
    if atomic || ATOMIC_MAPS.contains(at) { AtomicObject::Yes } else { AtomicObject::No }
}

/// Whether server-side apply owns values of this type as a whole.
pub(super) fn is_atomic_type(definition: &str) -> bool {
    ATOMIC_TYPES.contains(&short_name(definition))
}

/// The default of a field that is part of a list's key.
pub(super) fn key_default(definition: &str, field: &str) -> Option<&'static str> {
    let kind = short_name(definition);
    KEY_DEFAULTS.iter().find(|(k, f, _)| *k == kind && *f == field).map(|(_, _, value)| *value)
}
