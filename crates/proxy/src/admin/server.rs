//! The proxy as a whole: its state, and what can be done with it.

use http::StatusCode;
use serde_json::{Value, json};

use super::print::Printer;
use super::{Answer, Query};
use crate::{Drained, Proxy};

/// What the proxy calls itself.
const VERSION: &str = concat!("isthmus/", env!("CARGO_PKG_VERSION"));

pub(super) fn ready(proxy: &Proxy, _: &Query<'_>) -> Answer {
    let state = proxy.state().name();
    let status = if state == "LIVE" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Answer::error(status, format!("{state}\n"))
}

pub(super) fn info(proxy: &Proxy, _: &Query<'_>) -> Answer {
    let uptime = format!("{}s", proxy.uptime().as_secs());
    let node = proxy.node();
    Answer::json(&json!({
        "version": VERSION,
        "state": proxy.state().name(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": {
            "concurrency": proxy.concurrency(),
            "service_cluster": node.cluster,
            "service_node": node.id,
            "mode": "Serve",
            "disable_hot_restart": true,
        },
        "node": Printer::new().message("envoy.config.core.v3.Node", node),
    }))
}

pub(super) fn memory(_: &Proxy, _: &Query<'_>) -> Answer {
    match resident_bytes() {
        Some(bytes) => Answer::json(&json!({"total_physical_bytes": bytes.to_string()})),
        None => Answer::json(&Value::Object(serde_json::Map::new())),
    }
}

/// The memory of this process, as the kernel counts it.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

pub(super) fn fail(proxy: &Proxy, _: &Query<'_>) -> Answer {
    proxy.state().fail(true);
    Answer::text("OK\n")
}

pub(super) fn pass(proxy: &Proxy, _: &Query<'_>) -> Answer {
    proxy.state().fail(false);
    Answer::text("OK\n")
}

pub(super) fn drain_listeners(proxy: &Proxy, query: &Query<'_>) -> Answer {
    let inbound = query.get("inboundonly").is_some();
    proxy.drain(if inbound { Drained::Inbound } else { Drained::All });
    Answer::text("OK\n")
}

pub(super) fn quit(proxy: &Proxy, _: &Query<'_>) -> Answer {
    proxy.quit();
    Answer::text("OK\n")
}
