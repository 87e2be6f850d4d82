//! Connections to the control plane.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use pki::{Certificate, PkiError};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where the control plane is, and how it is known.
#[derive(Debug, Clone)]
pub(crate) struct ControlPlane {
    /// Host and port. The certificate must be the host's.
    pub(crate) address: String,
    /// What its certificate must lead to; the file is read for every connection, for it may change.
    pub(crate) roots: PathBuf,
}

impl ControlPlane {
    /// Connects, as nobody or as `client`.
    pub(crate) async fn connect(&self, client: Option<&Certificate>) -> io::Result<TlsStream<TcpStream>> {
        let roots = tokio::fs::read_to_string(&self.roots).await.map_err(|e| about(&self.roots.display(), e))?;
        let config = pki::client_config(&roots, client).map_err(|e| unusable(&e))?;
        let (host, _) = self
            .address
            .rsplit_once(':')
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{} has no port", self.address)))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let stream = TcpStream::connect(&self.address).await.map_err(|e| about(&self.address, e))?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await;
        stream.map_err(|e| about(&self.address, e))
    }
}

fn about(what: &dyn std::fmt::Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn unusable(error: &PkiError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
