//! A pod's sidecar, as its control plane would have it.

use std::collections::BTreeMap;

use anyhow::bail;
use envoy::TypeUrl;
use envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret::Type,
};
use k8s_openapi::api::core::v1::Pod;
use prost::Message;
use prost_types::Any;
use proxy::{Offered, Snapshot, Update};
use xds::{Diagnostic, Mesh, Node, Resources};

/// The container that is a sidecar.
const CONTAINER: &str = "istio-proxy";

/// The ports on which a sidecar itself answers everybody.
const OWN_PORTS: [u16; 3] = [15020, 15021, 15090];

/// Stands for every certificate: which one a pod has changes nothing, as long as it has one.
pub(super) struct Certificate {
    chain: String,
    key: String,
}

impl Certificate {
    pub(super) fn new() -> anyhow::Result<Certificate> {
        let authority = pki::Authority::generate("explain")?;
        Ok(Certificate { chain: authority.certificate_pem().to_owned(), key: authority.key_pem() })
    }

    fn secret(&self, name: &str) -> Secret {
        let source = |text: &str| {
            Some(DataSource { specifier: Some(Specifier::InlineString(text.to_owned())), ..DataSource::default() })
        };
        let authority = name == "ROOTCA" || name.starts_with("file-root:") || name.ends_with("-cacert");
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

/// A sidecar with what it has been told.
pub(super) struct Sidecar {
    pub(super) node: Node,
    pub(super) snapshot: Snapshot,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Sidecar {
    /// The sidecar of a pod, if it has one.
    pub(super) fn of(mesh: &Mesh, pod: &Pod, certificate: &Certificate) -> anyhow::Result<Option<Sidecar>> {
        let name = api::NamespacedName::new(
            pod.metadata.namespace.clone().unwrap_or_default(),
            pod.metadata.name.clone().unwrap_or_default(),
        );
        let Some(node) = mesh.node(&name).filter(|_| has_sidecar(pod)) else { return Ok(None) };
        let resources = xds::build(mesh, &node);
        let snapshot = snapshot(&resources, certificate)?;
        let diagnostics = resources.diagnostics.into_iter().collect();
        Ok(Some(Sidecar { node, snapshot, diagnostics }))
    }
}

/// Whether connections to a port of the pod go past its sidecar.
pub(super) fn lets_in(pod: &Pod, port: u16) -> bool {
    OWN_PORTS.contains(&port) || is_listed(pod, "traffic.sidecar.istio.io/excludeInboundPorts", port)
}

/// Whether the pod's connections to a port of others go past its sidecar.
pub(super) fn lets_out(pod: &Pod, port: u16) -> bool {
    is_listed(pod, "traffic.sidecar.istio.io/excludeOutboundPorts", port)
}

fn is_listed(pod: &Pod, annotation: &str, port: u16) -> bool {
    let list = pod.metadata.annotations.as_ref().and_then(|all| all.get(annotation));
    list.is_some_and(|list| list.split(',').any(|item| item.trim().parse() == Ok(port)))
}

fn has_sidecar(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|s| s.init_containers.as_ref()).into_iter().flatten();
    spec.into_iter().flat_map(|s| &s.containers).chain(init).any(|c| c.name == CONTAINER)
}

fn snapshot(resources: &Resources, certificate: &Certificate) -> anyhow::Result<Snapshot> {
    let Resources { listeners, routes, clusters, endpoints, secrets, diagnostics: _ } = resources;
    let snapshot = offer(&Snapshot::default(), TypeUrl::Cluster, clusters)?;
    let snapshot = offer(&snapshot, TypeUrl::Endpoint, endpoints)?;
    let snapshot = offer(&snapshot, TypeUrl::Listener, listeners)?;
    let snapshot = offer(&snapshot, TypeUrl::Route, routes)?;
    let secrets = secrets.iter().map(|name| (name.clone(), certificate.secret(name))).collect();
    offer(&snapshot, TypeUrl::Secret, &secrets)
}

fn offer(
    snapshot: &Snapshot,
    type_url: TypeUrl,
    messages: &BTreeMap<String, impl Message>,
) -> anyhow::Result<Snapshot> {
    let offered = messages.iter().map(|(name, message)| Offered {
        name: name.clone(),
        version: String::new(),
        message: Some(Any { type_url: type_url.as_str().to_owned(), value: message.encode_to_vec() }),
    });
    let (next, refused) = snapshot.apply(Update { type_url, resources: offered.collect(), removed: Vec::new() });
    match refused.first() {
        Some((name, rejected)) => bail!("the proxy would refuse {name:?}: {}: {}", rejected.field, rejected.reason),
        None => Ok(next),
    }
}
