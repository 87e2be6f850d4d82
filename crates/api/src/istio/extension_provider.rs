//! Services beside the mesh that decide, or that are told.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Duration;

/// A service that decides about requests, or is told of them; one of the fields beside the name is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExtensionProvider {
    /// The name by which policies refer to it.
    pub name: String,
    /// It decides, and is asked by HTTP.
    #[serde(alias = "envoy_ext_authz_http")]
    pub envoy_ext_authz_http: Option<HttpAuthorizer>,
    /// It decides, and is asked by gRPC.
    #[serde(alias = "envoy_ext_authz_grpc")]
    pub envoy_ext_authz_grpc: Option<GrpcAuthorizer>,
    /// It is a file of access logs.
    #[serde(alias = "envoy_file_access_log")]
    pub envoy_file_access_log: Option<FileAccessLog>,
    /// It collects traces in OpenTelemetry's form.
    pub opentelemetry: Option<TraceCollector>,
    /// It collects traces in Zipkin's form.
    pub zipkin: Option<TraceCollector>,
    /// It reads metrics, which every proxy offers.
    pub prometheus: Option<Map<String, Value>>,
}

/// A service that is asked by HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpAuthorizer {
    /// The service: `HOST` or `NAMESPACE/HOST`.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// How long an answer may take.
    pub timeout: Option<Duration>,
    /// What stands before the path of a request that is asked about.
    #[serde(alias = "path_prefix")]
    pub path_prefix: String,
    /// Whether requests are let in when there is no answer.
    #[serde(alias = "fail_open")]
    pub fail_open: bool,
    /// The status of requests that are refused because there is none.
    #[serde(alias = "status_on_error")]
    pub status_on_error: String,
    /// Headers that are sent along; a `*` may stand at either end.
    #[serde(alias = "include_request_headers_in_check")]
    pub include_request_headers_in_check: Vec<String>,
    /// The same, as it was named first.
    #[serde(alias = "include_headers_in_check")]
    pub include_headers_in_check: Vec<String>,
    /// Headers that are added to the question.
    #[serde(alias = "include_additional_headers_in_check")]
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    /// How much of the body is sent along.
    #[serde(alias = "include_request_body_in_check")]
    pub include_request_body_in_check: Option<CheckedBody>,
    /// Headers of the answer that the workload gets.
    #[serde(alias = "headers_to_upstream_on_allow")]
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Headers of the answer that the caller gets if it is refused.
    #[serde(alias = "headers_to_downstream_on_deny")]
    pub headers_to_downstream_on_deny: Vec<String>,
    /// Headers of the answer that the caller gets if it is let in.
    #[serde(alias = "headers_to_downstream_on_allow")]
    pub headers_to_downstream_on_allow: Vec<String>,
    /// Whether the route is chosen again after the answer.
    #[serde(alias = "clear_route_cache")]
    pub clear_route_cache: bool,
}

/// A service that is asked by gRPC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GrpcAuthorizer {
    /// The service: `HOST` or `NAMESPACE/HOST`.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// How long an answer may take.
    pub timeout: Option<Duration>,
    /// Whether requests are let in when there is no answer.
    #[serde(alias = "fail_open")]
    pub fail_open: bool,
    /// The status of requests that are refused because there is none.
    #[serde(alias = "status_on_error")]
    pub status_on_error: String,
    /// How much of the body is sent along.
    #[serde(alias = "include_request_body_in_check")]
    pub include_request_body_in_check: Option<CheckedBody>,
    /// Whether the route is chosen again after the answer.
    #[serde(alias = "clear_route_cache")]
    pub clear_route_cache: bool,
}

/// How much of a body is sent along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CheckedBody {
    /// In bytes.
    #[serde(alias = "max_request_bytes")]
    pub max_request_bytes: u32,
    /// Whether a longer one is cut, or refused.
    #[serde(alias = "allow_partial_message")]
    pub allow_partial_message: bool,
    /// Whether it is sent as bytes, not as text.
    #[serde(alias = "pack_as_bytes")]
    pub pack_as_bytes: bool,
}

/// A file of access logs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FileAccessLog {
    /// The file; empty is `/dev/stdout`.
    pub path: String,
    /// How an entry looks; none is Istio's line.
    #[serde(alias = "log_format")]
    pub log_format: Option<LogFormat>,
}

/// How an entry of an access log looks; one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LogFormat {
    /// As a line.
    pub text: String,
    /// As JSON, field by field.
    pub labels: Option<Map<String, Value>>,
}

/// A service that collects traces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TraceCollector {
    /// The service: `HOST` or `NAMESPACE/HOST`.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// The longest tag of a path.
    #[serde(alias = "max_tag_length")]
    pub max_tag_length: Option<u32>,
    /// By HTTP instead of gRPC.
    pub http: Option<TraceUpload>,
}

/// How traces are uploaded by HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TraceUpload {
    /// The path.
    pub path: String,
    /// How long an upload may take.
    pub timeout: Option<Duration>,
}

/// Providers that hold where no Telemetry says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DefaultProviders {
    /// Of traces.
    pub tracing: Vec<String>,
    /// Of metrics.
    pub metrics: Vec<String>,
    /// Of access logs.
    #[serde(alias = "access_logging")]
    pub access_logging: Vec<String>,
}
