//! A sidecar as the control plane sees it: mutual TLS, the incremental protocol, and what it has been told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy::TypeUrl;
use envoy::ads::Client;
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy::envoy::config::core::v3::Node;
use envoy::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use hyper_util::rt::TokioIo;
use pki::{Certificate, MeshAuthority, OwnRequest, SigningRequest, SpiffeId};
use prost::Message;
use prost_types::Any;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

const LIMIT: Duration = Duration::from_secs(20);

/// A response as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) type_url: TypeUrl,
    pub(crate) names: Vec<String>,
    pub(crate) removed: Vec<String>,
}

/// What a proxy has been told, and by what it refuses.
#[derive(Default)]
struct State {
    log: Vec<Told>,
    held: BTreeMap<(TypeUrl, String), Any>,
    /// A resource whose name has this is refused.
    refuses: Option<String>,
    ended: Option<Status>,
}

/// A proxy that acknowledges what it is told, and asks for the endpoints of its clusters.
pub(crate) struct Proxy {
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<Client>,
    hang_up: mpsc::Sender<()>,
}

/// A workload's certificate.
pub(crate) fn svid(authority: &MeshAuthority, id: &str) -> Certificate {
    let id: SpiffeId = id.parse().unwrap();
    let request = OwnRequest::generate(&id).unwrap();
    let parsed = SigningRequest::parse(request.request_pem()).unwrap();
    let chain = authority.sign(&parsed, &id, None).unwrap();
    request.answered(chain.concat()).unwrap().0
}

pub(crate) async fn channel(
    address: SocketAddr,
    roots_pem: &str,
    certificate: Option<&Certificate>,
) -> Result<Channel, tonic::transport::Error> {
    let tls = pki::client_config(roots_pem, certificate).unwrap();
    let connect = tower::service_fn(move |_| {
        let tls = TlsConnector::from(tls.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = "istiod.istio-system.svc".try_into().unwrap();
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    Endpoint::from_static("http://istiod.istio-system.svc").connect_with_connector(connect).await
}

pub(crate) fn node(namespace: &str, pod: &str) -> Node {
    Node { id: format!("sidecar~10.33.1.1~{pod}.{namespace}~{namespace}.svc.cluster.local"), ..Node::default() }
}

impl Proxy {
    /// Connects, or says how the control plane refused.
    pub(crate) async fn connect(channel: Channel, mut client: Client) -> Result<Proxy, Status> {
        let (sender, requests) = mpsc::channel(16);
        for request in client.open() {
            sender.send(request).await.unwrap();
        }
        let requests = futures::stream::unfold(requests, async |mut requests: mpsc::Receiver<_>| {
            requests.recv().await.map(|request| (request, requests))
        });
        let mut discovery = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let responses = discovery.delta_aggregated_resources(Box::pin(requests)).await?.into_inner();
        let state = Arc::<Mutex<State>>::default();
        let (hang_up, hung_up) = mpsc::channel(1);
        let task = tokio::spawn(follow(client, sender, responses, state.clone(), hung_up));
        Ok(Proxy { state, task, hang_up })
    }

    /// Waits until the proxy holds a resource whose name has `part`.
    pub(crate) async fn until_held(&self, type_url: TypeUrl, part: &str) {
        let held = async || self.names(type_url).iter().any(|name| name.contains(part)).then_some(());
        testkit::until_async(&format!("{type_url} {part}"), LIMIT, held).await;
    }

    pub(crate) fn names(&self, type_url: TypeUrl) -> BTreeSet<String> {
        let state = self.state.lock().unwrap();
        state.held.keys().filter(|(t, _)| *t == type_url).map(|(_, name)| name.clone()).collect()
    }

    /// A resource that it holds.
    pub(crate) fn get<M: Message + Default>(&self, type_url: TypeUrl, name: &str) -> M {
        let state = self.state.lock().unwrap();
        M::decode(state.held[&(type_url, name.to_owned())].value.as_slice()).unwrap()
    }

    /// What it has been told since it was last asked.
    pub(crate) fn take_log(&self) -> Vec<Told> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }

    /// Waits until it has been told something, which is returned.
    pub(crate) async fn until_told(&self) -> Vec<Told> {
        let told = async || Some(self.take_log()).filter(|log| !log.is_empty());
        testkit::until_async("something to be told", LIMIT, told).await
    }

    pub(crate) fn refuse(&self, part: &str) {
        self.state.lock().unwrap().refuses = Some(part.to_owned());
    }

    /// Waits until the control plane ends the stream, and says why.
    pub(crate) async fn until_ended(&self) -> Status {
        let ended = async || self.state.lock().unwrap().ended.clone();
        testkit::until_async("the stream's end", LIMIT, ended).await
    }

    /// Ends the stream and gives back what remembers the versions.
    pub(crate) async fn hang_up(self) -> Client {
        // The stream may have ended by itself.
        let _ended = self.hang_up.send(()).await;
        self.task.await.unwrap()
    }
}

async fn follow(
    mut client: Client,
    sender: mpsc::Sender<DeltaDiscoveryRequest>,
    mut responses: Streaming<DeltaDiscoveryResponse>,
    state: Arc<Mutex<State>>,
    mut hung_up: mpsc::Receiver<()>,
) -> Client {
    loop {
        let message = tokio::select! {
            message = responses.message() => message,
            _ = hung_up.recv() => return client,
        };
        let response = match message {
            Ok(Some(response)) => response,
            Ok(None) => return client,
            Err(status) => {
                state.lock().unwrap().ended = Some(status);
                return client;
            }
        };
        let requests = take(&mut client, response, &mut state.lock().unwrap());
        for request in requests {
            // The stream may have ended.
            let _ended = sender.send(request).await;
        }
    }
}

fn take(client: &mut Client, response: DeltaDiscoveryResponse, state: &mut State) -> Vec<DeltaDiscoveryRequest> {
    let offer = client.receive(response).expect("only what was asked for comes");
    let type_url = offer.type_url;
    let mut names: Vec<String> = offer.resources.iter().map(|r| r.name.clone()).collect();
    names.sort();
    state.log.push(Told { type_url, names, removed: offer.removed.clone() });
    let mut rejected = BTreeMap::new();
    for resource in &offer.resources {
        match &state.refuses {
            Some(part) if resource.name.contains(part) => drop(rejected.insert(resource.name.clone(), "no".to_owned())),
            _ => drop(state.held.insert((type_url, resource.name.clone()), resource.message.clone().unwrap())),
        }
    }
    for name in &offer.removed {
        state.held.remove(&(type_url, name.clone()));
    }
    let mut requests = vec![client.answer(offer, &rejected)];
    if type_url == TypeUrl::Cluster {
        requests.extend(client.want(TypeUrl::Endpoint, discovered(state)));
    }
    requests
}

/// The names of the clusters whose endpoints are asked for.
fn discovered(state: &State) -> BTreeSet<String> {
    let clusters = state.held.iter().filter(|((t, _), _)| *t == TypeUrl::Cluster);
    let eds = clusters.filter(|(_, any)| {
        let cluster = Cluster::decode(any.value.as_slice()).unwrap();
        cluster.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()))
    });
    eds.map(|((_, name), _)| name.clone()).collect()
}
