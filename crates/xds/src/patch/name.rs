//! Names that Envoy had for its filters and messages, and has now.

use std::borrow::Cow;

use super::message;

/// What a name stands for, by the message in which it is.
pub(super) fn kind(message: &str) -> Option<&'static str> {
    Some(match message {
        "envoy.config.listener.v3.Filter" => "filters.network",
        "envoy.config.listener.v3.ListenerFilter" => "filters.listener",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter" => "filters.http",
        "envoy.config.accesslog.v3.AccessLog" => "access_loggers",
        "envoy.config.core.v3.TransportSocket" => "transport_sockets",
        _ => return None,
    })
}

/// The name that a filter has now.
pub(super) fn current<'a>(kind: &str, name: &'a str) -> Cow<'a, str> {
    let old = match (kind, name) {
        ("filters.listener", name) => name.strip_prefix("envoy.listener."),
        ("access_loggers", "envoy.file_access_log") => Some("file"),
        ("access_loggers", "envoy.http_grpc_access_log") => Some("http_grpc"),
        ("access_loggers", "envoy.tcp_grpc_access_log") => Some("tcp_grpc"),
        ("transport_sockets", name @ ("tls" | "raw_buffer" | "alts" | "tap")) => Some(name),
        ("filters.http", "envoy.rate_limit") => Some("ratelimit"),
        ("filters.http" | "filters.network", name) => name.strip_prefix("envoy.").filter(|rest| !rest.contains('.')),
        _ => None,
    };
    match old {
        Some(rest) => Cow::Owned(format!("envoy.{kind}.{rest}")),
        None => Cow::Borrowed(name),
    }
}

/// The message that configures a filter of this name.
pub(super) fn type_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix("envoy.")?;
    let own = rest.rsplit('.').next()?.replace('_', "");
    let package = match rest {
        "transport_sockets.tls" => return None,
        rest => format!("envoy.extensions.{rest}.v3"),
    };
    let simple = match rest {
        "filters.http.fault" => "HTTPFault",
        "filters.http.jwt_authn" => "JwtAuthentication",
        "filters.http.grpc_stats" => "FilterConfig",
        "filters.http.header_to_metadata" | "filters.http.set_filter_state" | "filters.network.set_filter_state" => {
            "Config"
        }
        "filters.http.ext_proc" => "ExternalProcessor",
        "access_loggers.file" => "FileAccessLog",
        _ => "",
    };
    let wanted = |simple: &str| simple.eq_ignore_ascii_case(&own);
    match simple {
        "" => message::names_in(&package).find(|name| wanted(name)).map(|simple| format!("{package}.{simple}")),
        simple => Some(format!("{package}.{simple}")),
    }
}

/// The name that a message has now: those of Envoy's second API moved.
pub(super) fn current_type(name: &str) -> Cow<'_, str> {
    const MOVED: [(&str, &str); 8] = [
        ("envoy.config.accesslog.v2.FileAccessLog", "envoy.extensions.access_loggers.file.v3.FileAccessLog"),
        ("envoy.api.v2.auth.UpstreamTlsContext", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
        ("envoy.api.v2.auth.DownstreamTlsContext", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
        (
            "envoy.config.cluster.aggregate.v2alpha.ClusterConfig",
            "envoy.extensions.clusters.aggregate.v3.ClusterConfig",
        ),
        ("envoy.config.filter.http.rate_limit.v2.RateLimit", "envoy.extensions.filters.http.ratelimit.v3.RateLimit"),
        ("envoy.api.v2.Cluster", "envoy.config.cluster.v3.Cluster"),
        ("envoy.api.v2.Listener", "envoy.config.listener.v3.Listener"),
        ("envoy.api.v2.RouteConfiguration", "envoy.config.route.v3.RouteConfiguration"),
    ];
    if let Some((_, new)) = MOVED.iter().find(|(old, _)| *old == name) {
        return Cow::Borrowed(new);
    }
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["envoy", "config", "filter", kind, filter, version, message] if version.starts_with("v2") => {
            Cow::Owned(format!("envoy.extensions.filters.{kind}.{filter}.v3.{message}"))
        }
        _ => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_are_understood() {
        let hcm = "envoy.filters.network.http_connection_manager";
        assert_eq!(current("filters.network", "envoy.http_connection_manager"), hcm);
        assert_eq!(current("filters.network", hcm), hcm);
        assert_eq!(current("filters.http", "envoy.rate_limit"), "envoy.filters.http.ratelimit");
        assert_eq!(current("filters.http", "mine"), "mine");
        assert_eq!(current("filters.listener", "envoy.listener.tls_inspector"), "envoy.filters.listener.tls_inspector");
        assert_eq!(current_type("envoy.config.filter.http.rbac.v2.RBAC"), "envoy.extensions.filters.http.rbac.v3.RBAC");
    }

    #[test]
    fn configurations_are_typed_by_the_names_of_filters() {
        for (name, message) in [
            (
                "envoy.filters.network.http_connection_manager",
                "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            ),
            ("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC"),
            ("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault"),
            ("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"),
            ("envoy.filters.http.lua", "envoy.extensions.filters.http.lua.v3.Lua"),
        ] {
            assert_eq!(type_of(name).as_deref(), Some(message));
            assert!(message::descriptor(message).is_ok(), "{message}");
        }
        assert_eq!(type_of("mine"), None);
    }
}
