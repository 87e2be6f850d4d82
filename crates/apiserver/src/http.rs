//! The REST front: TLS, authentication, routing, verbs, watches.
//! CONTRACT STUB: signatures are what the others build on.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use tokio_util::sync::CancellationToken;

use crate::extension::{Extensions, UserInfo};
use crate::kind::Registry;
use crate::store::Store;

/// A response body.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// How a server is opened.
pub struct Config {
    /// The directory of the store.
    pub storage: PathBuf,
    /// The cluster's CA: verifies client certificates.
    pub client_ca: pki::Certificate,
    /// Signs and checks service account tokens.
    pub token_key: Arc<pki::TokenKey>,
    pub extensions: Extensions,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// Cheap to clone.
#[derive(Clone)]
pub struct ApiServer {}

impl ApiServer {
    pub fn open(config: Config) -> Result<ApiServer, OpenError> {
        let _ = config;
        unimplemented!()
    }

    pub fn store(&self) -> &Store {
        unimplemented!()
    }

    pub fn registry(&self) -> &Registry {
        unimplemented!()
    }

    /// Serves HTTPS on `listener` (non-blocking, any network namespace) until cancelled; returns when drained.
    pub async fn serve(
        &self,
        listener: std::net::TcpListener,
        tls: Arc<rustls::ServerConfig>,
        stop: CancellationToken,
    ) {
        let _ = (listener, tls, stop);
        unimplemented!()
    }

    /// The same API without a socket, as `user`: a tower service for `kube::Client::new`.
    pub fn in_process(
        &self,
        user: UserInfo,
    ) -> impl tower::Service<
        http::Request<UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>,
        Response = http::Response<Body>,
        Error = std::convert::Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static {
        let _ = user;
        tower::service_fn(|_| async { unimplemented!() })
    }
}
