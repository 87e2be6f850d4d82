//! Which CA the mesh has: the one of the Secret `cacerts`, or else a self-signed one that is kept in `istio-ca-secret`.

use std::time::Duration;

use api::istio::MeshConfig;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use pki::{CaCerts, MeshAuthority};
use tokio::sync::watch;

use super::CertificateAuthority;
use crate::engine::{self, Engine};
use crate::feed::{self, Step};

/// Where the mesh's own objects are.
const ROOT_NAMESPACE: &str = "istio-system";
/// The Secret with a CA from outside.
const GIVEN: &str = "cacerts";
/// The Secret with the CA that was made here.
const OWN: &str = "istio-ca-secret";
const OWN_TYPE: &str = "istio.io/ca-root";
/// The ConfigMap with the mesh's configuration, and its key.
const MESH_CONFIG: (&str, &str) = ("istio", "mesh");

/// How often the server gets a new certificate, which is valid for a year.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// When to try again what the API server refused.
const RETRY: Duration = Duration::from_secs(1);

/// What there is to decide from. A part that nobody has looked at yet is `None`.
#[derive(Debug, Clone, Default)]
struct Found {
    given: Option<Option<Secret>>,
    own: Option<Option<Secret>>,
    trust_domain: Option<String>,
}

/// Keeps the CA what it is to be, for ever.
pub(super) async fn run(ca: CertificateAuthority, engine: Engine) {
    let _until_it_ends = Withdrawn(ca.clone());
    let found = watch::Sender::new(Found::default());
    futures::join!(
        follow_secret(&engine, GIVEN, |secret| found.send_modify(|found| found.given = Some(secret))),
        follow_secret(&engine, OWN, |secret| found.send_modify(|found| found.own = Some(secret))),
        follow_trust_domain(&engine, &found),
        settle(&ca, &engine, found.subscribe()),
    );
}

/// Without the controllers nobody would notice that the CA is to be another.
struct Withdrawn(CertificateAuthority);

impl Drop for Withdrawn {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

async fn follow_secret(engine: &Engine, name: &str, put: impl Fn(Option<Secret>)) {
    let api = engine.api::<Secret>(ROOT_NAMESPACE);
    feed::follow(api, &format!("metadata.name={name}"), |step| match step {
        Step::Listed(mut secrets, _) => put(secrets.pop()),
        Step::Applied(secret) => put(Some(secret)),
        Step::Deleted(_) => put(None),
    })
    .await;
}

/// A configuration that cannot be read leaves the last trust domain.
async fn follow_trust_domain(engine: &Engine, found: &watch::Sender<Found>) {
    let put = |map: Option<ConfigMap>| {
        let text = map.and_then(|map| map.data).and_then(|mut data| data.remove(MESH_CONFIG.1)).unwrap_or_default();
        let read =
            trust_domain(&text).map_err(|error| tracing::warn!(%error, "the mesh's configuration cannot be read"));
        found.send_modify(|found| {
            let known = read.ok().or(found.trust_domain.take());
            found.trust_domain = known.or_else(|| Some(MeshConfig::default().trust_domain.0));
        });
    };
    let api = engine.api::<ConfigMap>(ROOT_NAMESPACE);
    feed::follow(api, &format!("metadata.name={}", MESH_CONFIG.0), |step| match step {
        Step::Listed(mut maps, _) => put(maps.pop()),
        Step::Applied(map) => put(Some(map)),
        Step::Deleted(_) => put(None),
    })
    .await;
}

fn trust_domain(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Ok(MeshConfig::default().trust_domain.0);
    }
    let (config, _) = MeshConfig::from_yaml(text).map_err(|e| e.to_string())?;
    Ok(config.trust_domain.0)
}

async fn settle(ca: &CertificateAuthority, engine: &Engine, mut found: watch::Receiver<Found>) {
    loop {
        let now = found.borrow_and_update().clone();
        let again = match decide(ca, engine, now).await {
            Ok(()) => RENEWAL,
            Err(error) => {
                tracing::warn!(%error, "cannot store the mesh's certificate authority; trying again");
                RETRY
            }
        };
        if tokio::time::timeout(again, found.changed()).await.is_err()
            && again == RENEWAL
            && let Err(error) = ca.renew()
        {
            tracing::warn!(%error, "the control plane's certificate cannot be renewed");
        }
    }
}

