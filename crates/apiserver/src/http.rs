//! The REST front: TLS, authentication, routing, verbs, watches.

mod admission;
mod answer;
mod authentication;
mod authorization;
mod body;
mod call;
mod connection;
mod create;
mod decode;
mod definition;
mod delete;
mod filter;
mod list;
mod metadata;
mod metrics;
mod namespace;
mod negotiate;
mod object;
mod open_paths;
mod patch;
mod path;
mod pod;
mod query;
mod read;
mod review;
mod route;
mod scale;
mod table;
mod token;
mod update;
mod watch;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::extension::{Extensions, UserInfo};
use crate::kind::Registry;
use crate::store::Store;

use authentication::Peer;
use authorization::Policy;
use body::{BodyError, RequestBody};
use metrics::Metrics;

/// A response body.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// How many requests from sockets are served at once, watches and connections to pods apart. More wait a little, and
/// are then turned away with 429, as kube-apiserver does at the same number.
const REQUESTS_IN_FLIGHT: usize = 400;

/// How a server is opened.
pub struct Config {
    /// The directory of the store.
    pub storage: PathBuf,
    /// Signs and checks service account tokens.
    pub token_key: Arc<pki::TokenKey>,
    /// What is known of particular kinds.
    pub extensions: Extensions,
}

/// Why a server could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OpenError(#[from] crate::store::StoreError);

/// A Kubernetes-compatible API server. Cheap to clone.
#[derive(Clone)]
pub struct ApiServer {
    server: Arc<Server>,
}

struct Server {
    store: Store,
    registry: Registry,
    token_key: Arc<pki::TokenKey>,
    extensions: Extensions,
    policy: Policy,
    metrics: Arc<Metrics>,
    in_flight: Semaphore,
    /// The names of the CustomResourceDefinitions that are being deleted: no more instances may be created.
    closing: RwLock<BTreeSet<String>>,
}

impl ApiServer {
    /// Opens the store and serves the kinds of every stored CustomResourceDefinition. Must be called inside a Tokio
    /// runtime: the deletion of definitions that an earlier process began goes on in the background.
    pub fn open(config: Config) -> Result<ApiServer, OpenError> {
        let Config { storage, token_key, extensions } = config;
        let server = Arc::new(Server {
            store: Store::open(&storage)?,
            registry: Registry::builtin(),
            token_key,
            extensions,
            policy: Policy::default(),
            metrics: Arc::default(),
            in_flight: Semaphore::new(REQUESTS_IN_FLIGHT),
            closing: RwLock::default(),
        });
        server.install_stored_definitions();
        Ok(ApiServer { server })
    }

    /// The objects, for those who look things up without a request.
    pub fn store(&self) -> &Store {
        &self.server.store
    }

    /// The kinds that are served.
    pub fn registry(&self) -> &Registry {
        &self.server.registry
    }

    /// Serves HTTPS on `listener` (any network namespace) until cancelled; returns when drained.
    pub fn serve(
        &self,
        listener: std::net::TcpListener,
        tls: Arc<rustls::ServerConfig>,
        stop: CancellationToken,
    ) -> impl Future<Output = std::io::Result<()>> + Send + use<> {
        connection::serve(self.server.clone(), listener, tls, stop)
    }

    /// The same API without a socket, as `user`: a tower service for `kube::Client::new`.
    pub fn in_process(&self, user: UserInfo) -> InProcess {
        InProcess { server: self.server.clone(), user }
    }
}

/// A client's view of the server without a socket. Connection subresources (`exec`) are not served this way, because
/// there is no connection to take over.
#[derive(Clone)]
pub struct InProcess {
    server: Arc<Server>,
    user: UserInfo,
}

impl<B> tower::Service<http::Request<B>> for InProcess
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let server = self.server.clone();
        let peer = Peer::InProcess(self.user.clone());
        let request = request.map(|body| RequestBody::InProcess(body.map_err(Into::into).boxed_unsync()));
        Box::pin(async move { Ok(server.respond(request, &peer, &CancellationToken::new()).await) })
    }
}

#[cfg(test)]
mod tests;
