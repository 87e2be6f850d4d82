//! What stands before a gateway.

use serde::Deserialize;
use serde_json::Value;

use super::{MeshConfig, decode_spec};

/// What stands before a gateway: the field `gatewayTopology` of Istio's ProxyConfig.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GatewayTopology {
    /// How many proxies before the gateway are believed when they say where a request comes from.
    #[serde(alias = "num_trusted_proxies")]
    pub num_trusted_proxies: u32,
    /// What becomes of what those before say about the client's certificate.
    #[serde(alias = "forward_client_cert_details")]
    pub forward_client_cert_details: ForwardClientCert,
}

/// What becomes of the header `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCert {
    /// As SANITIZE_SET.
    #[default]
    Undefined,
    /// It is removed.
    Sanitize,
    /// It passes if the connection is of mutual TLS.
    ForwardOnly,
    /// The client's certificate is appended if the connection is of mutual TLS.
    AppendForward,
    /// It is replaced by the client's certificate.
    SanitizeSet,
    /// It passes.
    AlwaysForwardOnly,
}

impl GatewayTopology {
    /// Reads it in the YAML of a ProxyConfig, such as a pod's annotation `proxy.istio.io/config`; `None` if it is not there
    /// or cannot be read.
    pub fn of_proxy_config(yaml: &str) -> Option<GatewayTopology> {
        GatewayTopology::of_field(serde_saphyr::from_str::<Value>(yaml).ok()?.get("gatewayTopology")?)
    }

    fn of_field(value: &Value) -> Option<GatewayTopology> {
        decode_spec(value.clone()).ok().map(|(topology, _)| topology)
    }
}

impl MeshConfig {
    /// What stands before gateways whose pods do not say.
    pub fn gateway_topology(&self) -> GatewayTopology {
        self.default_config.get("gatewayTopology").and_then(GatewayTopology::of_field).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_says_it_in_its_proxys_configuration() {
        let said = "concurrency: 2\ngatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: APPEND_FORWARD}";
        let topology = GatewayTopology::of_proxy_config(said).unwrap();
        assert_eq!(topology.num_trusted_proxies, 2);
        assert_eq!(topology.forward_client_cert_details, ForwardClientCert::AppendForward);
        assert_eq!(GatewayTopology::of_proxy_config("concurrency: 2"), None);
        assert_eq!(MeshConfig::default().gateway_topology(), GatewayTopology::default());
    }
}
