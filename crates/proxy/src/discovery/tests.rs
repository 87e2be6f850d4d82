//! Against a control plane of the same protocol's other end, over real sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy::TypeUrl;
use envoy::TypeUrl::{Cluster, Endpoint, Listener, Secret};
use envoy::ads::{Client, DeltaServer, Resource, Resources};
use envoy::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy::envoy::service::discovery::v3::{
    self as discovery, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use futures::channel::mpsc;
use futures::stream;
use prost::Message;
use testkit::until_async;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::wanted_of;
use crate::config::{SecretRef, SecretSource};
use crate::tests::{message, proxy};
use crate::{Proxy, Wanted};

const LIMIT: Duration = Duration::from_secs(20);
const EDS: &str = "name: c\ntype: EDS\neds_cluster_config: {eds_config: {ads: {}}}\n";
const PLAIN: &str = "name: d\n";

/// What the control plane has: type, name, version and resource.
type Content<'a> = &'a [(TypeUrl, &'a str, &'a str, &'a str)];

fn endpoints(port: u16) -> String {
    format!(
        "cluster_name: c\nendpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: \
         10.0.0.1, port_value: {port}}}}}}}}}]}}]\n"
    )
}

fn listener(cluster: &str) -> String {
    format!(
        "name: l\naddress: {{socket_address: {{address: 10.0.0.1, port_value: 1}}}}\nbind_to_port: false\n\
         filter_chains: [{{filters: [{{name: tcp, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: \
         {cluster}}}}}]}}]\n"
    )
}

fn snapshot(content: Content<'_>) -> envoy::ads::Snapshot {
    let mut types: BTreeMap<TypeUrl, Resources> = BTreeMap::new();
    for (type_url, name, version, yaml) in content {
        let resource = Resource::new(*type_url, name, version, &message(*type_url, yaml).value);
        types.entry(*type_url).or_default().insert((*name).into(), Arc::new(resource));
    }
    let mut snapshot = envoy::ads::Snapshot::default();
    types.into_iter().for_each(|(type_url, resources)| snapshot.add(type_url, Arc::new(resources)));
    snapshot
}

/// What went over the wire.
#[derive(Default)]
struct Wire {
    requests: Vec<DeltaDiscoveryRequest>,
    responses: Vec<DeltaDiscoveryResponse>,
}

/// A control plane on threads of its own, so that it can die with all its connections.
struct ControlPlane {
    address: SocketAddr,
    content: watch::Sender<envoy::ads::Snapshot>,
    wire: Arc<Mutex<Wire>>,
    runtime: Option<Runtime>,
}

impl ControlPlane {
    fn start(address: SocketAddr, content: Content<'_>) -> ControlPlane {
        let (sender, content) = watch::channel(snapshot(content));
        let wire = Arc::<Mutex<Wire>>::default();
        let service = AggregatedDiscoveryServiceServer::new(Service { content, wire: wire.clone() });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async move {
            let incoming = TcpIncoming::from(TcpListener::from_std(listener).unwrap());
            tonic::transport::Server::builder().serve_with_incoming(service, incoming).await.unwrap();
        });
        ControlPlane { address, content: sender, wire, runtime: Some(runtime) }
    }

    fn any_port(content: Content<'_>) -> ControlPlane {
        ControlPlane::start(([127, 0, 0, 1], 0).into(), content)
    }

    fn set(&self, content: Content<'_>) {
        self.content.send_replace(snapshot(content));
    }

    /// Ends it, and says where it was.
    fn kill(self) -> SocketAddr {
        self.address
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

struct Service {
    content: watch::Receiver<envoy::ads::Snapshot>,
    wire: Arc<Mutex<Wire>>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = stream::Empty<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = mpsc::UnboundedReceiver<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, stream) = mpsc::unbounded();
        let (mut requests, mut content, wire) = (request.into_inner(), self.content.clone(), self.wire.clone());
        tokio::spawn(async move {
            let mut server = DeltaServer::default();
            loop {
                tokio::select! {
                    request = requests.message() => {
                        let Ok(Some(request)) = request else { return };
                        server.hear(&request);
                        wire.lock().unwrap().requests.push(request);
                    }
                    changed = content.changed() => if changed.is_err() { return },
                }
                let snapshot = content.borrow_and_update().clone();
                for response in server.push(&snapshot) {
                    let bytes: Vec<u8> = response.encode().flatten().collect();
                    let response = DeltaDiscoveryResponse::decode(bytes.as_slice()).unwrap();
                    wire.lock().unwrap().responses.push(response.clone());
                    if responses.unbounded_send(Ok(response)).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(stream))
    }
}

/// A proxy that follows what is at `address`.
fn follow(address: SocketAddr, fetch_timeout: Duration) -> Arc<Proxy> {
    let proxy = Arc::new(proxy(fetch_timeout));
    let follower = proxy.clone();
    tokio::spawn(async move { follower.discover(|| TcpStream::connect(address)).await });
    proxy
}

async fn see<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    until_async(what, LIMIT, async || look()).await
}

#[tokio::test]
async fn the_first_configuration_goes_live_and_changes_follow() {
    let (l, e) = (listener("c"), endpoints(80));
    let first = [(Cluster, "c", "1", EDS), (Endpoint, "c", "1", &e), (Listener, "l", "1", &l)];
    let control = ControlPlane::any_port(&first);
    let proxy = follow(control.address, LIMIT);
    see("the first configuration", || proxy.is_ready().then_some(())).await;
    let snapshot = proxy.snapshot();
    assert_eq!(snapshot.endpoints_of(snapshot.cluster("c").unwrap()).unwrap().endpoints().count(), 1);
    assert!(snapshot.listener("l").is_some());
    control.set(&[(Cluster, "d", "1", PLAIN)]);
    see("the change", || {
        let now = proxy.snapshot();
        (now.cluster("d").is_some() && now.cluster("c").is_none() && now.listener("l").is_none()).then_some(())
    })
    .await;
    assert!(proxy.snapshot().endpoints().is_empty());
    let stats = proxy.counted().into_iter().map(|s| (s.full_name(), s.value)).collect::<BTreeMap<_, _>>();
    assert_eq!(stats["control_plane.connected_state"], 1);
    assert_eq!(stats["cluster_manager.active_clusters"], 1);
    // The first, the new cluster, and the end of the old one once no listener leads there any more.
    assert_eq!(stats["cluster_manager.cds.update_success"], 3);
}

#[tokio::test]
async fn what_is_refused_is_named_and_the_old_version_serves() {
    let l = listener("d");
    let control = ControlPlane::any_port(&[(Cluster, "d", "1", PLAIN), (Listener, "l", "1", &l)]);
    let proxy = follow(control.address, LIMIT);
    see("the first configuration", || proxy.is_ready().then_some(())).await;
    let before = proxy.snapshot();
    control.set(&[
        (Cluster, "d", "2", "name: d\nlb_policy: LOAD_BALANCING_POLICY_CONFIG\n"),
        (Cluster, "e", "1", "name: e\n"),
        (Listener, "l", "1", &l),
    ]);
    let error = see("the refusal", || {
        let wire = control.wire.lock().unwrap();
        wire.requests.iter().find_map(|r| r.error_detail.clone())
    })
    .await;
    assert!(error.message.starts_with("d: lb_policy: "), "{}", error.message);
    let after = proxy.snapshot();
    assert!(Arc::ptr_eq(before.cluster("d").unwrap(), after.cluster("d").unwrap()));
    assert!(after.cluster("e").is_some());
    assert!(proxy.is_ready());
}

#[tokio::test]
async fn a_control_plane_that_is_back_sends_only_what_has_changed() {
    let (l, e, moved) = (listener("c"), endpoints(80), endpoints(81));
    let first =
        [(Cluster, "c", "1", EDS), (Cluster, "d", "1", PLAIN), (Endpoint, "c", "1", &*e), (Listener, "l", "1", &*l)];
    let control = ControlPlane::any_port(&first);
    let proxy = follow(control.address, LIMIT);
    see("the first configuration", || proxy.is_ready().then_some(())).await;
    let before = proxy.snapshot();
    let address = control.kill();
    see("the loss", || (!proxy.state().is_connected()).then_some(())).await;
    assert!(proxy.is_ready() && proxy.snapshot().listener("l").is_some());

    let second = [(Cluster, "c", "1", EDS), (Endpoint, "c", "2", &*moved), (Listener, "l", "1", &*l)];
    let control = ControlPlane::start(address, &second);
    see("the removal of d", || proxy.snapshot().cluster("d").is_none().then_some(())).await;
    see("the new endpoint", || {
        let snapshot = proxy.snapshot();
        (&*snapshot.endpoints()["c"].version == "2").then_some(())
    })
    .await;
    let after = proxy.snapshot();
    assert!(Arc::ptr_eq(before.cluster("c").unwrap(), after.cluster("c").unwrap()));
    assert!(Arc::ptr_eq(before.listener("l").unwrap(), after.listener("l").unwrap()));
    let wire = control.wire.lock().unwrap();
    let versions = &wire.requests[0].initial_resource_versions;
    assert_eq!(versions.iter().map(|(n, v)| format!("{n}@{v}")).collect::<Vec<_>>(), ["c@1", "d@1"]);
    let sent: Vec<&str> = wire.responses.iter().flat_map(|r| &r.resources).map(|r| r.name.as_str()).collect();
    assert_eq!(sent, ["c"], "the endpoints of c, and nothing else");
}

#[tokio::test]
async fn endpoints_that_never_come_hold_nothing_up_for_ever() {
    let l = listener("c");
    let control = ControlPlane::any_port(&[(Cluster, "c", "1", EDS), (Listener, "l", "1", &l)]);
    let proxy = follow(control.address, Duration::from_millis(100));
    see("the listener", || proxy.snapshot().listener("l").cloned()).await;
    assert!(proxy.snapshot().endpoints().is_empty() && proxy.is_ready());
    control.set(&[(Cluster, "c", "1", EDS), (Endpoint, "c", "1", &endpoints(80)), (Listener, "l", "1", &l)]);
    see("the late endpoints", || proxy.snapshot().endpoints().contains_key("c").then_some(())).await;
}

#[test]
fn the_agents_secrets_are_not_taken_from_the_control_plane() {
    let mut client = Client::new(Default::default());
    client.want(Secret, ["ours".to_owned()].into());
    let resource = |name: &str| discovery::Resource { name: name.to_owned(), ..Default::default() };
    let response = DeltaDiscoveryResponse {
        type_url: Secret.as_str().to_owned(),
        resources: vec![resource("default"), resource("ours"), resource("stray")],
        removed_resources: vec!["default".to_owned()],
        ..Default::default()
    };
    let secret = |name: &str, source| SecretRef { name: name.into(), source, patience: None };
    let secrets = [secret("default", SecretSource::Cluster("sds-grpc".into())), secret("ours", SecretSource::Ads)];
    let wanted = Wanted { endpoints: [].into(), routes: [].into(), secrets: secrets.into() };
    let update = wanted_of(&client.receive(response).unwrap(), &wanted);
    assert_eq!(update.resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["ours"]);
    assert!(update.removed.is_empty());
}

#[tokio::test]
async fn what_new_clusters_need_is_asked_for_before_they_are_acknowledged() {
    let (l, e) = (listener("c"), endpoints(80));
    let control =
        ControlPlane::any_port(&[(Cluster, "c", "1", EDS), (Endpoint, "c", "1", &e), (Listener, "l", "1", &l)]);
    let proxy = follow(control.address, LIMIT);
    see("the first configuration", || proxy.is_ready().then_some(())).await;
    let wire = control.wire.lock().unwrap();
    let place = |is: &dyn Fn(&DeltaDiscoveryRequest) -> bool| wire.requests.iter().position(is).unwrap();
    let asked = place(&|r| TypeUrl::parse(&r.type_url) == Some(Endpoint) && !r.resource_names_subscribe.is_empty());
    let acknowledged = place(&|r| TypeUrl::parse(&r.type_url) == Some(Cluster) && !r.response_nonce.is_empty());
    assert!(asked < acknowledged, "{:?}", wire.requests);
}
