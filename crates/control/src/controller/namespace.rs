//! The end of namespaces: everything in them is deleted, then they go.

use std::collections::BTreeMap;
use std::time::Duration;

use api::NamespacedName;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PartialObjectMeta, PostParams};
use kube::core::discovery::ApiResource;

use crate::engine::{self, Engine};
use crate::queue::Queue;
use crate::resources;

/// How long until a namespace that is not empty is looked at again, if nothing that is watched shows progress first.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many namespaces are emptied at once.
const WORKERS: usize = 2;

/// Ends namespaces for ever; the keys of the queue are theirs.
pub(crate) async fn run(engine: Engine, queue: Queue<NamespacedName>) {
    queue.work("namespace", WORKERS, &engine, |engine, key| reconcile(engine, key).boxed()).await;
}

/// Whether the namespace is on its way out.
pub(crate) fn is_ending(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    namespace.metadata.deletion_timestamp.is_some() && finalizers.is_some_and(|list| !list.is_empty())
}

/// What is left in a namespace.
#[derive(Debug, Default, PartialEq, Eq)]
struct Remains {
    /// Objects by resource, written `pods.` or `deployments.apps`.
    objects: BTreeMap<String, usize>,
    /// Objects by the finalizer that holds them.
    finalizers: BTreeMap<String, usize>,
    /// What could not be deleted.
    failures: Vec<String>,
}

async fn reconcile(engine: &Engine, key: &NamespacedName) -> Result<Option<Duration>, kube::Error> {
    let Some(namespace) = engine.namespaces.get(key).filter(|namespace| is_ending(namespace)) else { return Ok(None) };
    let mut remains = Remains::default();
    for served in resources::served(&engine.client).await?.into_iter().filter(|served| served.namespaced) {
        if let Err(error) = empty(engine, &key.name, &served.resource, &mut remains).await {
            remains.failures.push(format!("{}: {}", served.resource.plural, engine::message(&error)));
        }
    }
    if remains == Remains::default() {
        finalize(engine, &namespace).await?;
        return Ok(None);
    }
    let status = NamespaceStatus {
        phase: Some("Terminating".to_owned()),
        conditions: Some(conditions(&remains, namespace.status.as_ref())),
    };
    if namespace.status.as_ref() != Some(&status) {
        let api: Api<Namespace> = Api::all(engine.client.clone());
        let uid = namespace.uid().unwrap_or_default();
        engine.namespaces.wrote(engine::put_status(&api, &key.name, &uid, &status).await?);
    }
    Ok(Some(PATIENCE))
}

/// Deletes all objects of one resource, and counts those that stay for now.
async fn empty(
    engine: &Engine,
    namespace: &str,
    resource: &ApiResource,
    remains: &mut Remains,
) -> Result<(), kube::Error> {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::namespaced_with(engine.client.clone(), namespace, resource);
    if api.list(&ListParams::default().limit(1)).await?.items.is_empty() {
        return Ok(());
    }
    let full: Api<DynamicObject> = Api::namespaced_with(engine.client.clone(), namespace, resource);
    full.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
    let left = api.list(&ListParams::default()).await?.items;
    for object in &left {
        for finalizer in object.finalizers() {
            *remains.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }
    if !left.is_empty() {
        remains.objects.insert(format!("{}.{}", resource.plural, resource.group), left.len());
    }
    Ok(())
}

async fn finalize(engine: &Engine, namespace: &Namespace) -> Result<(), kube::Error> {
    let api: Api<Namespace> = Api::all(engine.client.clone());
    let name = namespace.name_any();
    // Objects may hold the namespace itself back by finalizers in its metadata; only ours is taken away here.
    let mut done = api.get(&name).await?;
    if let Some(spec) = done.spec.as_mut() {
        spec.finalizers.get_or_insert_default().retain(|finalizer| finalizer != "kubernetes");
    }
    match api.replace_subresource("finalize", &name, &PostParams::default(), &done).await {
        Ok(_) => Ok(()),
        Err(error) if engine::refused(&error, 404, "") => Ok(()),
        Err(error) => Err(error),
    }
}

fn conditions(remains: &Remains, before: Option<&NamespaceStatus>) -> Vec<NamespaceCondition> {
    let counted = |map: &BTreeMap<String, usize>, what: &str| {
        let parts: Vec<String> =
            map.iter().map(|(name, count)| format!("{name} {what} {count} resource instances")).collect();
        parts.join(", ")
    };
    let content = format!("Some resources are remaining: {}", counted(&remains.objects, "has"));
    let held =
        format!("Some content in the namespace has finalizers remaining: {}", counted(&remains.finalizers, "in"));
    let failed = format!(
        "Failed to delete all resource types, {} remaining: {}",
        remains.failures.len(),
        remains.failures.join(", ")
    );
    let all = [
        ("NamespaceDeletionDiscoveryFailure", None, ("ResourcesDiscovered", "All resources successfully discovered")),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            (!remains.failures.is_empty()).then_some(("ContentDeletionFailed", failed)),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        (
            "NamespaceContentRemaining",
            (!remains.objects.is_empty()).then_some(("SomeResourcesRemain", content)),
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            (!remains.finalizers.is_empty()).then_some(("SomeFinalizersRemain", held)),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ];
    let before = before.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let conditions = all.into_iter().map(|(kind, trouble, (fine, all_well))| {
        let status = if trouble.is_some() { "True" } else { "False" };
        let (reason, message) = trouble.unwrap_or((fine, all_well.to_owned()));
        let same = before.iter().find(|c| c.type_ == kind && c.status == status);
        NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(engine::now())),
        }
    });
    conditions.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_say_what_is_left_and_what_holds_it() {
        let mut remains = Remains::default();
        remains.objects.insert("pods.".to_owned(), 2);
        remains.finalizers.insert("example.com/hold".to_owned(), 1);
        let found = conditions(&remains, None);
        let text = |kind: &str| {
            let condition = found.iter().find(|c| c.type_ == kind).unwrap();
            (condition.status.as_str(), condition.message.as_deref().unwrap())
        };
        assert_eq!(
            text("NamespaceContentRemaining"),
            ("True", "Some resources are remaining: pods. has 2 resource instances")
        );
        assert!(text("NamespaceFinalizersRemaining").1.ends_with("example.com/hold in 1 resource instances"));
        assert_eq!(text("NamespaceDeletionContentFailure").0, "False");
    }
}
