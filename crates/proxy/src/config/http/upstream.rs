//! How HTTP is spoken to the endpoints of a cluster.

use std::collections::BTreeMap;

use envoy::envoy::config::core::v3::UpstreamHttpProtocolOptions;
use envoy::envoy::extensions::upstreams::http::v3;
use envoy::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, UseDownstreamHttpConfig,
};
use prost_types::Any;

use super::connection_options::ConnectionOptions;
use super::protocol::{Http1Options, Http2Options};
use crate::config::field::{Checked, Path, fields};

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// How HTTP is spoken to the endpoints of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProtocolOptions {
    /// Which version.
    pub protocol: UpstreamProtocol,
    /// What HTTP/1 and HTTP/2 connections have in common.
    pub connections: ConnectionOptions,
    /// Options of HTTP/1 connections.
    pub http1: Http1Options,
    /// Options of HTTP/2 connections.
    pub http2: Http2Options,
    /// Whether the server name of TLS is the authority of the request.
    pub auto_sni: bool,
    /// Whether the certificate must have the server name.
    pub auto_san_validation: bool,
}

/// Which version of HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// The same as downstream.
    Downstream,
}

impl HttpProtocolOptions {
    /// What a cluster says in its `typed_extension_protocol_options`, or else HTTP/1.1 with Envoy's values.
    pub(in crate::config) fn from_messages(
        at: &Path<'_>,
        messages: BTreeMap<String, Any>,
    ) -> Checked<HttpProtocolOptions> {
        let mut options = v3::HttpProtocolOptions::default();
        for (name, any) in &messages {
            let at = at.key(name);
            if name != OPTIONS || any.type_url.strip_prefix("type.googleapis.com/") != Some(OPTIONS) {
                return Err(at.unknown_type(any));
            }
            options = at.decode(any)?;
            if options.upstream_protocol_options.is_none() {
                return Err(at.field("upstream_protocol_options").reject("is required"));
            }
        }
        HttpProtocolOptions::from_message(&at.key(OPTIONS), options)
    }

    fn from_message(at: &Path<'_>, message: v3::HttpProtocolOptions) -> Checked<HttpProtocolOptions> {
        fields!(at, message => v3::HttpProtocolOptions { common_http_protocol_options,
                upstream_http_protocol_options, upstream_protocol_options }
            refuse { http_filters, header_validation_config, outlier_detection, request_mirror_policies, hash_policy,
                retry_policy });
        let upstream_at = at.field("upstream_http_protocol_options");
        fields!(upstream_at, upstream_http_protocol_options.unwrap_or_default() =>
            UpstreamHttpProtocolOptions { auto_sni, auto_san_validation } refuse { override_auto_sni_header });
        let common_at = at.field("common_http_protocol_options");
        let (protocol, http1, http2) = protocol(at, upstream_protocol_options)?;
        let connections = ConnectionOptions::from_message(&common_at, common_http_protocol_options)?;
        if connections.max_stream_duration.is_some() {
            return Err(common_at.field("max_stream_duration").reject("is not supported"));
        }
        Ok(HttpProtocolOptions { protocol, connections, http1, http2, auto_sni, auto_san_validation })
    }
}

type Spoken = (UpstreamProtocol, Http1Options, Http2Options);

fn protocol(at: &Path<'_>, message: Option<UpstreamProtocolOptions>) -> Checked<Spoken> {
    let (kind, (at1, http1), (at2, http2)) = match message {
        None => (UpstreamProtocol::Http1, ("", None), ("", None)),
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
            let at = at.field("explicit_http_config");
            match explicit.protocol_config {
                Some(ProtocolConfig::HttpProtocolOptions(options)) => {
                    (UpstreamProtocol::Http1, ("explicit_http_config", Some(options)), ("", None))
                }
                Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
                    (UpstreamProtocol::Http2, ("", None), ("explicit_http_config", Some(options)))
                }
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                    return Err(at.field("http3_protocol_options").reject("is not supported"));
                }
                None => return Err(at.field("protocol_config").reject("is required")),
            }
        }
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            let name = "use_downstream_protocol_config";
            let at = at.field(name);
            fields!(at, config => UseDownstreamHttpConfig { http_protocol_options, http2_protocol_options }
                refuse { http3_protocol_options });
            (UpstreamProtocol::Downstream, (name, http_protocol_options), (name, http2_protocol_options))
        }
        Some(UpstreamProtocolOptions::AutoConfig(_)) => {
            return Err(at.field("auto_config").reject("is not supported"));
        }
    };
    let http1 = Http1Options::from_message(&at.field(at1).field("http_protocol_options"), http1)?;
    let http2 = Http2Options::from_message(&at.field(at2).field("http2_protocol_options"), http2)?;
    Ok((kind, http1, http2))
}
