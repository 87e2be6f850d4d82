//! The keys by which tokens are checked.

use api::istio::{ClientTls, ClientTlsMode, Duration, Hostname, JwtRule};
use envoy::envoy::config::core::v3::{DataSource, HttpUri, data_source::Specifier, http_uri::HttpUpstreamType};
use envoy::envoy::extensions::filters::http::jwt_authn::v3::RemoteJwks;
use envoy::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::JwksSourceSpecifier;
use http::Uri;
use serde_json::Value;

use crate::mesh::Mesh;
use crate::{Code, ObjectRef, OutboundClass, Resources, cluster, provider, tls, wire};

/// Makes no token valid: Envoy refuses a set without keys, and whoever has the private half of this one is unknown, since
/// the point was found by hashing a text.
const NO_KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","kid":"nobody","x":"3nNBts5lQTpBr0ex00ymNeLfFr10zzyVcdQANnsLVl0","y":"rBt2z5cxAWvF_Ig6emvrGepodZxV1lDUV7GWfr9N-R8"}]}"#;
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
            return match serde_json::from_str::<Value>(&rule.jwks) {
                Ok(set) if set["keys"].as_array().is_some_and(|keys| keys.iter().any(is_key)) => inline(&rule.jwks),
                _ => self.none("jwks", "is no JSON Web Key Set with a key that can be used", resources),
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

/// Whether a key has what keys of its type have; Envoy refuses the listener if none has.
fn is_key(key: &Value) -> bool {
    let given = |fields: &[&str]| fields.iter().all(|field| key[*field].as_str().is_some_and(|text| !text.is_empty()));
    match key["kty"].as_str().unwrap_or_default() {
        "RSA" => given(&["n", "e"]),
        "EC" => given(&["crv", "x", "y"]),
        "OKP" => given(&["crv", "x"]),
        "oct" => given(&["k"]),
        _ => false,
    }
}

fn inline(keys: &str) -> JwksSourceSpecifier {
    let specifier = Some(Specifier::InlineString(keys.to_owned()));
    JwksSourceSpecifier::LocalJwks(DataSource { specifier, ..DataSource::default() })
}
