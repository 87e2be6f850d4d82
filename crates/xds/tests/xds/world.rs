//! Objects, and what a node is told of them.

use std::path::{Path, PathBuf};

use api::NamespacedName;
use envoy::envoy::config::listener::v3::{Filter, FilterChain, filter::ConfigType};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use prost::Message;
use serde_json::Value;
use xds::{Locality, Mesh, Node, Objects, Resources, Role};

/// Two namespaces: `foo` with a client and a server with a proxy, `legacy` with a client without.
pub(crate) const BASE: &str = include_str!("../../testdata/base.yaml");

/// The objects of BASE with more.
pub(crate) fn world(more: &str) -> Mesh {
    Mesh::new(&objects(&[documents(BASE), documents(more)].concat()))
}

pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

pub(crate) fn objects(documents: &[Value]) -> Objects {
    let mut objects = Objects::default();
    documents.iter().for_each(|document| objects.insert(document.clone()));
    objects
}

pub(crate) fn node(name: &str) -> Node {
    let labels = [("app".to_owned(), name.to_owned())].into();
    let (name, namespace) = (name.to_owned(), "foo".to_owned());
    Node { name, namespace, labels, locality: Locality::parse("eu/a"), role: Role::Sidecar }
}

/// What a pod is told that is in the world itself.
pub(crate) fn told_pod(mesh: &Mesh, namespace: &str, name: &str) -> Resources {
    xds::build(mesh, &mesh.node(&NamespacedName::new(namespace, name)).unwrap())
}

/// What the pod `foo/NAME` is told, in a world of BASE and more.
pub(crate) fn told(name: &str, more: &str) -> Resources {
    xds::build(&world(more), &node(name))
}

/// Everything that was found about the objects and the node, one line each.
pub(crate) fn found(name: &str, more: &str) -> Vec<String> {
    let mesh = world(more);
    let resources = xds::build(&mesh, &node(name));
    mesh.diagnostics().union(&resources.diagnostics).map(ToString::to_string).collect()
}

#[track_caller]
pub(crate) fn assert_found(name: &str, more: &str, expected: &str) {
    let found = found(name, more);
    assert!(found.iter().any(|f| f.contains(expected)), "{expected:?} is not in {found:#?}");
}

/// The chains of a listener, in a line each: what they match, whether they terminate TLS, and the names of the filters.
pub(crate) fn chains(resources: &Resources, listener: &str) -> Vec<String> {
    let listener = &resources.listeners[listener];
    let chains = listener.filter_chains.iter().map(|c| chain(c, ""));
    chains.chain(listener.default_filter_chain.iter().map(|c| chain(c, "default "))).collect()
}

fn chain(chain: &FilterChain, prefix: &str) -> String {
    let condition = chain.filter_chain_match.clone().unwrap_or_default();
    let mut parts = vec![format!("{prefix}{}:", chain.name)];
    parts.extend(condition.destination_port.map(|p| format!("port={p}")));
    parts.extend(
        condition.prefix_ranges.iter().map(|r| format!("to={}/{}", r.address_prefix, r.prefix_len.unwrap_or_default())),
    );
    parts.extend(condition.server_names.iter().map(|n| format!("sni={n}")));
    if !condition.transport_protocol.is_empty() {
        parts.push(condition.transport_protocol);
    }
    let protocols = condition.application_protocols.join(",");
    let alpn = match protocols.as_str() {
        "" => None,
        "istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2" => Some("alpn".to_owned()),
        some => Some(format!("alpn={some}")),
    };
    parts.extend(alpn);
    parts.extend(chain.transport_socket.as_ref().map(|_| "mtls".to_owned()));
    parts.extend(chain.filters.iter().map(filter));
    parts.join(" ")
}

/// The last part of a filter's name, with those of the filters of requests inside.
fn filter(filter: &Filter) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap().to_owned();
    let name = last(&filter.name);
    match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) if name == "http_connection_manager" => {
            let manager = HttpConnectionManager::decode(any.value.as_slice()).unwrap();
            let inside: Vec<String> = manager.http_filters.iter().map(|f| last(&f.name)).collect();
            format!("{name}({})", inside.join(" "))
        }
        _ => name,
    }
}

pub(crate) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// The folders of testdata, each a case.
pub(crate) fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(testdata()).unwrap().map(|e| e.unwrap().path());
    let mut cases: Vec<_> = entries.filter(|p| p.is_dir()).collect();
    cases.sort();
    cases
}

/// The resources of a case: those of the pod `foo/NAME`, where NAME is after `# node: ` in the first line, or of the pod
/// NAMESPACE/NAME of the case itself that is after `# pod: `.
pub(crate) fn case(folder: &Path) -> (Mesh, Resources) {
    let input = std::fs::read_to_string(folder.join("in.yaml")).unwrap();
    let (mesh, first) = (world(&input), input.lines().next().unwrap());
    let resources = match first.strip_prefix("# pod: ").and_then(|name| name.split_once('/')) {
        Some((namespace, name)) => told_pod(&mesh, namespace, name),
        None => xds::build(&mesh, &node(first.strip_prefix("# node: ").unwrap())),
    };
    (mesh, resources)
}

/// The objects of a case.
pub(crate) fn case_of(name: &str) -> Mesh {
    world(&text_of(name))
}

/// The same as they are written.
pub(crate) fn text_of(name: &str) -> String {
    std::fs::read_to_string(testdata().join(name).join("in.yaml")).unwrap()
}
