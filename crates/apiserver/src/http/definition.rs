//! CustomResourceDefinitions: kinds that come and go with an object.

use std::sync::{Arc, PoisonError};

use api::{ApiError, GroupResource};
use serde_json::{Value, json};

use super::Server;
use super::admission;
use super::authentication::MASTERS;
use super::call;
use super::create::write_error;
use super::delete::Options;
use super::object::{finalizers, is_terminating, meta, metadata_mut, put};
use crate::extension::UserInfo;
use crate::kind::Kind;
use crate::store::{Key, Object, Write, WriteError};

/// Holds a definition until its instances are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

fn resource() -> GroupResource {
    GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions")
}

fn is_definition(kind: &Kind) -> bool {
    kind.names.plural == "customresourcedefinitions" && kind.version.group == "apiextensions.k8s.io"
}

/// The resource whose kind a definition defines.
fn defined(definition: &Value) -> GroupResource {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    GroupResource::new(&text(&definition["spec"]["group"]), &text(&definition["spec"]["names"]["plural"]))
}

/// Completes and validates a definition that is being written. Gives warnings.
pub(super) fn review(
    server: &Server,
    kind: &Kind,
    old: Option<&Value>,
    value: &mut Value,
) -> Result<Vec<String>, ApiError> {
    if !is_definition(kind) {
        return Ok(Vec::new());
    }
    let warnings = server.registry.check_definition(value, old);
    let warnings = warnings.map_err(|causes| admission::invalid(kind, meta(value, "name"), &causes))?;
    if !is_terminating(value) && !finalizers(value).any(|finalizer| finalizer == CLEANUP) {
        let list: Vec<&str> = finalizers(value).chain([CLEANUP]).collect();
        let list = json!(list);
        metadata_mut(value).insert("finalizers".to_owned(), list);
    }
    Ok(warnings)
}

/// Tells in the status of a definition that it and its instances are being deleted.
pub(super) fn terminate(kind: &Kind, value: &mut Value) {
    if !is_definition(kind) {
        return;
    }
    let Some(conditions) = value["status"]["conditions"].as_array_mut() else { return };
    conditions.retain(|condition| condition["type"] != "Terminating");
    conditions.push(json!({
        "type": "Terminating", "status": "True", "reason": "InstanceDeletionInProgress",
        "message": "CustomResource deletion is in progress", "lastTransitionTime": call::now(),
    }));
}

impl Server {
    /// Serves the kinds of every stored definition, and goes on deleting those that were being deleted.
    pub(super) fn install_stored_definitions(self: &Arc<Self>) {
        for object in self.store.list(&resource(), None).1 {
            let definition = object.value();
            if let Err(causes) = self.registry.install(&definition) {
                tracing::error!(name = object.key.name, ?causes, "a stored CustomResourceDefinition cannot be served");
            }
            if is_terminating(&definition) {
                self.clean_up(&definition);
            }
        }
    }

    /// 405 for a new instance of a kind that is going away.
    pub(super) fn check_open(&self, kind: &Kind) -> Result<(), ApiError> {
        if kind.builtin {
            return Ok(());
        }
        let closing = self.closing.read().unwrap_or_else(PoisonError::into_inner);
        if closing.contains(&kind.resource().to_string()) {
            let message = "create not allowed while custom resource definition is terminating";
            return Err(ApiError::new(405, "MethodNotAllowed", message));
        }
        Ok(())
    }

