//! How the workload gets its certificate: a new key, a request with the service account's token, an answer.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use envoy::istio::v1::auth::IstioCertificateRequest;
use envoy::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use hyper_util::rt::TokioIo;
use pki::{Certificate, OwnRequest, PkiError, SpiffeId};
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use tower::service_fn;

use crate::control_plane::ControlPlane;

/// How long the control plane may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A certificate with its key, and when it began and ends.
pub(crate) struct Identity {
    pub(crate) certificate: Certificate,
    pub(crate) obtained: SystemTime,
    pub(crate) expires: SystemTime,
}

/// Asks the control plane for certificates.
pub(crate) struct Certification {
    pub(crate) control_plane: ControlPlane,
    /// The file of the token. It is read for every request, for tokens are replaced before they expire.
    pub(crate) token: PathBuf,
    pub(crate) id: SpiffeId,
    pub(crate) lifetime: Option<Duration>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("cannot read the token {}", path.display())]
    Token {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("the token is not one that can be sent")]
    NotAToken,
    #[error("cannot reach the control plane")]
    Unreachable(#[source] tonic::transport::Error),
    #[error("the control plane does not answer")]
    Silent,
    #[error("{}: {}", .0.code(), .0.message())]
    Answered(Status),
    #[error(transparent)]
    Unusable(#[from] PkiError),
}

impl Certification {
    /// Makes a new key and has it certified. The key goes nowhere.
    pub(crate) async fn obtain(&self) -> Result<Identity, Refused> {
        let own = OwnRequest::generate(&self.id)?;
        let answer = tokio::time::timeout(TIMEOUT, self.send(own.request_pem())).await;
        let chain = answer.map_err(|_| Refused::Silent)??;
        let (certificate, expires) = own.answered(joined(&chain))?;
        Ok(Identity { certificate, obtained: SystemTime::now(), expires })
    }

    async fn send(&self, csr: &str) -> Result<Vec<String>, Refused> {
        let token = tokio::fs::read_to_string(&self.token).await;
        let token = token.map_err(|cause| Refused::Token { path: self.token.clone(), cause })?;
        let bearer = format!("Bearer {}", token.trim()).parse().map_err(|_| Refused::NotAToken)?;
        let control_plane = self.control_plane.clone();
        let connect = service_fn(move |_| {
            let control_plane = control_plane.clone();
            async move { control_plane.connect(None).await.map(TokioIo::new) }
        });
        // The connector knows where to go: this address is only what is written into the request.
        let endpoint = Endpoint::from_static("http://control-plane");
        let channel = endpoint.connect_with_connector(connect).await.map_err(Refused::Unreachable)?;
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr.to_owned(),
            validity_duration: self.lifetime.map_or(0, |l| i64::try_from(l.as_secs()).unwrap_or(i64::MAX)),
            metadata: None,
        });
        request.metadata_mut().insert("authorization", bearer);
        let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await;
        Ok(answer.map_err(Refused::Answered)?.into_inner().cert_chain)
    }
}

fn joined(chain: &[String]) -> String {
    chain.iter().map(|pem| format!("{}\n", pem.trim())).collect()
}
