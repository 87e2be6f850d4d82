//! A proxy as far as the control plane sees one.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use envoy::TypeUrl;
use envoy::ads::{Client, Offer};
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy::envoy::config::core::v3::Node;
use envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy::envoy::config::listener::v3::Listener;
use envoy::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy::istio::v1::auth::IstioCertificateRequest;
use envoy::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use futures::channel::mpsc;
use hyper_util::rt::TokioIo;
use pki::{Certificate, OwnRequest, SpiffeId};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use super::Workload;

const LARGEST_RESPONSE: usize = 64 << 20;
/// How long the network may take to have an address that the API tells already.
const REACH: Duration = Duration::from_secs(10);

/// Where the control plane is, and what its certificate must lead to.
pub(crate) struct ControlPlane {
    pub(crate) address: String,
    pub(crate) roots: String,
}

/// An answer that accepts something.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    /// The number of the proxy.
    pub(crate) proxy: usize,
    pub(crate) type_url: TypeUrl,
    pub(crate) at: Instant,
}

/// Where what happens to proxies is told.
pub(crate) type Events = UnboundedSender<anyhow::Result<Acknowledged>>;

impl ControlPlane {
    /// A connection, as nobody or as `client`.
    pub(crate) async fn connect(&self, client: Option<&Certificate>) -> anyhow::Result<Channel> {
        let tls: Arc<ClientConfig> = pki::client_config(&self.roots, client)?;
        let address = format!("{}:15012", self.address);
        let connect = tower::service_fn(move |_| {
            let (tls, address) = (TlsConnector::from(tls.clone()), address.clone());
            async move {
                let stream = reach(&address).await?;
                stream.set_nodelay(true)?;
                let name = "istiod.istio-system.svc".try_into().map_err(io::Error::other)?;
                Ok::<_, io::Error>(TokioIo::new(tls.connect(name, stream).await?))
            }
        });
        let endpoint = Endpoint::from_static("http://control-plane");
        endpoint.connect_with_connector(connect).await.context("cannot connect to the control plane")
    }
}

/// Connects to an address that the network may only be about to have.
async fn reach(address: &str) -> io::Result<TcpStream> {
    let begin = Instant::now();
    loop {
        match TcpStream::connect(address).await {
            Err(error) if error.kind() == io::ErrorKind::HostUnreachable && begin.elapsed() < REACH => {}
            outcome => return outcome,
        }
    }
}

/// Has a key certified for a workload, over a connection to its authority.
pub(crate) async fn certify(authority: &Channel, workload: &Workload, token: &str) -> anyhow::Result<Certificate> {
    let id = SpiffeId::new("cluster.local", &workload.namespace, "default")?;
    let own = OwnRequest::generate(&id)?;
    let message = IstioCertificateRequest { csr: own.request_pem().to_owned(), ..IstioCertificateRequest::default() };
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let answer = IstioCertificateServiceClient::new(authority.clone()).create_certificate(request).await?;
    let chain = answer.into_inner().cert_chain.iter().map(|pem| format!("{}\n", pem.trim())).collect();
    Ok(own.answered(chain)?.0)
}

/// How a proxy speaks with the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    Delta,
    StateOfTheWorld,
}

/// What a proxy has, by type and name: a hash of each resource. What two proxies with the same node have is the same.
pub(crate) type State = BTreeMap<(TypeUrl, String), u64>;

/// A proxy: who it is, and what it has.
pub(crate) struct Sidecar {
    pub(crate) number: usize,
    pub(crate) workload: Workload,
    state: Mutex<State>,
}

impl Sidecar {
    pub(crate) fn new(number: usize, workload: Workload) -> Arc<Sidecar> {
        Arc::new(Sidecar { number, workload, state: Mutex::default() })
    }

    /// Follows the control plane for ever, accepts all that it says, and tells of it.
    pub(crate) async fn run(self: Arc<Sidecar>, channel: Channel, variant: Variant, events: Events) {
        let service = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(LARGEST_RESPONSE);
        let ended = match variant {
            Variant::Delta => self.follow(service, &events).await,
            Variant::StateOfTheWorld => self.follow_world(service, &events).await,
        };
        if let Err(error) = ended {
            // When nobody listens any more, the measurement is over.
            drop(events.send(Err(error.context(format!("{:?}", self.workload)))));
        }
    }

    /// What it has now.
    pub(crate) fn state(&self) -> State {
        self.state.lock().expect("nobody panics with it").clone()
    }

    fn node(&self) -> Node {
        let Workload { namespace, pod, address } = &self.workload;
        let id = format!("sidecar~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local");
        Node { id, ..Node::default() }
    }

    fn tell(&self, events: &Events, type_url: TypeUrl) -> anyhow::Result<()> {
        Ok(events.send(Ok(Acknowledged { proxy: self.number, type_url, at: Instant::now() }))?)
    }

