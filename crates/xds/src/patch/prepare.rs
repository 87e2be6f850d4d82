//! EnvoyFilters as written, read.

use api::istio::EnvoyFilter;
use api::istio::envoy_filter::{
    ApplyTo, ConfigPatch, FilterChainMatch, FilterClass, FilterMatch, InsertedFilter, ListenerMatch, OldFilterType,
    OldListenerProtocol, OldListenerType, Operation, PatchContext, PatchMatch, PositionIndex, SubFilterMatch,
};
use envoy::envoy::config::rbac::v3 as rbac;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use super::{Patch, Speaks, listener, message, name};
use crate::{Code, Diagnostic, ObjectRef};

/// The patches of an object, in both forms. Those that cannot be read, or are not supported, are not among them, unless
/// they authorize.
pub(super) fn patches(object: &ObjectRef, spec: &EnvoyFilter, found: &mut Vec<Diagnostic>) -> Vec<Patch> {
    let EnvoyFilter { workload_selector: _, config_patches, priority: _, workload_labels: _, filters } = spec;
    let mut patches = Vec::new();
    for (i, written) in config_patches.iter().enumerate() {
        let field = format!("spec.configPatches[{i}]");
        patches.extend(patch(object, field, written, found));
    }
    for (i, inserted) in filters.iter().enumerate() {
        let field = format!("spec.filters[{i}]");
        patches.extend(of_old_form(object, field, inserted, found));
    }
    patches
}

fn patch(object: &ObjectRef, field: String, written: &ConfigPatch, found: &mut Vec<Diagnostic>) -> Option<Patch> {
    let ConfigPatch { apply_to, r#match, patch } = written;
    let guards = guards(*apply_to, &patch.value);
    let mut unsupported = |code, what: &str, message: &str| {
        found.push(object.error(format!("{field}.{what}"), code, message));
    };
    if r#match.proxy.is_some() {
        unsupported(Code::NotSupported, "match.proxy", "has no effect: every proxy here is taken for one that matches");
    }
    if patch.filter_class != FilterClass::Unspecified {
        let message = "has no effect: the filter is put where the operation says";
        unsupported(Code::NotSupported, "patch.filterClass", message);
    }
    match apply_to {
        ApplyTo::Invalid => {
            unsupported(Code::InvalidValue, "applyTo", "is needed: the patch has no effect");
            return None;
        }
        ApplyTo::ExtensionConfig | ApplyTo::Bootstrap => {
            unsupported(Code::NotSupported, "applyTo", "is not supported: the patch has no effect");
            return None;
        }
        _ => {}
    }
    let needs_value = !matches!(patch.operation, Operation::Remove | Operation::Invalid);
    if patch.operation == Operation::Invalid {
        unsupported(Code::InvalidValue, "patch.operation", "is needed: the patch has no effect");
        return None;
    }
    let value = match needs_value.then(|| message::read(message_of(*apply_to), patch.value.clone())) {
        None => None,
        Some(Ok(value)) => Some(value),
        Some(Err(reason)) => {
            let effect = if guards { "it refuses everything instead" } else { "the patch has no effect" };
            unsupported(Code::InvalidValue, "patch.value", &format!("{reason}: {effect}"));
            Some(guards.then(|| refusal(*apply_to)).flatten()?)
        }
    };
    Some(Patch {
        field,
        what: *apply_to,
        place: r#match.clone(),
        speaks: Speaks::Anything,
        addresses: Vec::new(),
        operation: patch.operation,
        value,
        guards,
    })
}

/// The message of which a value is one.
fn message_of(what: ApplyTo) -> &'static str {
    match what {
        ApplyTo::Listener => "envoy.config.listener.v3.Listener",
        ApplyTo::FilterChain => "envoy.config.listener.v3.FilterChain",
        ApplyTo::NetworkFilter => listener::NETWORK_FILTER,
        ApplyTo::HttpFilter => listener::HTTP_FILTER,
        ApplyTo::ListenerFilter => "envoy.config.listener.v3.ListenerFilter",
        ApplyTo::RouteConfiguration => "envoy.config.route.v3.RouteConfiguration",
        ApplyTo::VirtualHost => "envoy.config.route.v3.VirtualHost",
        ApplyTo::HttpRoute => "envoy.config.route.v3.Route",
        ApplyTo::Cluster => "envoy.config.cluster.v3.Cluster",
        ApplyTo::ExtensionConfig => "envoy.config.core.v3.TypedExtensionConfig",
        ApplyTo::Bootstrap => "envoy.config.bootstrap.v3.Bootstrap",
        ApplyTo::Invalid => "google.protobuf.Empty",
    }
}

