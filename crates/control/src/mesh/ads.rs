//! The gRPC services of the mesh's port.

use std::convert::Infallible;
use std::task::{Context, Poll};

use envoy::ads::{DeltaServer, StateOfTheWorldServer};
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codec::Codec;
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::ControlPlane;
use super::peer::Peer;
use super::responses::Responses;
use super::stream::{self, Protocol};

const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const CERTIFY: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
const STATE_OF_THE_WORLD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// The largest request: one that lists the versions of some 100,000 resources.
const LARGEST_REQUEST: usize = 16 << 20;

/// Chooses the service by path.
#[derive(Clone)]
pub(super) struct Services {
    pub(super) plane: ControlPlane,
}

impl tower::Service<http::Request<Body>> for Services {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let plane = self.plane.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                DELTA => discover::<DeltaServer>(plane, request).await,
                STATE_OF_THE_WORLD => discover::<StateOfTheWorldServer>(plane, request).await,
                CERTIFY => return plane.authority().service().call(request).await,
                path => Status::unimplemented(format!("there is no {path}")).into_http(),
            })
        })
    }
}

/// Begins a stream. The way back is written by [`Responses`], because tonic would keep, for each stream, a buffer as long
/// as the longest response.
async fn discover<P: Protocol>(plane: ControlPlane, request: http::Request<Body>) -> http::Response<Body> {
    let (head, body) = request.into_parts();
    let peer = head.extensions.get::<Peer>().and_then(|Peer(peer)| peer.clone());
    let Some(peer) = peer else {
        return Status::unauthenticated("a proxy must show its workload's certificate").into_http();
    };
    let decoder = ProstCodec::<P::Request, P::Request>::default().decoder();
    let requests = Streaming::new_request(decoder, body, None, Some(LARGEST_REQUEST));
    // One response waits while another is written: what changes meanwhile is sent as one.
    let (sink, responses) = mpsc::channel(1);
    tokio::spawn(stream::run::<P>(plane, peer, requests, sink));
    let mut response = http::Response::new(Body::new(Responses::new(responses)));
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}
