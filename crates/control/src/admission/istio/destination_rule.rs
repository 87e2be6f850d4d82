//! What a DestinationRule may say.

use std::collections::BTreeSet;

use serde_json::Value;

use super::finding::{Findings, Subject, check_selector, is_set, items, none_set, text};
use super::host::{check_domain, check_export, check_port, check_subset};

const PORT_POLICY: [&str; 4] = ["outlierDetection", "connectionPool", "loadBalancer", "tls"];
const POLICY: [&str; 8] = [
    "outlierDetection",
    "connectionPool",
    "loadBalancer",
    "tls",
    "portLevelSettings",
    "tunnel",
    "proxyProtocol",
    "retryBudget",
];

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let spec = subject.spec;
    findings.check(check_domain(text(&spec["host"])));
    check_policy(&spec["trafficPolicy"], findings);
    let mut names = BTreeSet::new();
    for subset in items(&spec["subsets"]) {
        let name = text(&subset["name"]);
        findings.refuse_if(!names.insert(name), format_args!("duplicate subset names: {name}"));
        findings.check(check_subset(name));
        check_policy(&subset["trafficPolicy"], findings);
    }
    let export = &spec["exportTo"];
    check_export(export, subject.namespace, false, findings);
    if spec["workloadSelector"].is_object() && is_set(export) {
        let own = |entry: &Value| entry == "." || entry == subject.namespace;
        let beyond = !items(export).iter().all(own);
        let why = "destination rule with workload selector cannot have exportTo beyond current namespace";
        findings.refuse_if(beyond, why);
    }
    check_selector(&spec["workloadSelector"]["matchLabels"], findings);
}

fn check_policy(policy: &Value, findings: &mut Findings) {
    if policy.is_null() {
        return;
    }
    if none_set(policy, &POLICY) {
        return findings.refuse("traffic policy must have at least one field");
    }
    let both = is_set(&policy["tunnel"]) && is_set(&policy["proxyProtocol"]);
    findings.refuse_if(both, "tunnel and proxyProtocol must not be set together");
    check_settings(policy, findings);
    for of_port in items(&policy["portLevelSettings"]) {
        findings.refuse_if(of_port["port"].is_null(), "portTrafficPolicy must have valid port");
        if !of_port["port"].is_null() {
            findings.check(check_port(&of_port["port"]["number"]));
        }
        if none_set(of_port, &PORT_POLICY) {
            findings.refuse("port traffic policy must have at least one field");
        } else {
            check_settings(of_port, findings);
        }
    }
}

/// What a policy and the policy of a port have in common.
fn check_settings(policy: &Value, findings: &mut Findings) {
    check_tls(&policy["tls"], findings);
    check_pool(&policy["connectionPool"], findings);
    let outlier = &policy["outlierDetection"];
    for field in ["maxEjectionPercent", "minHealthPercent"] {
        let number = outlier[field].as_i64().unwrap_or_default();
        findings.refuse_if(!(0..=100).contains(&number), format_args!("percentage {number} is not in range 0..100"));
    }
    let balancer = &policy["loadBalancer"];
    let both = is_set(&balancer["warmup"]) && is_set(&balancer["warmupDurationSecs"]);
    findings.refuse_if(both, "only one of warmupDurationSecs or warmup can be set");
    let hash = &balancer["consistentHash"];
    const KEYS: [&str; 4] = ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
    let keyed = hash.is_null() || !none_set(hash, &KEYS);
    findings.refuse_if(
        !keyed,
        "consistentHash must have one of httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName",
    );
    let locality = &balancer["localityLbSetting"];
    let both = is_set(&locality["distribute"]) && is_set(&locality["failover"]);
    findings.refuse_if(both, "can not simultaneously specify 'distribute' and 'failover'");
    for distribute in items(&locality["distribute"]) {
        let shares: Vec<u64> =
            distribute["to"].as_object().into_iter().flatten().filter_map(|(_, share)| share.as_u64()).collect();
        let wrong = shares.iter().any(|share| !(1..=100).contains(share));
        findings.refuse_if(wrong, "locality weight must be in range [1, 100]");
        let total: u64 = shares.iter().sum();
        findings.refuse_if(total != 100, format_args!("total locality weight {total} != 100"));
    }
}

fn check_tls(tls: &Value, findings: &mut Findings) {
    const FILES: [&str; 4] = ["clientCertificate", "privateKey", "caCertificates", "caCrl"];
    let set = |field: &str| is_set(&tls[field]);
    let named = set("credentialName");
    if tls["insecureSkipVerify"] == true {
        let both = set("caCertificates") || set("subjectAltNames");
        findings
            .refuse_if(both, "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set true");
    }
    let mode = tls["mode"].as_str().unwrap_or("DISABLE");
    if named && matches!(mode, "SIMPLE" | "MUTUAL") {
        let files = FILES.into_iter().any(set);
        return findings.refuse_if(
            files,
            "cannot specify client certificates or CA certificate or CA CRL If credentialName is set",
        );
    }
    if mode == "MUTUAL" {
        findings.refuse_if(!set("clientCertificate"), "client certificate required for mutual tls");
        findings.refuse_if(!set("privateKey"), "private key required for mutual tls");
    }
    // Istio ignores them in silence; whoever writes them means something else.
    let ignored = mode == "ISTIO_MUTUAL" && (named || FILES.into_iter().any(set));
    findings.warn_if(ignored, "ISTIO_MUTUAL uses the workload's own certificate: other certificates have no effect");
    findings.warn_if(
        tls.is_object() && mode == "DISABLE",
        "tls mode DISABLE, which is also meant where no mode is given, turns off mutual TLS to this host",
    );
}

fn check_pool(pool: &Value, findings: &mut Findings) {
    if pool.is_null() {
        return;
    }
    findings.refuse_if(none_set(pool, &["tcp", "http"]), "connection pool must have at least one field");
    let (tcp, http) = (&pool["tcp"], &pool["http"]);
    let negative = |value: &Value| value.as_i64().is_some_and(|number| number < 0);
    findings.refuse_if(negative(&tcp["maxConnections"]), "max connections must be non-negative");
    for (field, title) in [
        ("http1MaxPendingRequests", "http1 max pending requests"),
        ("http2MaxRequests", "http2 max requests"),
        ("maxRequestsPerConnection", "max requests per connection"),
        ("maxRetries", "max retries"),
        ("maxConcurrentStreams", "max concurrent streams"),
    ] {
        findings.refuse_if(negative(&http[field]), format_args!("{title} must be non-negative"));
    }
    let upgrade = http["h2UpgradePolicy"] == "UPGRADE" && http["useClientProtocol"] == true;
    findings.refuse_if(upgrade, "use client protocol must not be true when H2UpgradePolicy is UPGRADE");
}
