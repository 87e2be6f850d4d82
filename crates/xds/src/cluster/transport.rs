//! Encryption of connections to a service.

use api::istio::{ClientTls, ClientTlsMode, ClusterName, MeshConfig, MutualTlsMode};
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use prost_types::Struct;

use crate::{Resources, tls, wire};

/// What decides how connections to a cluster are encrypted, besides its destination rule.
pub(super) struct Choice<'a> {
    pub(super) mesh: &'a MeshConfig,
    pub(super) name: &'a ClusterName,
    /// Whether the service is outside of the mesh.
    pub(super) external: bool,
    /// Whether connections go where the caller addressed them, so that nothing is known of the endpoint.
    pub(super) original: bool,
    /// What the service's namespace accepts.
    pub(super) peers: MutualTlsMode,
    /// The names of which a server of the mesh has one.
    pub(super) names: Vec<String>,
    /// The application protocols that are offered to a server of the mesh.
    pub(super) offered: &'static [&'static str],
}

impl Choice<'_> {
    pub(super) fn apply(&self, tls: Option<&ClientTls>, cluster: &mut Cluster, resources: &mut Resources) {
        match tls.map(|tls| (tls, tls.mode.unwrap_or(ClientTlsMode::Disable))) {
            Some((_, ClientTlsMode::Disable)) => {}
            Some((tls, ClientTlsMode::IstioMutual)) => {
                let own = &tls.subject_alt_names;
                let names = if own.is_empty() { &self.names } else { own };
                cluster.transport_socket = Some(tls::mutual(self.name, &tls.sni, names, self.offered, resources));
            }
            Some((tls, ClientTlsMode::Simple | ClientTlsMode::Mutual)) => {
                cluster.transport_socket = Some(tls::originate(tls, resources));
            }
            None if self.is_automatic() => {
                let mutual = tls::mutual(self.name, "", &self.names, self.offered, resources);
                cluster.transport_socket_matches = vec![
                    TransportSocketMatch {
                        name: "tlsMode-istio".to_owned(),
                        r#match: Some(wire::fields([("tlsMode", wire::text("istio"))])),
                        transport_socket: Some(mutual),
                    },
                    TransportSocketMatch {
                        name: "tlsMode-disabled".to_owned(),
                        r#match: Some(Struct::default()),
                        transport_socket: Some(wire::raw_buffer()),
                    },
                ];
            }
            None => {}
        }
    }

    /// Whether each endpoint says for itself that it takes mutual TLS.
    fn is_automatic(&self) -> bool {
        let accepted = self.peers != MutualTlsMode::Disable;
        self.mesh.enable_auto_mtls && !self.external && !self.original && accepted
    }
}
