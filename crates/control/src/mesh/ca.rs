//! The mesh's certificate authority: it tells workloads who they are.
//!
//! Which one it is, the Secrets of the root namespace decide ([`secrets`]); a change takes effect while it serves.
//! Workloads have their keys certified with their service account's token ([`service`]).

mod secrets;
mod service;

use std::sync::Arc;

use envoy::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use futures::Stream;
use kube::Client;
use pki::{CaCerts, MeshAuthority, PkiError};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::engine::Engine;

/// The names by which workloads call the control plane.
const SERVER_NAMES: [&str; 2] = ["istiod.istio-system.svc", "istiod.istio-system.svc.cluster.local"];

/// The mesh's CA. Cheap to clone. It signs nothing until the controllers run.
#[derive(Clone)]
pub(crate) struct CertificateAuthority(Arc<watch::Sender<Option<Arc<Current>>>>);

/// The CA in force.
struct Current {
    material: CaCerts,
    authority: MeshAuthority,
    trust_domain: String,
    tls: Arc<rustls::ServerConfig>,
    client: Client,
}

impl Default for CertificateAuthority {
    fn default() -> CertificateAuthority {
        CertificateAuthority(Arc::new(watch::Sender::new(None)))
    }
}

impl CertificateAuthority {
    /// TLS for the control plane's server, as soon as there is a CA: a certificate for its names, and clients verified
    /// by the mesh's roots if they show a certificate. Ask again for every connection.
    pub(super) async fn tls(&self) -> Arc<rustls::ServerConfig> {
        let mut current = self.0.subscribe();
        let found = current.wait_for(Option::is_some).await.ok().and_then(|found| Some(found.as_ref()?.tls.clone()));
        found.expect("the sender lives as long as this, and what was waited for is there")
    }

    /// The gRPC service that certifies workloads' keys.
    pub(super) fn service(&self) -> IstioCertificateServiceServer<CertificateAuthority> {
        IstioCertificateServiceServer::new(self.clone())
    }

    /// What every workload trusts, PEM; `None` while there is no CA.
    pub(crate) fn roots(&self) -> Option<String> {
        Some(self.current()?.authority.root_bundle_pem().to_owned())
    }

    /// Tells of every CA that comes into force.
    pub(crate) fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        let receiver = self.0.subscribe();
        futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.changed().await.ok()?;
            Some(((), receiver))
        })
    }

    /// Follows what decides which CA it is.
    pub(super) fn start(&self, engine: &Engine, tasks: &mut JoinSet<()>) {
        tasks.spawn(secrets::run(self.clone(), engine.clone()));
    }

    fn current(&self) -> Option<Arc<Current>> {
        self.0.borrow().clone()
    }

    /// Puts a CA in force, unless it is already.
    fn adopt(&self, client: &Client, material: CaCerts, trust_domain: &str) -> Result<(), PkiError> {
        let same = |current: &Current| current.material == material && current.trust_domain == trust_domain;
        if self.current().is_some_and(|current| same(&current)) {
            return Ok(());
        }
        let authority = MeshAuthority::from_cacerts(&material)?;
        self.publish(Current::new(client, material, authority, trust_domain)?);
        tracing::info!(trust_domain, "the mesh has its certificate authority");
        Ok(())
    }

    /// Gives the server a new certificate.
    fn renew(&self) -> Result<(), PkiError> {
        let Some(current) = self.current() else { return Ok(()) };
        let authority = MeshAuthority::from_cacerts(&current.material)?;
        self.publish(Current::new(&current.client, current.material.clone(), authority, &current.trust_domain)?);
        Ok(())
    }

    /// Signs nothing any more.
    fn withdraw(&self) {
        self.0.send_replace(None);
    }

    fn publish(&self, current: Current) {
        self.0.send_replace(Some(Arc::new(current)));
    }
}

impl Current {
    fn new(
        client: &Client,
        material: CaCerts,
        authority: MeshAuthority,
        trust_domain: &str,
    ) -> Result<Current, PkiError> {
        let server = authority.issue_server(&SERVER_NAMES)?;
        let tls = pki::server_config(&server, authority.root_bundle_pem())?;
        Ok(Current { material, authority, trust_domain: trust_domain.to_owned(), tls, client: client.clone() })
    }
}
