//! `istio.v1.auth.IstioCertificateService`: a key is certified for the service account whose token comes with it.

use std::time::Duration;

use envoy::istio::v1::auth::istio_certificate_service_server::IstioCertificateService;
use envoy::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use pki::{SigningRequest, SpiffeId};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::CertificateAuthority;

/// The audience of tokens that are meant for the CA.
const AUDIENCE: &str = "istio-ca";

#[tonic::async_trait]
impl IstioCertificateService for CertificateAuthority {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let IstioCertificateRequest { csr, validity_duration, metadata: _ } = message;
        let token = bearer(&metadata)?;
        let current = self.current().ok_or_else(|| {
            Status::unavailable("there is no certificate authority yet; the Secrets of istio-system decide which")
        })?;
        let id = caller(&current.client, token, &current.trust_domain).await?;
        let request = SigningRequest::parse(&csr).map_err(|e| Status::invalid_argument(e.to_string()))?;
        if let Some(other) = request.uris.iter().find(|uri| **uri != id.to_string()) {
            return Err(Status::permission_denied(format!(
                "the request is for {other}, but the token is that of {id}"
            )));
        }
        let lifetime = lifetime(validity_duration)?;
        let signed = current.authority.sign(&request, &id, lifetime);
        let cert_chain = signed.map_err(|e| Status::internal(e.to_string()))?;
        tracing::debug!(%id, "a key is certified");
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

fn bearer(metadata: &MetadataMap) -> Result<&str, Status> {
    let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
    let (scheme, token) = header.and_then(|header| header.trim().split_once(' ')).unwrap_or_default();
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Status::unauthenticated(format!(
            "a bearer token of a service account, with the audience {AUDIENCE}, must come with the request"
        )));
    }
    Ok(token)
}

/// Seconds; 0 leaves it to the CA.
fn lifetime(seconds: i64) -> Result<Option<Duration>, Status> {
    let wrong = || Status::invalid_argument(format!("validity_duration: {seconds} is negative"));
    let seconds = u64::try_from(seconds).map_err(|_| wrong())?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

/// Whose token it is, as the API server says: the account must exist, and the pod that the token is bound to.
async fn caller(client: &Client, token: &str, trust_domain: &str) -> Result<SpiffeId, Status> {
    let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let answer = Api::<TokenReview>::all(client.clone()).create(&PostParams::default(), &review).await;
    let status = answer
        .map_err(|error| Status::unavailable(format!("the token cannot be checked: {error}")))?
        .status
        .unwrap_or_default();
    let user = status.user.filter(|_| status.authenticated == Some(true));
    let name = user.and_then(|user| user.username).ok_or_else(|| {
        Status::unauthenticated(format!(
            "the token is not valid: it must be of this cluster, unexpired, for the audience {AUDIENCE}, and its \
            service account and pod must still exist"
        ))
    })?;
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let (namespace, account) =
        account.ok_or_else(|| Status::permission_denied(format!("{name} is no service account")))?;
    SpiffeId::new(trust_domain, namespace, account).map_err(|e| Status::permission_denied(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_is_taken() {
        let header = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", text.parse().unwrap());
            bearer(&metadata).map(str::to_owned).map_err(|status| status.code())
        };
        assert_eq!(header("Bearer abc"), Ok("abc".to_owned()));
        assert_eq!(header("bearer  abc "), Ok("abc".to_owned()));
        for wrong in ["", "Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(header(wrong), Err(tonic::Code::Unauthenticated), "{wrong:?}");
        }
    }

    #[test]
    fn a_lifetime_is_not_negative() {
        assert_eq!(lifetime(0).unwrap(), None);
        assert_eq!(lifetime(60).unwrap(), Some(Duration::from_secs(60)));
        assert_eq!(lifetime(-1).err().unwrap().code(), tonic::Code::InvalidArgument);
    }
}
