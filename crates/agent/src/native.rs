//! Our own proxy as the data plane, in this process.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use envoy::TypeUrl;
use envoy::envoy::config::core::v3::Node;
use envoy::envoy::config::core::v3::node::UserAgentVersionType;
use prost::Message;
use prost_types::{Any, ListValue, Struct, value::Kind};
use proxy::admin::Loggers;
use proxy::config::SecretSource;
use proxy::metrics::Workload;
use proxy::{Offered, Options, Proxy, Update};
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::control_plane::ControlPlane;
use crate::secret_table::{Entry, SecretTable};
use crate::settings::Settings;
use crate::{ADMIN_PORT, AgentError, Keys, Logging, METRICS_PORT, STATUS_PORT, listen};

/// How long a cluster waits for its first endpoints, as in Envoy.
const INITIAL_FETCH: Duration = Duration::from_secs(15);
/// How long connections of a filter chain that has gone may go on, as in Istio.
const DRAIN_TIME: Duration = Duration::from_secs(45);

/// How long the configuration has to stay as it is before a change of it is over.
const SETTLED: Duration = Duration::from_secs(5);

/// Starts the proxy.
pub(crate) fn start(settings: &Settings, logging: Logging) -> Result<Proxy, AgentError> {
    let data_plane =
        Options { workers: settings.workers, drain_time: DRAIN_TIME, workload: Arc::new(workload(settings)) };
    let loggers = Loggers::new(logging.reload);
    let initial_fetch_timeout = INITIAL_FETCH;
    Ok(Proxy::start(node(settings), proxy::Settings { data_plane, initial_fetch_timeout, loggers })?)
}

/// Runs the proxy until `terminate`, or until somebody asks it to end.
pub(crate) async fn run(
    proxy: &Proxy,
    settings: Settings,
    control_plane: ControlPlane,
    keys: Keys,
    settled: fn(),
    terminate: impl Future<Output = ()>,
) -> Result<ExitCode, AgentError> {
    let admin = listen(Ipv4Addr::LOCALHOST, ADMIN_PORT).await?;
    let status = listen(Ipv4Addr::UNSPECIFIED, STATUS_PORT).await?;
    let metrics = listen(Ipv4Addr::UNSPECIFIED, METRICS_PORT).await?;
    let ended = async {
        tokio::select! {
            () = terminate => {}
            () = proxy.quit_requested() => {}
        }
        proxy.stop(settings.drain).await;
    };
    tokio::select! {
        () = ended => Ok(ExitCode::SUCCESS),
        never = proxy.serve_admin(admin) => match never {},
        never = proxy.serve_status(status) => match never {},
        never = proxy.serve_status(metrics) => match never {},
        never = provide(proxy, &keys.table) => match never {},
        never = watch_changes(proxy, settled) => match never {},
        never = proxy.discover(|| connect(&control_plane, &keys)) => match never {},
    }
}

/// Calls `settled` after each burst of changes, for ever.
async fn watch_changes(proxy: &Proxy, settled: fn()) -> Infallible {
    let mut updates = proxy.updates();
    loop {
        // The sender is the proxy itself, which is there for as long as this runs.
        let _changed = updates.changed().await;
        while tokio::time::timeout(SETTLED, updates.changed()).await.is_ok() {}
        settled();
    }
}

/// A connection to the control plane with the certificate of this moment, once there is one.
async fn connect(control_plane: &ControlPlane, keys: &Keys) -> io::Result<TlsStream<TcpStream>> {
    let mut identity = keys.identity.subscribe();
    let current = identity.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
    control_plane.connect(current.as_ref().map(|identity| &identity.certificate)).await
}

/// Gives the proxy the secrets that its configuration wants from its agent, for ever.
async fn provide(proxy: &Proxy, table: &SecretTable) -> Infallible {
    let (mut wanted, mut entries) = (proxy.wanted(), table.subscribe());
    let mut given = BTreeMap::new();
    loop {
        let secrets = wanted.borrow_and_update().secrets.clone();
        let ours = secrets.iter().filter(|secret| matches!(secret.source, SecretSource::Cluster(_)));
        let names: Vec<String> = ours.map(|secret| secret.name.to_string()).collect();
        let news = news(&names, &entries.borrow_and_update(), &mut given);
        table.want(names);
        if !news.is_empty() {
            let update = Update { type_url: TypeUrl::Secret, resources: news, removed: Vec::new() };
            for (name, rejected) in proxy.apply(update) {
                tracing::error!("the secret {name} cannot be used: {rejected}");
            }
        }
        tokio::select! {
            _ = wanted.changed() => {}
            _ = entries.changed() => {}
        }
    }
}

/// What of the wanted secrets was not given yet in its version.
fn news(names: &[String], entries: &BTreeMap<String, Entry>, given: &mut BTreeMap<String, u64>) -> Vec<Offered> {
    given.retain(|name, _| names.contains(name));
    let known = names.iter().filter_map(|name| Some((name, entries.get(name)?)));
    let fresh = known.filter(|(name, entry)| given.insert((*name).clone(), entry.version) != Some(entry.version));
    let offered = |(name, entry): (&String, &Entry)| Offered {
        name: name.clone(),
        version: entry.version.to_string(),
        message: Some(Any { type_url: TypeUrl::Secret.as_str().to_owned(), value: entry.secret.encode_to_vec() }),
    };
    fresh.map(offered).collect()
}

fn node(settings: &Settings) -> Node {
    Node {
        id: settings.node_id(),
        cluster: settings.node_cluster(),
        metadata: Some(structure(&settings.metadata)),
        user_agent_name: "isthmus".to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(env!("CARGO_PKG_VERSION").to_owned())),
        ..Node::default()
    }
}

fn workload(settings: &Settings) -> Workload {
    let label = |name: &str| settings.labels.get(name).map_or("", String::as_str);
    let known = |name: &str| settings.metadata.get(name).and_then(Value::as_str).unwrap_or_default();
    let version = label("version");
    let first = |texts: [&str; 3]| texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default().into();
    Workload {
        name: known("WORKLOAD_NAME").into(),
        namespace: settings.pod.namespace.as_str().into(),
        principal: settings.id.to_string().into(),
        app: label("app").into(),
        version: version.into(),
        cluster: known("CLUSTER_ID").into(),
        canonical_service: first([label("service.istio.io/canonical-name"), label("app"), known("WORKLOAD_NAME")]),
        canonical_revision: first([label("service.istio.io/canonical-revision"), version, "latest"]),
    }
}

fn structure(map: &Map<String, Value>) -> Struct {
    Struct { fields: map.iter().map(|(name, value)| (name.clone(), converted(value))).collect() }
}

fn converted(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(converted).collect() }),
        Value::Object(map) => Kind::StructValue(structure(map)),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret_table::{OWN, ROOTS, trust};

    #[test]
    fn a_secret_is_given_once_for_each_version_for_as_long_as_it_is_wanted() {
        let table = SecretTable::default();
        table.put(trust(ROOTS, "one".to_owned()));
        let mut given = BTreeMap::new();
        let mut names = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            let news = news(&wanted, &table.subscribe().borrow(), &mut given);
            news.into_iter().map(|offered| offered.version).collect::<Vec<_>>()
        };
        assert_eq!(names(&[OWN, ROOTS]), ["1"], "what is not there is not given");
        assert!(names(&[OWN, ROOTS]).is_empty());
        table.put(trust(ROOTS, "two".to_owned()));
        assert_eq!(names(&[ROOTS]), ["2"]);
        assert!(names(&[]).is_empty());
        assert_eq!(names(&[ROOTS]), ["2"], "the proxy forgets what it does not want");
    }
}
