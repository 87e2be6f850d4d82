//! Objects that say something about services and workloads, indexed by whom they are for.

mod authentication;
mod authorization;
mod destination;
mod gateway;
mod host_index;
mod legacy;
mod peer;
mod roles;
mod route;
mod sidecar;

pub(crate) use authentication::{Authentication, Authentications};
pub(crate) use authorization::{Authorization, Authorizations};
pub(crate) use destination::{DestinationRules, Effective, Merged};
pub(crate) use gateway::{Gateways, ServerHost, gateway_name};
pub(crate) use legacy::{LegacyPolicy, legacy_policies};
pub(crate) use peer::PeerAuthentications;
pub(crate) use roles::{Granted, Role, ServiceRoles};
pub(crate) use route::{Caller, Http, Route, Routes};
pub(crate) use sidecar::Sidecars;

use std::sync::Arc;

use api::istio::{Object, Spec};
use api::selector::Labels;

use crate::mesh::Workloads;
use crate::{Code, Diagnostic, ObjectRef};

/// Objects oldest first; of the same second, by name.
pub(crate) fn by_age<S>(objects: &[Arc<Object<S>>]) -> Vec<&Arc<Object<S>>> {
    let mut sorted: Vec<_> = objects.iter().collect();
    sorted.sort_by_key(|o| (&o.metadata.creation_timestamp, &o.metadata.name, &o.metadata.namespace));
    sorted
}

/// Whether an object is for what its `targetRefs` name, which is never a sidecar; it says so.
pub(crate) fn is_for_others<S: Spec>(object: &Object<S>, found: &mut Vec<Diagnostic>) -> bool {
    let Some(field) = object.unknown.iter().find(|path| path.starts_with("spec.targetRef")) else { return false };
    let message = "the object is for what it names, and has no effect on sidecars";
    found.push(ObjectRef::of(object).warning(field, Code::NotSupported, message));
    true
}

/// Says so if a selector matches no workload of a namespace, or of any.
pub(crate) fn check_selector(
    object: &ObjectRef,
    field: &str,
    namespace: Option<&str>,
    wanted: &Labels,
    workloads: &Workloads,
) -> Option<Diagnostic> {
    let missing = !wanted.is_empty() && !workloads.any_selected(namespace, wanted);
    missing.then(|| {
        let labels: Vec<String> = wanted.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let message = format!("no workload has the labels {}; the object has no effect yet", labels.join(","));
        object.warning(field, Code::NothingSelected, message)
    })
}
