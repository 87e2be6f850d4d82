//! A proxy as far as the control plane sees one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use envoy::TypeUrl;
use envoy::ads::{Client, Offer};
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy::envoy::config::core::v3::Node;
use envoy::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
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

/// Follows the control plane for ever, accepts all that it says, and tells of it.
pub(crate) async fn run(number: usize, workload: Workload, channel: Channel, events: Events) {
    if let Err(error) = follow(number, &workload, channel, &events).await {
        // When nobody listens any more, the measurement is over.
        drop(events.send(Err(error.context(format!("{workload:?}")))));
    }
}

async fn follow(number: usize, workload: &Workload, channel: Channel, events: &Events) -> anyhow::Result<()> {
    let Workload { namespace, pod, address } = workload;
    let id = format!("sidecar~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local");
    let mut client = Client::new(Node { id, ..Node::default() });
    let (requests, outgoing) = mpsc::unbounded();
    for request in client.open() {
        requests.unbounded_send(request)?;
    }
    let mut service = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(LARGEST_RESPONSE);
    let mut responses = service.delta_aggregated_resources(outgoing).await?.into_inner();
    let mut discovered = BTreeSet::new();
    while let Some(response) = responses.message().await? {
        let offer = client.receive(response).context("something came that nobody asked for")?;
        let type_url = offer.type_url;
        if type_url == TypeUrl::Cluster {
            discover(&offer, &mut discovered)?;
        }
        requests.unbounded_send(client.answer(offer, &BTreeMap::new()))?;
        events.send(Ok(Acknowledged { proxy: number, type_url, at: Instant::now() }))?;
        if type_url == TypeUrl::Cluster
            && let Some(request) = client.want(TypeUrl::Endpoint, discovered.clone())
        {
            requests.unbounded_send(request)?;
        }
    }
    bail!("the control plane has ended the stream")
}

/// Notes which clusters have their endpoints asked for.
fn discover(offer: &Offer, discovered: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for resource in &offer.resources {
        let message = resource.message.as_ref().context("a resource without a message")?;
        let cluster = Cluster::decode(message.value.as_slice())?;
        if cluster.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())) {
            discovered.insert(cluster.name);
        }
    }
    for name in &offer.removed {
        discovered.remove(name);
    }
    Ok(())
}