/// Whether a value is a filter that authorizes, however it is written.
fn guards(what: ApplyTo, value: &Value) -> bool {
    let filter = matches!(what, ApplyTo::NetworkFilter | ApplyTo::HttpFilter);
    let text = value.to_string();
    filter && ["filters.network.rbac", "filters.http.rbac", ".RBAC\"", "ext_authz"].iter().any(|w| text.contains(w))
}

/// A filter that lets nobody in.
pub(super) fn refusal(what: ApplyTo) -> Option<DynamicMessage> {
    let (message, kind) = match what {
        ApplyTo::HttpFilter => (listener::HTTP_FILTER, "http"),
        _ => (listener::NETWORK_FILTER, "network"),
    };
    let nobody = json!({ "action": rbac::rbac::Action::Allow as i32 });
    let mut config = json!({
        "@type": format!("type.googleapis.com/envoy.extensions.filters.{kind}.rbac.v3.RBAC"),
        "rules": nobody,
    });
    if kind == "network" {
        config["stat_prefix"] = json!("tcp.");
    }
    let filter = json!({ "name": format!("envoy.filters.{kind}.rbac"), "typed_config": config });
    message::read(message, filter).ok()
}

/// The form of up to Istio 1.4, in which filters were inserted.
fn of_old_form(
    object: &ObjectRef,
    field: String,
    inserted: &InsertedFilter,
    found: &mut Vec<Diagnostic>,
) -> Option<Patch> {
    let InsertedFilter { listener_match, insert_position, filter_type, filter_name, filter_config } = inserted;
    let (what, kind) = match filter_type {
        OldFilterType::Http => (ApplyTo::HttpFilter, "filters.http"),
        OldFilterType::Network => (ApplyTo::NetworkFilter, "filters.network"),
        OldFilterType::Invalid => {
            let message = "is needed: the filter is not inserted";
            found.push(object.error(format!("{field}.filterType"), Code::InvalidValue, message));
            return None;
        }
    };
    if !listener_match.port_name_prefix.is_empty() {
        let message = "has no effect: the filter is inserted whatever the port's name";
        found.push(object.warning(format!("{field}.listenerMatch.portNamePrefix"), Code::NotSupported, message));
    }
    let operation = match insert_position.index {
        PositionIndex::First => Operation::InsertFirst,
        PositionIndex::Last => Operation::Add,
        PositionIndex::Before => Operation::InsertBefore,
        PositionIndex::After => Operation::InsertAfter,
    };
    let relative = matches!(operation, Operation::InsertBefore | Operation::InsertAfter);
    let neighbour = relative.then(|| name::current(kind, &insert_position.relative_to).into_owned());
    let filter = match (what, neighbour) {
        (ApplyTo::HttpFilter, name) => {
            FilterMatch { name: listener::HCM.to_owned(), sub_filter: name.map(|name| SubFilterMatch { name }) }
        }
        (_, name) => FilterMatch { name: name.unwrap_or_default(), sub_filter: None },
    };
    let named = !filter.name.is_empty();
    let listener = ListenerMatch {
        port_number: listener_match.port_number,
        filter_chain: named.then(|| FilterChainMatch { filter: Some(filter), ..FilterChainMatch::default() }),
        ..ListenerMatch::default()
    };
    let context = match listener_match.listener_type {
        OldListenerType::Any => PatchContext::Any,
        OldListenerType::SidecarInbound => PatchContext::SidecarInbound,
        OldListenerType::SidecarOutbound => PatchContext::SidecarOutbound,
        OldListenerType::Gateway => PatchContext::Gateway,
    };
    let written = ConfigPatch {
        apply_to: what,
        r#match: PatchMatch { context, listener: Some(listener), ..PatchMatch::default() },
        patch: api::istio::envoy_filter::Patch {
            operation,
            value: json!({ "name": filter_name, "config": filter_config }),
            filter_class: FilterClass::Unspecified,
        },
    };
    let speaks = match listener_match.listener_protocol {
        OldListenerProtocol::All => Speaks::Anything,
        OldListenerProtocol::Http => Speaks::Http,
        OldListenerProtocol::Tcp => Speaks::Bytes,
    };
    let patch = patch(object, field, &written, found)?;
    Some(Patch { speaks, addresses: listener_match.address.clone(), ..patch })
}
