//! What is done with requests, by the features of a sidecar or without them.

use std::path::Path;

use serde_json::{Value, json};

use super::hop::Requests;

/// The network filter that routes them.
pub(crate) fn filter(requests: Requests, log: &Path) -> Value {
    let routes: Vec<Value> = (0..requests.routes).map(|number| route(number, requests.features)).collect();
    let router = json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }});
    let mut connections = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in", "use_remote_address": true, "http_filters": [router],
        "route_config": {"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    });
    if requests.features {
        connections["http_filters"] = json!([policy(), router]);
        connections["normalize_path"] = true.into();
        connections["access_log"] = json!([{"name": "envoy.access_loggers.file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": log, "log_format": {"text_format_source": {"inline_string": LOG}},
        }}]);
    }
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": connections})
}

fn route(number: u32, features: bool) -> Value {
    let mut action = json!({"cluster": "out"});
    if features {
        action["timeout"] = "15s".into();
        action["retry_policy"] = json!({"retry_on": "connect-failure,refused-stream", "num_retries": 2});
    }
    json!({"match": {"prefix": format!("/service-{number}/")}, "route": action})
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
