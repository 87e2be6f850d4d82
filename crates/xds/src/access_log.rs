//! Access logs.

use api::istio::{LogFormat, MeshConfig};
use envoy::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy::envoy::config::accesslog::v3::{AccessLog, AccessLogFilter, ResponseFlagFilter};
use envoy::envoy::config::core::v3::substitution_format_string::Format;
use envoy::envoy::config::core::v3::{DataSource, SubstitutionFormatString, data_source::Specifier};
use envoy::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat;
use prost_types::Struct;
use serde_json::{Map, Value};

use crate::wire;

/// Istio's line (1.9 and later).
const TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
    \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% \
    %ROUTE_NAME%\n";

/// The same as JSON, field by field.
const JSON: &[(&str, &str)] = &[
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// The logs of connections that a chain takes.
pub(crate) fn connections(mesh: &MeshConfig) -> Vec<AccessLog> {
    log(mesh).into_iter().collect()
}

/// The logs of connections that no chain of a listener takes.
pub(crate) fn refused(mesh: &MeshConfig) -> Vec<AccessLog> {
    log(mesh).map(of_refused).into_iter().collect()
}

/// A log of connections that no chain takes.
pub(crate) fn of_refused(log: AccessLog) -> AccessLog {
    let filter = FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags: vec!["NR".to_owned()] });
    AccessLog { filter: Some(AccessLogFilter { filter_specifier: Some(filter) }), ..log }
}

/// The mesh's own log, if it has one.
pub(crate) fn log(mesh: &MeshConfig) -> Option<AccessLog> {
    let file = mesh.access_log_file.as_str();
    (!file.is_empty()).then(|| self::file(file, format(mesh)))
}

/// A log in a file.
pub(crate) fn file(path: &str, format: Format) -> AccessLog {
    let format = SubstitutionFormatString { format: Some(format), ..SubstitutionFormatString::default() };
    let file = FileAccessLog { path: path.to_owned(), access_log_format: Some(AccessLogFormat::LogFormat(format)) };
    let config = wire::any("envoy.extensions.access_loggers.file.v3.FileAccessLog", &file);
    AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        filter: None,
        config_type: Some(ConfigType::TypedConfig(config)),
    }
}

/// How the mesh's entries look.
pub(crate) fn format(mesh: &MeshConfig) -> Format {
    let own = mesh.access_log_format.as_str();
    if mesh.access_log_encoding == "JSON" {
        return Format::JsonFormat(own_fields(own).unwrap_or_else(|| Struct {
            fields: JSON.iter().map(|(name, value)| ((*name).to_owned(), wire::text(*value))).collect(),
        }));
    }
    text(if own.is_empty() { TEXT } else { own })
}

/// How a provider's entries look; if it does not say, as the mesh's.
pub(crate) fn format_of(mesh: &MeshConfig, own: Option<&LogFormat>) -> Format {
    match own {
        Some(LogFormat { labels: Some(labels), .. }) => Format::JsonFormat(fields(labels.clone())),
        Some(LogFormat { text: own, .. }) if !own.is_empty() => text(own),
        _ => format(mesh),
    }
}

fn text(line: &str) -> Format {
    let line = if line.ends_with('\n') { line.to_owned() } else { format!("{line}\n") };
    Format::TextFormatSource(DataSource { specifier: Some(Specifier::InlineString(line)), ..DataSource::default() })
}

/// The fields of a format that is itself written in JSON.
fn own_fields(format: &str) -> Option<Struct> {
    let Ok(Value::Object(own)) = serde_json::from_str(format) else { return None };
    Some(fields(own))
}

fn fields(own: Map<String, Value>) -> Struct {
    let text = |(name, value): (String, Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name, wire::text(value))
    };
    Struct { fields: own.into_iter().map(text).collect() }
}
