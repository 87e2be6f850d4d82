//! The objects behind what a proxy says.

use std::collections::BTreeSet;

use api::istio::{EnvoyFilter, Object};
use prost_types::value::Kind;
use proxy::config::{Cluster as Upstream, FilterChain, Metadata};
use proxy::rbac::Rules;
use xds::{Node, ObjectRef};

use super::explanation::Route;
use super::world::Cluster;

/// The object that a path of Istio's names: `/apis/GROUP/VERSION/namespaces/NAMESPACE/KIND/NAME`.
fn object(metadata: &Metadata) -> Option<String> {
    let parts: Vec<&str> = metadata.text("istio", "config")?.split('/').collect();
    let ["", "apis", _, _, "namespaces", namespace, kind, name] = parts.as_slice() else { return None };
    let kind: String = kind.split('-').map(capitalized).collect();
    Some(format!("{kind} {namespace}/{name}"))
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// The route of a request.
pub(super) fn route(route: &proxy::config::http::Route) -> Route {
    let rule = route.metadata.text("istio", "rule").map(str::to_owned);
    Route { name: route.name.to_string(), object: object(&route.metadata), rule }
}

/// The route of a connection, if an object has one for it.
pub(super) fn route_of_bytes(chain: &FilterChain) -> Option<Route> {
    let object = object(&chain.metadata)?;
    Some(Route { name: String::new(), object: Some(object), rule: None })
}

/// The Gateways that have opened a chain.
pub(super) fn gateways(chain: &FilterChain) -> Vec<String> {
    let Some(Kind::ListValue(list)) = chain.metadata.get("istio", "gateways").and_then(|v| v.kind.as_ref()) else {
        return Vec::new();
    };
    let texts = list.values.iter().filter_map(|value| match &value.kind {
        Some(Kind::StringValue(text)) => Some(format!("Gateway {text}")),
        _ => None,
    });
    texts.collect()
}

/// The object that says how a cluster is called.
pub(super) fn destination_rule(upstream: &Upstream) -> Option<String> {
    object(&upstream.metadata)
}

/// The object of a policy in a proxy, with the rule if it has several.
pub(super) fn rule(cluster: &Cluster, node: &Node, id: &str) -> String {
    if let Some((namespace, policy, index)) = parsed(id) {
        return format!("AuthorizationPolicy {namespace}/{policy} rule {index}");
    }
    let role = cluster
        .objects
        .service_roles
        .iter()
        .find(|role| role.metadata.name == id && role.metadata.namespace == node.namespace);
    match role.map(|role| ObjectRef::of(role)).or_else(|| patch(cluster, node, id)) {
        Some(object) if object.kind == "EnvoyFilter" => format!("{object} policy {id:?}"),
        Some(object) => object.to_string(),
        None => format!("policy {id:?}"),
    }
}

/// The parts of `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`.
fn parsed(id: &str) -> Option<(&str, &str, &str)> {
    let inner = id.strip_prefix("ns[")?.strip_suffix(']')?;
    let (namespace, rest) = inner.split_once("]-policy[")?;
    let (policy, index) = rest.rsplit_once("]-rule[")?;
    Some((namespace, policy, index))
}

/// The EnvoyFilter that has brought a policy.
fn patch(cluster: &Cluster, node: &Node, id: &str) -> Option<ObjectRef> {
    let quoted = format!("{id:?}:");
    let found = patches(cluster, node).find(|filter| values(filter).any(|value| value.contains(&quoted)));
    found.map(ObjectRef::of)
}

/// The EnvoyFilters for a node.
fn patches<'c>(cluster: &'c Cluster, node: &'c Node) -> impl Iterator<Item = &'c Object<EnvoyFilter>> {
    let root = cluster.mesh.config().root_namespace.as_str();
    let all = cluster.objects.envoy_filters.iter().map(AsRef::as_ref);
    all.filter(move |filter: &&Object<EnvoyFilter>| {
        let here = [root, node.namespace.as_str()].contains(&filter.metadata.namespace.as_str());
        here && api::istio::includes(&node.labels, filter.spec.labels())
    })
}

fn values(filter: &Object<EnvoyFilter>) -> impl Iterator<Item = String> {
    let new = filter.spec.config_patches.iter().map(|patch| patch.patch.value.to_string());
    new.chain(filter.spec.filters.iter().map(|filter| filter.filter_config.to_string()))
}

/// The objects that let nobody in who is not named, as rules that have refused somebody tell.
pub(super) fn guards(cluster: &Cluster, node: &Node, rules: Option<&Rules>) -> Vec<String> {
    let policies = rules.map(|rules| &rules.policies[..]).unwrap_or_default();
    let whole = |id: &str| match parsed(id) {
        Some((namespace, policy, _)) => format!("AuthorizationPolicy {namespace}/{policy}"),
        None => rule(cluster, node, id),
    };
    let named: BTreeSet<String> = policies.iter().map(|policy| whole(&policy.name)).collect();
    if !named.is_empty() {
        return named.into_iter().collect();
    }
    // Rules without policies are those of roles of which none is for the workload, or of a patch that refuses everybody.
    let patches = patches(cluster, node).filter(|filter| values(filter).any(|value| value.contains("rbac")));
    let patches: Vec<String> = patches.map(|filter| ObjectRef::of(filter).to_string()).collect();
    let configs = cluster.objects.cluster_rbac_configs.iter().map(|config| ObjectRef::of(config).to_string());
    let older = cluster.objects.rbac_configs.iter().map(|config| ObjectRef::of(config).to_string());
    if patches.is_empty() { configs.chain(older).collect() } else { patches }
}
