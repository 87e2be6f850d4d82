//! A control plane that has certificates and nothing else, and replaces them.

use std::net::SocketAddr;
use std::sync::Arc;

use envoy::TypeUrl;
use envoy::ads::{DeltaServer, Resource, Resources, Snapshot};
use envoy::envoy::config::core::v3::DataSource;
use envoy::envoy::config::core::v3::data_source::Specifier;
use envoy::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate};
use envoy::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use futures::channel::mpsc;
use futures::stream::Empty;
use prost::Message;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::certificates::{Identity, host};

/// Serves until it is dropped, on a thread of its own: proxies that are waited for wait for it.
pub(crate) struct Secrets {
    pub(crate) address: SocketAddr,
    _runtime: Runtime,
    content: watch::Sender<Snapshot>,
}

impl Secrets {
    pub(crate) fn start(identities: &[Identity]) -> anyhow::Result<Secrets> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let (content, receiver) = watch::channel(snapshot(identities, 1));
        let service = AggregatedDiscoveryServiceServer::new(Service { content: receiver });
        runtime.spawn(Server::builder().serve_with_incoming(service, TcpIncoming::from(listener)));
        Ok(Secrets { address, _runtime: runtime, content })
    }

    /// Has new certificates for all names.
    pub(crate) fn replace(&self, identities: &[Identity], version: u32) {
        self.content.send_replace(snapshot(identities, version));
    }
}

fn snapshot(identities: &[Identity], version: u32) -> Snapshot {
    let inline = |text: &str| {
        Some(DataSource { specifier: Some(Specifier::InlineString(text.to_owned())), ..DataSource::default() })
    };
    let mut secrets = Resources::new();
    for (n, identity) in identities.iter().enumerate() {
        let certificate = TlsCertificate {
            certificate_chain: inline(&identity.certificate),
            private_key: inline(&identity.key),
            ..TlsCertificate::default()
        };
        let secret = Secret { name: host(n), r#type: Some(Type::TlsCertificate(certificate)) };
        let resource = Resource::new(TypeUrl::Secret, &host(n), &version.to_string(), &secret.encode_to_vec());
        secrets.insert(host(n).into(), Arc::new(resource));
    }
    let mut snapshot = Snapshot::default();
    snapshot.add(TypeUrl::Secret, Arc::new(secrets));
    snapshot
}

struct Service {
    content: watch::Receiver<Snapshot>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Empty<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = mpsc::UnboundedReceiver<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("both programs speak the incremental variant"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, stream) = mpsc::unbounded();
        let serving = serve(request.into_inner(), self.content.clone(), responses);
        // A proxy that ends ends its stream.
        tokio::spawn(async { drop(serving.await) });
        Ok(Response::new(stream))
    }
}

async fn serve(
    mut requests: Streaming<DeltaDiscoveryRequest>,
    mut content: watch::Receiver<Snapshot>,
    responses: mpsc::UnboundedSender<Result<DeltaDiscoveryResponse, Status>>,
) -> anyhow::Result<()> {
    let mut server = DeltaServer::default();
    loop {
        tokio::select! {
            request = requests.message() => match request? {
                Some(request) => drop(server.hear(&request)),
                None => return Ok(()),
            },
            changed = content.changed() => changed?,
        }
        let snapshot = content.borrow_and_update().clone();
        for response in server.push(&snapshot) {
            let bytes: Vec<u8> = response.encode().flatten().collect();
            responses.unbounded_send(Ok(DeltaDiscoveryResponse::decode(bytes.as_slice())?))?;
        }
    }
}
