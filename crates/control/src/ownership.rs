//! Which controller an object belongs to, and how controllers take objects in and let them go.

use std::fmt::Debug;
use std::sync::Arc;

use api::{LabelSelector, NamespacedName};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cache::Cache;
use crate::engine::{self, Engine};
use crate::labels;

/// The reference to the controller of an object.
pub(crate) fn controller<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object.meta().owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// Where the controller of an object is, if it is of `kind`.
pub(crate) fn controller_key<K: Resource>(object: &K, kind: &str) -> Option<NamespacedName> {
    let owner = controller(object).filter(|owner| owner.kind == kind)?;
    Some(NamespacedName::new(object.namespace().unwrap_or_default(), owner.name.clone()))
}

/// The reference to `owner` as the controller of an object.
pub(crate) fn controlled_by<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What is to be done so that an owner controls exactly what its selector selects.
#[derive(Debug, Default, PartialEq, Eq)]
struct Claims {
    keep: Vec<usize>,
    adopt: Vec<usize>,
    release: Vec<usize>,
}

fn claims<'a, K: Resource + 'a>(
    owner: &str,
    is_leaving: bool,
    selector: &LabelSelector,
    objects: impl Iterator<Item = &'a K>,
) -> Claims {
    let mut claims = Claims::default();
    for (i, object) in objects.enumerate() {
        let selected = labels::selects(selector, object.meta());
        match controller(object) {
            Some(reference) if reference.uid == owner && selected => claims.keep.push(i),
            Some(reference) if reference.uid == owner && !is_leaving => claims.release.push(i),
            None if selected && !is_leaving && object.meta().deletion_timestamp.is_none() => claims.adopt.push(i),
            _ => {}
        }
    }
    claims
}

/// The objects in `cache` that `owner` controls, after adopting and releasing what its selector asks for.
pub(crate) async fn claim<O, K>(
    engine: &Engine,
    owner: &O,
    selector: &LabelSelector,
    cache: &Cache<K>,
) -> Result<Vec<Arc<K>>, kube::Error>
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let namespace = owner.namespace().unwrap_or_default();
    let uid = owner.uid().unwrap_or_default();
    let is_leaving = owner.meta().deletion_timestamp.is_some();
    let objects = cache.pick(&namespace, |object| match controller(object) {
        Some(reference) => reference.uid == uid,
        None => labels::selects(selector, object.meta()),
    });
    let claims = claims(&uid, is_leaving, selector, objects.iter().map(|o| &**o));
    let api = engine.api::<K>(&namespace);
    let mut owned: Vec<Arc<K>> = claims.keep.iter().filter_map(|i| objects.get(*i).cloned()).collect();
    for object in claims.adopt.iter().filter_map(|i| objects.get(*i)) {
        let mut owners = object.owner_references().to_vec();
        owners.push(controlled_by(owner));
        let adopted = engine::merge(&api, &object.name_any(), &references(&**object, owners)).await?;
        cache.wrote(adopted.clone());
        owned.push(Arc::new(adopted));
    }
    for object in claims.release.iter().filter_map(|i| objects.get(*i)) {
        let mut owners = object.owner_references().to_vec();
        owners.retain(|reference| reference.uid != uid);
        match engine::merge(&api, &object.name_any(), &references(&**object, owners)).await {
            Ok(released) => cache.wrote(released),
            Err(error) if engine::refused(&error, 404, "") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(owned)
}

/// The resource version makes the patch fail if somebody else has been faster.
fn references<K: Resource>(object: &K, owners: Vec<OwnerReference>) -> serde_json::Value {
    let meta = object.meta();
    json!({ "metadata": { "ownerReferences": owners, "uid": meta.uid, "resourceVersion": meta.resource_version } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(owner: Option<&str>, app: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
        pod.metadata.owner_references = owner.map(|uid| {
            vec![OwnerReference { uid: uid.to_owned(), controller: Some(true), ..OwnerReference::default() }]
        });
        pod
    }

    #[test]
    fn orphans_are_adopted_strays_released_and_others_left_alone() {
        let selector = LabelSelector::parse("app=a").unwrap();
        let pods = [pod(Some("me"), "a"), pod(Some("me"), "b"), pod(None, "a"), pod(None, "b"), pod(Some("you"), "a")];
        let found = claims("me", false, &selector, pods.iter());
        assert_eq!(found, Claims { keep: vec![0], adopt: vec![2], release: vec![1] });
        let leaving = claims("me", true, &selector, pods.iter());
        assert_eq!(leaving, Claims { keep: vec![0], adopt: vec![], release: vec![] }, "an owner that goes takes none");
    }
}
