//! The gRPC services of the mesh's port.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes};
use envoy::ads::{DeltaServer, StateOfTheWorldServer};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use prost::Message;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::{ProstCodec, ProstDecoder};

use super::ControlPlane;
use super::peer::Peer;
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

async fn discover<P: Protocol>(plane: ControlPlane, request: http::Request<Body>) -> http::Response<Body> {
    let mut grpc = Grpc::new(Encoded::<P::Request>(PhantomData)).max_decoding_message_size(LARGEST_REQUEST);
    grpc.streaming(Discovery::<P>(plane, PhantomData), request).await
}

/// The discovery service in one variant of the protocol.
struct Discovery<P>(ControlPlane, PhantomData<P>);

impl<P: Protocol> StreamingService<P::Request> for Discovery<P> {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<P::Request>>) -> Self::Future {
        let plane = self.0.clone();
        Box::pin(async move {
            let Peer(peer) = request.extensions().get().cloned().unwrap_or_default();
            let peer = peer.ok_or_else(|| Status::unauthenticated("a proxy must show its workload's certificate"))?;
            // One response waits while another is written: what changes meanwhile is sent as one.
            let (sink, mut responses) = mpsc::channel(1);
            tokio::spawn(stream::run::<P>(plane, peer, request.into_inner(), sink));
            let responses = futures::stream::poll_fn(move |context| responses.poll_recv(context));
            Ok(Response::new(Box::pin(responses) as Self::ResponseStream))
        })
    }
}

/// Requests are decoded; responses are encoded already, for all who get the same.
struct Encoded<T>(PhantomData<T>);

impl<T: Message + Default + 'static> Codec for Encoded<T> {
    type Encode = Bytes;
    type Decode = T;
    type Encoder = Copied;
    type Decoder = ProstDecoder<T>;

    fn encoder(&mut self) -> Copied {
        Copied
    }

    fn decoder(&mut self) -> ProstDecoder<T> {
        ProstCodec::<T, T>::default().decoder()
    }
}

struct Copied;

impl Encoder for Copied {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}
