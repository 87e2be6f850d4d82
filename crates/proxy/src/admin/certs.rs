//! `/certs`: the certificates in use.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::SystemTime;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{Answer, Query};
use crate::config::{Listener, Socket, TlsSettings, Trust};
use crate::{Proxy, Snapshot};

pub(super) fn answer(proxy: &Proxy, _: &Query<'_>) -> Answer {
    let snapshot = proxy.snapshot();
    let now = SystemTime::now();
    // Most contexts have the same certificates.
    let mut seen = BTreeSet::new();
    let contexts = contexts(&snapshot).into_iter().map(|settings| context(&snapshot, settings, now));
    let certificates: Vec<Value> = contexts.flatten().filter(|c| seen.insert(c.to_string())).collect();
    Answer::json(&json!({ "certificates": certificates }))
}

/// The TLS contexts of listeners and clusters.
fn contexts(snapshot: &Snapshot) -> Vec<&TlsSettings> {
    let mut contexts = Vec::new();
    for listener in snapshot.listeners().into_values() {
        let Listener { chains, default_chain, .. } = &*listener.config;
        contexts.extend(chains.iter().chain(default_chain).filter_map(|c| Some(&c.tls.as_ref()?.settings)));
    }
    for cluster in snapshot.clusters().into_values() {
        let sockets = cluster.config.socket_matches.iter().map(|m| &m.socket).chain([&cluster.config.socket]);
        contexts.extend(sockets.filter_map(|socket| match socket {
            Socket::Raw => None,
            Socket::Tls(tls) => Some(&tls.settings),
        }));
    }
    contexts
}

/// The certificates of one context; `None` if it has none.
fn context(snapshot: &Snapshot, settings: &TlsSettings, now: SystemTime) -> Option<Value> {
    let shown = snapshot.certificates(settings).unwrap_or_default();
    let shown = shown.iter().flat_map(|c| &c.certified.cert);
    let chain: Vec<Value> = shown.filter_map(|c| details(c, now)).collect();
    let trust = snapshot.validation(&settings.validation).map(|v| v.trust.clone()).unwrap_or_default();
    let roots: Vec<Value> = match &trust {
        Trust::Anybody => Vec::new(),
        Trust::Roots(roots) => roots.iter().filter_map(|c| details(c, now)).collect(),
        Trust::Spiffe(domains) => domains.iter().flat_map(|d| &d.roots).filter_map(|c| details(c, now)).collect(),
    };
    (!chain.is_empty() || !roots.is_empty()).then(|| json!({"ca_cert": roots, "cert_chain": chain}))
}

/// A certificate as `envoy.admin.v3.CertificateDetails`.
fn details(certificate: &CertificateDer<'_>, now: SystemTime) -> Option<Value> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(json!({ "dns": name })),
        GeneralName::URI(name) => Some(json!({ "uri": name })),
        GeneralName::IPAddress(bytes) => Some(json!({ "ip_address": address(bytes)? })),
        _ => None,
    });
    let (from, to) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
    Some(json!({
        "path": "<inline>",
        "serial_number": parsed.raw_serial().iter().map(|b| format!("{b:02x}")).collect::<String>(),
        "subject_alt_names": names.collect::<Vec<Value>>(),
        "days_until_expiration": (to.saturating_sub(now).max(0) / 86400).to_string(),
        "valid_from": Timestamp::from_second(from).ok()?.to_string(),
        "expiration_time": Timestamp::from_second(to).ok()?.to_string(),
    }))
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
}
