//! Hops that route requests, with what a sidecar does to each: a policy, a table of routes, counters, an access log.

use std::path::Path;

use serde_json::{Value, json};

use super::bootstrap::Hop;

/// A hop for HTTP.
pub(crate) struct Requests<'a> {
    pub(crate) hop: Hop<'a>,
    /// How many routes there are; requests take the last.
    pub(crate) routes: u32,
    /// The file of the access log.
    pub(crate) log: &'a Path,
}

/// What a client asks for where there are so many routes.
pub(crate) fn path(routes: u32) -> String {
    format!("/service-{}/items/7?page=2", routes - 1)
}

impl Requests<'_> {
    pub(crate) fn bootstrap(&self) -> Value {
        let mut bootstrap = self.hop.bootstrap();
        bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"] = json!([self.connections()]);
        bootstrap
    }

    fn connections(&self) -> Value {
        let routes: Vec<Value> = (0..self.routes).map(route).collect();
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": self.log,
                "log_format": {"text_format_source": {"inline_string": LOG}},
            }}],
            "http_filters": [policy(), {"name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            }}],
            "normalize_path": true,
            "use_remote_address": true,
            "route_config": {"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        }})
    }
}

fn route(number: u32) -> Value {
    json!({
        "match": {"prefix": format!("/service-{number}/")},
        "route": {"cluster": "out", "timeout": "15s", "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2}},
    })
}

/// Lets some methods through, and nothing that begins with `/admin`.
fn policy() -> Value {
    let method = |name: &str| json!({"header": {"name": ":method", "string_match": {"exact": name}}});
    let admin = json!({"url_path": {"path": {"prefix": "/admin"}}});
    json!({"name": "envoy.filters.http.rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "ALLOW", "policies": {"readers": {
            "permissions": [{"and_rules": {"rules": [
                {"or_rules": {"rules": [method("GET"), method("POST")]}},
                {"not_rule": admin},
            ]}}],
            "principals": [{"any": true}],
        }}},
    }})
}

/// As Istio has it, without what only its sidecars know.
const LOG: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% %DOWNSTREAM_REMOTE_ADDRESS%\n";