    async fn follow(&self, mut service: Service, events: &Events) -> anyhow::Result<()> {
        let mut client = Client::new(self.node());
        let (requests, outgoing) = mpsc::unbounded();
        for request in client.open() {
            requests.unbounded_send(request)?;
        }
        let mut responses = service.delta_aggregated_resources(outgoing).await?.into_inner();
        let mut discovered = BTreeSet::new();
        while let Some(response) = responses.message().await? {
            let offer = client.receive(response).context("something came that nobody asked for")?;
            let type_url = offer.type_url;
            if type_url == TypeUrl::Cluster {
                discover(&offer, &mut discovered)?;
            }
            self.take(&offer)?;
            requests.unbounded_send(client.answer(offer, &BTreeMap::new()))?;
            self.tell(events, type_url)?;
            if type_url == TypeUrl::Cluster
                && let Some(request) = client.want(TypeUrl::Endpoint, discovered.clone())
            {
                let mut state = self.state.lock().expect("nobody panics with it");
                state.retain(|(t, name), _| *t != TypeUrl::Endpoint || discovered.contains(name));
                requests.unbounded_send(request)?;
            }
        }
        bail!("the control plane has ended the stream")
    }

    fn take(&self, offer: &Offer) -> anyhow::Result<()> {
        let mut state = self.state.lock().expect("nobody panics with it");
        for name in &offer.removed {
            state.remove(&(offer.type_url, name.clone()));
        }
        for resource in &offer.resources {
            let message = resource.message.as_ref().context("a resource without a message")?;
            state.insert((offer.type_url, resource.name.clone()), hash(&message.value));
        }
        Ok(())
    }

    async fn follow_world(&self, mut service: Service, events: &Events) -> anyhow::Result<()> {
        let (requests, outgoing) = mpsc::unbounded();
        let ask = |type_url: TypeUrl| DiscoveryRequest {
            type_url: type_url.as_str().to_owned(),
            ..DiscoveryRequest::default()
        };
        requests.unbounded_send(DiscoveryRequest { node: Some(self.node()), ..ask(TypeUrl::Cluster) })?;
        requests.unbounded_send(ask(TypeUrl::Listener))?;
        let mut responses = service.stream_aggregated_resources(outgoing).await?.into_inner();
        let mut discovered = BTreeSet::new();
        // The last answer about endpoints, from which a new list of names begins.
        let mut endpoints = ask(TypeUrl::Endpoint);
        while let Some(response) = responses.message().await? {
            let type_url = TypeUrl::parse(&response.type_url).context("something came that nobody asked for")?;
            let clusters = self.take_world(type_url, &response)?;
            let mut answer = ask(type_url);
            (answer.version_info, answer.response_nonce) = (response.version_info, response.nonce);
            if type_url == TypeUrl::Endpoint {
                answer.resource_names = endpoints.resource_names;
                endpoints = answer.clone();
            }
            requests.unbounded_send(answer)?;
            self.tell(events, type_url)?;
            if type_url == TypeUrl::Cluster && clusters != discovered {
                endpoints.resource_names = clusters.iter().cloned().collect();
                requests.unbounded_send(endpoints.clone())?;
                let mut state = self.state.lock().expect("nobody panics with it");
                state.retain(|(t, name), _| *t != TypeUrl::Endpoint || clusters.contains(name));
                discovered = clusters;
            }
        }
        bail!("the control plane has ended the stream")
    }

    /// Takes a response; gives the clusters in it that have their endpoints asked for.
    fn take_world(&self, type_url: TypeUrl, response: &DiscoveryResponse) -> anyhow::Result<BTreeSet<String>> {
        let mut clusters = BTreeSet::new();
        let mut state = self.state.lock().expect("nobody panics with it");
        // Of these, a response has all that there are; of endpoints, it may have some.
        if type_url != TypeUrl::Endpoint {
            state.retain(|(t, _), _| *t != type_url);
        }
        for resource in &response.resources {
            let bytes = resource.value.as_slice();
            let name = match type_url {
                TypeUrl::Cluster => {
                    let cluster = Cluster::decode(bytes)?;
                    if is_discovered(&cluster) {
                        clusters.insert(cluster.name.clone());
                    }
                    cluster.name
                }
                TypeUrl::Listener => Listener::decode(bytes)?.name,
                TypeUrl::Endpoint => ClusterLoadAssignment::decode(bytes)?.cluster_name,
                other => bail!("{other} came, which nobody asked for"),
            };
            state.insert((type_url, name), hash(bytes));
        }
        Ok(clusters)
    }
}

type Service = AggregatedDiscoveryServiceClient<Channel>;

/// Opens a stream and reads nothing of it, for as long as what is returned lives.
pub(crate) async fn never_read(sidecar: &Sidecar, channel: Channel) -> anyhow::Result<impl Sized + use<>> {
    let mut client = Client::new(sidecar.node());
    let (requests, outgoing) = mpsc::unbounded();
    for request in client.open() {
        requests.unbounded_send(request)?;
    }
    let mut service = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(LARGEST_RESPONSE);
    let responses = service.delta_aggregated_resources(outgoing).await?.into_inner();
    Ok((requests, responses))
}

fn hash(message: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(message);
    hasher.finish()
}

/// Notes which clusters have their endpoints asked for.
fn discover(offer: &Offer, discovered: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for resource in &offer.resources {
        let message = resource.message.as_ref().context("a resource without a message")?;
        let cluster = Cluster::decode(message.value.as_slice())?;
        if is_discovered(&cluster) {
            discovered.insert(cluster.name);
        }
    }
    for name in &offer.removed {
        discovered.remove(name);
    }
    Ok(())
}

fn is_discovered(cluster: &Cluster) -> bool {
    cluster.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()))
}