    /// To be called with every object that was created or changed. Serves what a definition defines, and writes into
    /// its status what became of it.
    pub(super) async fn definition_written(self: &Arc<Self>, kind: &Kind, object: &Object) -> Result<(), ApiError> {
        if !is_definition(kind) {
            return Ok(());
        }
        let mut definition = object.value();
        if is_terminating(&definition) {
            self.clean_up(&definition);
            return Ok(());
        }
        let mut expected = object.revision;
        loop {
            let installed = self.registry.install(&definition);
            let status = installed.map_err(|causes| admission::invalid(kind, &object.key.name, &causes))?.status;
            if definition["status"] == status {
                return Ok(());
            }
            definition["status"] = status;
            let key = object.key.clone();
            match self.commit(Write::Update { key, value: definition.clone(), expected }).await {
                Ok(_) => return Ok(()),
                Err(WriteError::Conflict) => {}
                Err(error) => return Err(write_error(error, &object.key)),
            }
            let Some(newer) = self.store.get(&object.key) else { return Ok(()) };
            definition = newer.value();
            expected = newer.revision;
        }
    }

    /// To be called with the last state of every object that was removed.
    pub(super) fn definition_removed(&self, kind: &Kind, object: &Object) {
        if is_definition(kind) {
            self.forget(&object.value());
        }
    }

    fn forget(&self, definition: &Value) {
        self.registry.uninstall(definition);
        let mut closing = self.closing.write().unwrap_or_else(PoisonError::into_inner);
        closing.remove(&defined(definition).to_string());
    }

    /// Deletes the instances in the background, and then the definition. Once per definition.
    fn clean_up(self: &Arc<Self>, definition: &Value) {
        let instances = defined(definition);
        let mut closing = self.closing.write().unwrap_or_else(PoisonError::into_inner);
        if !closing.insert(instances.to_string()) {
            return;
        }
        let name = meta(definition, "name").to_owned();
        let server = self.clone();
        tokio::spawn(async move {
            if let Err(error) = server.delete_instances(&instances).await {
                tracing::error!(%instances, %error, "the instances of a definition cannot be deleted");
                return;
            }
            if let Err(error) = server.release(&name).await {
                tracing::error!(name, %error, "a definition cannot be deleted");
            }
        });
    }

    /// Deletes every instance and waits until the last one is gone, whatever holds it.
    async fn delete_instances(self: &Arc<Self>, instances: &GroupResource) -> Result<(), ApiError> {
        let user =
            UserInfo { name: "system:apiserver".to_owned(), groups: vec![MASTERS.to_owned()], ..Default::default() };
        loop {
            let (revision, objects) = self.store.list(instances, None);
            if objects.is_empty() {
                return Ok(());
            }
            let kinds = self.registry.all();
            let kind = kinds.iter().find(|kind| kind.resource() == *instances).ok_or_else(ApiError::no_such_path)?;
            for object in objects {
                match self.delete(kind, &user, &object.key, &Options::default(), &mut Vec::new()).await {
                    Err(error) if error.code != 404 => return Err(error),
                    _ => {}
                }
            }
            let expired = |_| ApiError::internal("the deletion fell behind the store's history");
            let mut watch = self.store.watch(instances, revision).map_err(expired)?;
            while !self.store.list(instances, None).1.is_empty() {
                if watch.next().await.is_err() {
                    break;
                }
            }
        }
    }

    /// Takes the finalizer off a definition, which removes it if nothing else holds it.
    async fn release(&self, name: &str) -> Result<(), WriteError> {
        let key = Key { resource: resource(), namespace: String::new(), name: name.to_owned() };
        while let Some(stored) = self.store.get(&key) {
            let mut definition = stored.value();
            let rest: Vec<&str> = finalizers(&definition).filter(|f| *f != CLEANUP).collect();
            let rest = (!rest.is_empty()).then(|| json!(rest));
            let gone = rest.is_none();
            let write = if gone {
                // Nobody who sees that the definition is gone may still be served its kind.
                self.registry.uninstall(&definition);
                Write::Delete { key: key.clone(), expected: stored.revision }
            } else {
                put(metadata_mut(&mut definition), "finalizers", rest);
                Write::Update { key: key.clone(), value: definition.clone(), expected: stored.revision }
            };
            match self.commit(write).await {
                Ok(_) if gone => self.forget(&definition),
                Ok(_) => return Ok(()),
                Err(WriteError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
