//! Versions of a Deployment's template: their names, numbers and annotations.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use crate::{ownership, random};

/// The label that tells the pods of one ReplicaSet from those of another.
pub(super) const HASH: &str = "pod-template-hash";
/// The number of a version; the Deployment carries that of its newest.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// The numbers that a version had before it was rolled back to.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that say nothing about its template.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];

pub(super) type Annotations = BTreeMap<String, String>;

/// Whether the set is of the Deployment's present template.
pub(super) fn same_template(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().map(|spec| &spec.template);
    let found = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    wanted.map(comparable) == found.map(comparable)
}

/// A template without what a ReplicaSet adds to it; empty maps count as absent.
fn comparable(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let mut meta = template.metadata.take().unwrap_or_default();
    let labels = meta.labels.get_or_insert_default();
    labels.remove(HASH);
    meta.labels = meta.labels.filter(|map| !map.is_empty());
    meta.annotations = meta.annotations.filter(|map| !map.is_empty());
    meta.creation_timestamp = None;
    template.metadata = Some(meta);
    template
}

/// The hash of a template, in the alphabet of names; `collisions` makes it another one.
fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    // The order of the fields and of map keys is fixed, so equal templates are equal bytes.
    let json = serde_json::to_vec(&comparable(template)).expect("a template can be written as JSON");
    let salt = if collisions > 0 { collisions.to_le_bytes().to_vec() } else { Vec::new() };
    let fnv = json
        .iter()
        .chain(&salt)
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    random::encode(&fnv.to_string())
}

/// The ReplicaSet for the present template, with `replicas` pods.
pub(super) fn new_set(deployment: &Deployment, replicas: i32, annotations: Annotations) -> Option<ReplicaSet> {
    let spec = deployment.spec.as_ref()?;
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or_default();
    let hash = hash(&spec.template, collisions);
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    Some(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![ownership::controlled_by(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(replicas),
            selector,
            template: Some(template),
        }),
        status: None,
    })
}

/// The number of a version; 0 if it has none.
pub(super) fn number(set: &ReplicaSet) -> i64 {
    set.annotations().get(REVISION).and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// The annotations that the set of the present template should have: those of the Deployment, the next number if
/// its own is not the highest, and the numbers it had.
pub(super) fn annotations(deployment: &Deployment, set: Option<&ReplicaSet>, next: i64) -> Annotations {
    let before = set.map(|set| set.annotations().clone()).unwrap_or_default();
    let mut annotations = before.clone();
    let inherited = deployment.annotations().iter().filter(|(key, _)| !OWN.contains(&key.as_str()));
    annotations.extend(inherited.map(|(key, value)| (key.clone(), value.clone())));
    let current = set.map_or(0, number);
    if current < next {
        annotations.insert(REVISION.to_owned(), next.to_string());
        if current > 0 {
            let mut history: Vec<&str> = before.get(HISTORY).into_iter().flat_map(|h| h.split(',')).collect();
            let current = current.to_string();
            history.push(&current);
            annotations.insert(HISTORY.to_owned(), history.join(","));
        }
    }
    annotations
}

/// Records in `annotations` how large the Deployment is meant to be and may grow, for later scaling.
pub(super) fn record_size(annotations: &mut Annotations, replicas: i32, surge: i32) {
    annotations.insert(DESIRED.to_owned(), replicas.to_string());
    annotations.insert(MAXIMUM.to_owned(), (replicas + surge).to_string());
}

fn size(set: &ReplicaSet, annotation: &str) -> Option<i32> {
    set.annotations().get(annotation)?.parse().ok()
}

/// How large the Deployment was when the set was last scaled.
pub(super) fn desired(set: &ReplicaSet) -> Option<i32> {
    size(set, DESIRED)
}

/// How large the Deployment could grow when the set was last scaled.
pub(super) fn maximum(set: &ReplicaSet) -> Option<i32> {
    size(set, MAXIMUM)
}
