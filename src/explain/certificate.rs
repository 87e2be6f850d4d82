//! The certificates that proxies show.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret::Type,
};
use k8s_openapi::api::core::v1::{Pod, Volume, VolumeMount};
use proxy::config::{TlsSettings, Trust, ValidationContext};
use rustls::pki_types::CertificateDer;

use super::world::Cluster;

/// The names of a workload's own certificate, and of whom it trusts.
const OWN: &str = "default";
const ROOTS: &str = "ROOTCA";

/// Stands for every certificate of a mesh's workloads: which one a pod has changes nothing, as long as it has one.
pub(super) struct Stub {
    chain: String,
    key: String,
}

impl Stub {
    pub(super) fn new() -> anyhow::Result<Stub> {
        let authority = pki::Authority::generate("explain")?;
        Ok(Stub { chain: authority.certificate_pem().to_owned(), key: authority.key_pem() })
    }

    fn secret(&self, name: &str) -> Secret {
        let source = |text: &str| {
            Some(DataSource { specifier: Some(Specifier::InlineString(text.to_owned())), ..DataSource::default() })
        };
        let authority = name == ROOTS || name.starts_with("file-root:");
        let content = if authority {
            let trusted_ca = source(&self.chain);
            let context = CertificateValidationContext { trusted_ca, ..CertificateValidationContext::default() };
            Type::ValidationContext(context)
        } else {
            let (certificate_chain, private_key) = (source(&self.chain), source(&self.key));
            Type::TlsCertificate(TlsCertificate { certificate_chain, private_key, ..TlsCertificate::default() })
        };
        Secret { name: name.to_owned(), r#type: Some(content) }
    }
}

/// The secrets of these names, as the proxy of a pod has them: its own are stood for, and so are files that come from no
/// Secret. What a Secret was to have and has not is missing.
pub(super) fn secrets(cluster: &Cluster, pod: &Pod, names: &BTreeSet<String>) -> Vec<Secret> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let of_namespace = cluster.secrets.iter().filter(|s| s.metadata.namespace.as_deref() == Some(namespace)).cloned();
    let named = control::credentials(of_namespace.collect(), namespace, names);
    let others = names.iter().filter(|name| !name.starts_with("kubernetes://")).map(|name| {
        let of_files = agent::secret_of_files(name, |path| file(cluster, pod, path));
        of_files.unwrap_or_else(|| cluster.stub.secret(name))
    });
    named.into_values().chain(others).collect()
}

/// What a file of a pod's proxy holds, if it is of a Secret.
fn file(cluster: &Cluster, pod: &Pod, path: &Path) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let proxy = spec.containers.iter().find(|container| container.name == super::sidecar::CONTAINER)?;
    let around = |mount: &&VolumeMount| path.starts_with(&mount.mount_path);
    let mount = proxy.volume_mounts.iter().flatten().filter(around).max_by_key(|mount| mount.mount_path.len())?;
    let is_it = |volume: &&Volume| volume.name == mount.name;
    let volume = spec.volumes.iter().flatten().find(is_it)?.secret.as_ref()?;
    let inside = path.strip_prefix(&mount.mount_path).ok()?.to_str()?;
    let moved = volume.items.iter().flatten().find(|item| item.path == inside);
    let secret = cluster.secrets.iter().find(|secret| {
        secret.metadata.namespace == pod.metadata.namespace && secret.metadata.name == volume.secret_name
    })?;
    let content = secret.data.as_ref()?.get(moved.map_or(inside, |item| &item.key))?;
    String::from_utf8(content.0.clone()).ok()
}

/// What one end of a connection shows the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// The URIs in its certificate.
    pub(super) identities: Vec<Arc<str>>,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Shown {
    /// What a proxy shows, of which `snapshot` has the certificates; `own` is who its workload is.
    pub(super) fn by(snapshot: &proxy::Snapshot, settings: &TlsSettings, own: &str) -> Shown {
        let certificates = snapshot.certificates(settings).unwrap_or_default();
        let Some(certificate) = certificates.first() else { return Shown::default() };
        let chain = certificate.certified.cert.clone();
        let identities = match is_own(settings) {
            true => vec![own.into()],
            false => {
                chain.first().map(|leaf| pki::uris(leaf)).unwrap_or_default().into_iter().map(Into::into).collect()
            }
        };
        Shown { identities, chain }
    }

    /// Whether somebody with these demands takes whoever shows this for one whose authority is trusted.
    pub(super) fn is_trusted(&self, demands: &ValidationContext) -> bool {
        match &demands.trust {
            Trust::Anybody => true,
            Trust::Roots(roots) => demands.accept_untrusted || pki::leads_to(&self.chain, roots),
            // Trust domains are looked at with the names.
            Trust::Spiffe(_) => true,
        }
    }
}

/// Whether what is shown is the workload's own certificate.
pub(super) fn is_own(settings: &TlsSettings) -> bool {
    settings.secrets().any(|secret| &*secret.name == OWN)
}
