//! The keys by which tokens are checked.

use api::istio::{ClientTls, ClientTlsMode, Duration, Hostname, JwtRule};
use envoy::envoy::config::core::v3::{DataSource, HttpUri, data_source::Specifier, http_uri::HttpUpstreamType};
use envoy::envoy::extensions::filters::http::jwt_authn::v3::RemoteJwks;
use envoy::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::JwksSourceSpecifier;
use http::Uri;

use crate::mesh::Mesh;
use crate::{Code, ObjectRef, OutboundClass, Resources, cluster, provider, tls, wire};

/// Makes no token valid.
const NO_KEYS: &str = r#"{"keys":[]}"#;
/// How long fetching may take unless the rule says so, as in Istio.
const TIMEOUT: Duration = Duration(std::time::Duration::from_secs(5));
/// How long keys are kept, as in Istio.
const KEPT: Duration = Duration(std::time::Duration::from_secs(5 * 60));

/// Whose keys, for whom.
pub(super) struct Keys<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) class: &'a OutboundClass,
    pub(super) object: &'a ObjectRef,
    /// Where the rule is in the object.
    pub(super) field: String,
}

impl Keys<'_> {
    /// The keys of a rule's issuer. Where there are none, no token is valid.
    pub(super) fn of(&self, rule: &JwtRule, resources: &mut Resources) -> JwksSourceSpecifier {
        if !rule.jwks.is_empty() {
            return match serde_json::from_str::<serde_json::Value>(&rule.jwks) {
                Ok(keys) if keys["keys"].is_array() => inline(&rule.jwks),
                _ => self.none("jwks", "is no JSON Web Key Set", resources),
            };
        }
        if rule.jwks_uri.is_empty() {
            let reason = "is needed: keys are not looked up by the issuer's name";
            return self.none("jwksUri", reason, resources);
        }
        match self.source(&rule.jwks_uri, resources) {
            Ok(cluster) => {
                let uri = HttpUri {
                    uri: rule.jwks_uri.clone(),
                    timeout: Some(wire::duration(rule.timeout.unwrap_or(TIMEOUT))),
                    http_upstream_type: Some(HttpUpstreamType::Cluster(cluster)),
                };
                let cache_duration = Some(wire::duration(KEPT));
                JwksSourceSpecifier::RemoteJwks(RemoteJwks {
                    http_uri: Some(uri),
                    cache_duration,
                    ..RemoteJwks::default()
                })
            }
            Err(reason) => self.none("jwksUri", &reason, resources),
        }
    }

    fn none(&self, field: &str, reason: &str, resources: &mut Resources) -> JwksSourceSpecifier {
        let message = format!("{reason}; every token of the issuer is refused");
        let field = format!("{}.{field}", self.field);
        resources.diagnostics.insert(self.object.error(field, Code::InvalidValue, message));
        inline(NO_KEYS)
    }

    /// The cluster behind an address: a service's, so that the mesh's policies hold for the call, or one for it alone.
    fn source(&self, address: &str, resources: &mut Resources) -> Result<String, String> {
        let uri: Uri = address.parse().map_err(|_| format!("{address:?} is no address"))?;
        let host = uri.host().ok_or_else(|| format!("{address:?} has no host"))?;
        let encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("{address:?} is neither of http nor of https")),
        };
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        if !encrypted && let Ok(cluster) = provider::cluster(self.mesh, self.class, host, port) {
            return Ok(cluster);
        }
        let name = format!("jwks|{port}|{host}");
        let mut cluster = cluster::of_name(self.mesh, &name, host, port);
        if encrypted {
            let tls = ClientTls {
                mode: Some(ClientTlsMode::Simple),
                sni: host.to_owned(),
                subject_alt_names: vec![host.to_owned()],
                ..ClientTls::default()
            };
            cluster.transport_socket = Some(tls::originate(&tls, resources));
        }
        resources.clusters.insert(name.clone(), cluster);
        Ok(name)
    }
}

/// The host of which a rule's keys are fetched, if they are.
pub(crate) fn host(rule: &JwtRule) -> Option<Hostname> {
    let uri: Uri = rule.jwks_uri.parse().ok()?;
    uri.host().map(Hostname::new)
}

fn inline(keys: &str) -> JwksSourceSpecifier {
    let specifier = Some(Specifier::InlineString(keys.to_owned()));
    JwksSourceSpecifier::LocalJwks(DataSource { specifier, ..DataSource::default() })
}
