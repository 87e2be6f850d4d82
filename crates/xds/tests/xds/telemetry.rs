//! What proxies report.

use std::fmt::Write;

use envoy::envoy::config::listener::v3::{Filter, filter::ConfigType};
use envoy::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use prost::Message;

use crate::world::{assert_found, told};

const MESH: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    extensionProviders:
    - {name: own, envoyFileAccessLog: {path: /tmp/log, logFormat: {text: 'x'}}}
";

fn telemetry(namespace: &str, selector: &str, logging: &str) -> String {
    format!(
        "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: t{}, namespace: {namespace}}}\nspec: {{{selector}accessLogging: [{logging}]}}\n",
        selector.len()
    )
}

fn paths(filter: &Filter) -> Option<String> {
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else { return None };
    let proxy = any.type_url.ends_with("TcpProxy").then(|| TcpProxy::decode(any.value.as_slice()).unwrap())?;
    let path = |log: &envoy::envoy::config::accesslog::v3::AccessLog| {
        let Some(envoy::envoy::config::accesslog::v3::access_log::ConfigType::TypedConfig(any)) = &log.config_type
        else {
            return String::new();
        };
        FileAccessLog::decode(any.value.as_slice()).unwrap().path
    };
    Some(proxy.access_log.iter().map(path).collect::<Vec<_>>().join(","))
}

/// Where incoming and outgoing connections are logged.
fn logs(objects: &str) -> String {
    let resources = told("tcp-echo", &format!("{MESH}{objects}"));
    let mut text = String::new();
    for name in ["virtualInbound", "virtualOutbound"] {
        let listener = &resources.listeners[name];
        let filters = listener.filter_chains.iter().chain(&listener.default_filter_chain).flat_map(|c| &c.filters);
        let all: std::collections::BTreeSet<String> = filters.filter_map(paths).collect();
        write!(text, "{all:?} ").unwrap();
    }
    text.trim_end().to_owned()
}

#[test]
fn the_narrowest_says_where_calls_are_logged() {
    assert_eq!(logs(""), r#"{"/dev/stdout"} {"/dev/stdout"}"#);
    let off = telemetry("istio-system", "", "{disabled: true}");
    assert_eq!(logs(&off), r#"{""} {""}"#);
    let own = telemetry("foo", "", "{providers: [{name: own}]}");
    assert_eq!(logs(&format!("{off}{own}")), r#"{"/tmp/log"} {"/tmp/log"}"#);
    let servers = telemetry("foo", "", "{match: {mode: SERVER}, disabled: true}");
    assert_eq!(logs(&servers), r#"{""} {"/dev/stdout"}"#);
    let selected = telemetry("foo", "selector: {matchLabels: {app: tcp-echo}}, ", "{providers: [{name: envoy}]}");
    assert_eq!(logs(&format!("{own}{selected}")), r#"{"/dev/stdout"} {"/dev/stdout"}"#);
    let others = telemetry("foo", "selector: {matchLabels: {app: other}}, ", "{disabled: true}");
    assert_eq!(logs(&others), logs(""));
}

#[test]
fn what_is_not_reported_is_said() {
    let filtered = telemetry("foo", "", "{filter: {expression: 'response.code >= 400'}}");
    assert_found("tcp-echo", &filtered, "is not supported: every call is logged");
    let unknown = telemetry("foo", "", "{providers: [{name: none}]}");
    assert_found("tcp-echo", &unknown, "\"none\" is no extension provider for files of access logs");
    let metrics = "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: t, namespace: foo}\nspec: {metrics: [{overrides: [{disabled: true}]}]}\n";
    assert_found("tcp-echo", metrics, "proxies count as Istio does without overrides");
}
