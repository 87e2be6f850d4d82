//! One proxy's stream: what it asks, and what it does not have yet.

use std::time::Duration;

use envoy::TypeUrl;
use envoy::ads::{DeltaServer, Encoding, Heard, Snapshot, StateOfTheWorldServer};
use envoy::envoy::config::core::v3::Node;
use envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use pki::SpiffeId;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::ControlPlane;
use super::identity;
use super::metrics::Metrics;
use super::proxies::Proxy;

/// How long a proxy may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// How long a proxy may leave what it was sent unread.
const UNREAD: Duration = Duration::from_secs(30);

/// Either variant of the protocol.
pub(super) trait Protocol: Default + Send + 'static {
    type Request: prost::Message + Default + 'static;

    fn node(request: &Self::Request) -> Option<&Node>;
    fn nonce(request: &Self::Request) -> &str;
    fn hear(&mut self, request: &Self::Request) -> Heard;
    fn push(&mut self, snapshot: &Snapshot) -> impl Iterator<Item = Response> + Send;
    /// Whether the last push left something for when the proxy has answered.
    fn holds_back(&self) -> bool;
}

/// A response.
pub(super) struct Response {
    type_url: TypeUrl,
    nonce: String,
    encoding: Encoding,
}

impl Protocol for DeltaServer {
    type Request = DeltaDiscoveryRequest;

    fn node(request: &DeltaDiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    fn nonce(request: &DeltaDiscoveryRequest) -> &str {
        &request.response_nonce
    }

    fn hear(&mut self, request: &DeltaDiscoveryRequest) -> Heard {
        DeltaServer::hear(self, request)
    }

    fn push(&mut self, snapshot: &Snapshot) -> impl Iterator<Item = Response> + Send {
        DeltaServer::push(self, snapshot).into_iter().map(|response| Response {
            type_url: response.type_url,
            nonce: response.nonce.clone(),
            encoding: response.encode(),
        })
    }

    fn holds_back(&self) -> bool {
        DeltaServer::holds_back(self)
    }
}

impl Protocol for StateOfTheWorldServer {
    type Request = DiscoveryRequest;

    fn node(request: &DiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    fn nonce(request: &DiscoveryRequest) -> &str {
        &request.response_nonce
    }

    fn hear(&mut self, request: &DiscoveryRequest) -> Heard {
        StateOfTheWorldServer::hear(self, request)
    }

    fn push(&mut self, snapshot: &Snapshot) -> impl Iterator<Item = Response> + Send {
        StateOfTheWorldServer::push(self, snapshot).into_iter().map(|response| Response {
            type_url: response.type_url,
            nonce: response.nonce.clone(),
            encoding: response.encode(),
        })
    }

    fn holds_back(&self) -> bool {
        StateOfTheWorldServer::holds_back(self)
    }
}

/// The way back to a proxy.
pub(super) type Sink = mpsc::Sender<Result<Encoding, Status>>;

/// Serves one stream until either side ends it.
pub(super) async fn run<P: Protocol>(plane: ControlPlane, peer: SpiffeId, requests: Streaming<P::Request>, sink: Sink) {
    if let Err(status) = serve::<P>(&plane, &peer, requests, &sink).await {
        info!(%peer, %status, "a proxy's stream ends");
        // The proxy may have gone.
        let _unread = sink.send(Err(status)).await;
    }
}

async fn serve<P: Protocol>(
    plane: &ControlPlane,
    peer: &SpiffeId,
    mut requests: Streaming<P::Request>,
    sink: &Sink,
) -> Result<(), Status> {
    let first = timeout(INTRODUCTION, requests.message());
    let first = first.await.map_err(|_| Status::deadline_exceeded("the first request has not come"))??;
    let Some(first) = first else { return Ok(()) };
    let node = P::node(&first).ok_or_else(|| Status::invalid_argument("the first request must name the node"))?;
    let connected = identity::admit(plane, peer, node).await?;
    let proxy = &*connected.proxy;
    let talk = talk::<P>(proxy, first, requests, sink, &plane.0.metrics);
    tokio::select! {
        ended = talk => ended,
        () = proxy.gone() => Err(Status::permission_denied(format!("the pod {} is gone", proxy.pod))),
        () = sink.closed() => Ok(()),
    }
}

async fn talk<P: Protocol>(
    proxy: &Proxy,
    first: P::Request,
    mut requests: Streaming<P::Request>,
    sink: &Sink,
    metrics: &Metrics,
) -> Result<(), Status> {
    let mut protocol = P::default();
    let mut told = proxy.told();
    let mut due = hear(&mut protocol, proxy, &first, metrics);
    loop {
        if due {
            let snapshot = told.borrow_and_update().clone();
            if let Some(snapshot) = snapshot {
                send(proxy, protocol.push(&snapshot), sink, metrics).await?;
                due = false;
                if !protocol.holds_back()
                    && let Some(time) = proxy.has_converged()
                {
                    metrics.converged(time);
                }
            }
        }
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => due |= hear(&mut protocol, proxy, &request, metrics),
                Ok(None) => return Ok(()),
                Err(status) => {
                    debug!(pod = %proxy.pod, %status, "a proxy is cut off");
                    return Ok(());
                }
            },
            changed = told.changed() => due |= changed.is_ok(),
        }
    }
}

/// Takes a request in; whether an answer may be due.
fn hear<P: Protocol>(protocol: &mut P, proxy: &Proxy, request: &P::Request, metrics: &Metrics) -> bool {
    match protocol.hear(request) {
        Heard::Subscribed(type_url) => {
            proxy.dialogues().entry(type_url).or_default();
            return true;
        }
        Heard::Acknowledged(type_url) => {
            proxy.dialogues().entry(type_url).or_default().acknowledged = P::nonce(request).to_owned();
            return protocol.holds_back();
        }
        Heard::Rejected(type_url, reason) => {
            warn!(pod = %proxy.pod, %type_url, reason, "a proxy refuses its configuration and keeps what it had");
            metrics.rejected(type_url);
            let mut dialogues = proxy.dialogues();
            let dialogue = dialogues.entry(type_url).or_default();
            dialogue.rejected = P::nonce(request).to_owned();
            dialogue.reason = reason;
            return protocol.holds_back();
        }
        Heard::Stale(type_url) => debug!(pod = %proxy.pod, %type_url, "an answer to a response that was superseded"),
        Heard::Unknown(type_url) => debug!(pod = %proxy.pod, type_url, "a type that is not served"),
    }
    false
}

async fn send(
    proxy: &Proxy,
    responses: impl Iterator<Item = Response>,
    sink: &Sink,
    metrics: &Metrics,
) -> Result<(), Status> {
    for Response { type_url, nonce, encoding } in responses {
        metrics.pushed(type_url, encoding.length());
        proxy.dialogues().entry(type_url).or_default().sent = nonce;
        match timeout(UNREAD, sink.send(Ok(encoding))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Status::deadline_exceeded("what was sent has not been read")),
        }
    }
    Ok(())
}