async fn decide(ca: &CertificateAuthority, engine: &Engine, found: Found) -> Result<(), kube::Error> {
    let Found { given: Some(given), own: Some(own), trust_domain: Some(trust_domain) } = found else { return Ok(()) };
    match given.or(own) {
        Some(secret) => adopt(ca, engine, &secret, &trust_domain),
        None => make(engine, &trust_domain).await?,
    }
    Ok(())
}

/// A Secret that will not do is reported, and changes nothing.
fn adopt(ca: &CertificateAuthority, engine: &Engine, secret: &Secret, trust_domain: &str) {
    let adopted = material(secret)
        .and_then(|material| ca.adopt(&engine.client, material, trust_domain).map_err(|error| error.to_string()));
    if let Err(why) = adopted {
        let message = format!("Secret {ROOT_NAMESPACE}/{}: {why}. The CA stays what it was", secret.name_any());
        tracing::error!("{message}");
        engine.recorder.warning(secret, "istiod", "InvalidCertificateAuthority", message);
    }
}

/// Stores a new self-signed CA; it is adopted when the watch brings it.
async fn make(engine: &Engine, trust_domain: &str) -> Result<(), kube::Error> {
    let authority = match MeshAuthority::generate(trust_domain) {
        Ok(authority) => authority,
        Err(error) => {
            tracing::error!(%error, "cannot make a certificate authority");
            return Ok(());
        }
    };
    let certificate = authority.certificate_pem().to_owned();
    let data =
        [("ca-cert.pem", certificate.clone()), ("ca-key.pem", authority.key_pem()), ("root-cert.pem", certificate)];
    let data = data.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
    let metadata = ObjectMeta { name: Some(OWN.to_owned()), ..ObjectMeta::default() };
    let secret = Secret { metadata, type_: Some(OWN_TYPE.to_owned()), data: Some(data.into()), ..Secret::default() };
    match engine.api::<Secret>(ROOT_NAMESPACE).create(&engine::post_params(), &secret).await {
        Ok(_) => Ok(()),
        Err(error) if engine::refused(&error, 409, "AlreadyExists") => Ok(()),
        Err(error) => Err(error),
    }
}

/// The CA in a Secret. A chain is not needed where the CA is the root.
fn material(secret: &Secret) -> Result<CaCerts, String> {
    let text = |key: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        value
            .map(|bytes| String::from_utf8(bytes.0.clone()).map_err(|_| format!("{key}: it is not PEM text")))
            .transpose()
    };
    let required = |key: &str| text(key)?.ok_or_else(|| format!("it has no key {key}; add it"));
    Ok(CaCerts {
        ca_cert: required("ca-cert.pem")?,
        ca_key: required("ca-key.pem")?,
        cert_chain: text("cert-chain.pem")?.unwrap_or_default(),
        root_cert: required("root-cert.pem")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_without_a_key_is_refused_by_the_keys_name() {
        let mut secret = Secret::default();
        assert_eq!(material(&secret).err().unwrap(), "it has no key ca-cert.pem; add it");
        let data = ["ca-cert.pem", "ca-key.pem"].map(|key| (key.to_owned(), ByteString(b"x".to_vec())));
        secret.data = Some(data.into());
        assert_eq!(material(&secret).err().unwrap(), "it has no key root-cert.pem; add it");
        let binary = ("ca-key.pem".to_owned(), ByteString(vec![0xff]));
        secret.data.as_mut().unwrap().extend([binary]);
        assert_eq!(material(&secret).err().unwrap(), "ca-key.pem: it is not PEM text");
    }

    #[test]
    fn the_trust_domain_is_the_mesh_configurations() {
        assert_eq!(trust_domain("").unwrap(), "cluster.local");
        assert_eq!(trust_domain("trustDomain: td.example\n").unwrap(), "td.example");
        assert!(trust_domain("trustDomain: [").is_err());
    }
}
