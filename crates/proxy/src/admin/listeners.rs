//! `/listeners`: what is listened at.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Answer, Query};
use crate::Proxy;

pub(super) fn answer(proxy: &Proxy, query: &Query<'_>) -> Answer {
    let snapshot = proxy.snapshot();
    let listeners = snapshot.listeners();
    if query.get("format") == Some("json") {
        let status = |(name, address): (&str, SocketAddr)| json!({"name": name, "local_address": socket(address)});
        let statuses: Vec<Value> = listeners.iter().map(|(name, l)| status((name, l.config.address))).collect();
        return Answer::json(&json!({ "listener_statuses": statuses }));
    }
    Answer::text(listeners.iter().map(|(name, l)| format!("{name}::{}\n", l.config.address)).collect::<String>())
}

/// An address as `envoy.config.core.v3.Address`.
pub(super) fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}
