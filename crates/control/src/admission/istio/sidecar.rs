//! What a Sidecar may say.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::finding::{Findings, Subject, check_selector, items, none_set, text, texts};
use super::gateway::check_tls;
use super::host::{Protocol, check_port, check_port_name, check_protocol, check_scoped};
use super::virtual_service::check_destination;

const UNIX: &str = "unix://";

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let spec = subject.spec;
    let labels = &spec["workloadSelector"]["labels"];
    let all = spec["workloadSelector"].is_object() && labels.as_object().is_none_or(|labels| labels.is_empty());
    findings.warn_if(
        all,
        "sidecar: workload selector specified without labels, will be applied to all services in namespace",
    );
    check_selector(labels, findings);
    if none_set(spec, &["egress", "ingress", "outboundTrafficPolicy", "inboundConnectionPool"]) {
        return findings.refuse("sidecar: empty configuration provided");
    }
    let mut ports = BTreeSet::new();
    for listener in items(&spec["ingress"]) {
        check_ingress(listener, &mut ports, findings);
    }
    let mut ports = BTreeSet::new();
    let egress = items(&spec["egress"]);
    for (index, listener) in egress.iter().enumerate() {
        let misplaced = listener["port"].is_null() && index + 1 != egress.len();
        findings.refuse_if(
            misplaced,
            "sidecar: the egress listener with empty port should be the last listener in the list",
        );
        check_egress(listener, &mut ports, findings);
    }
    let policy = &spec["outboundTrafficPolicy"];
    if policy["egressProxy"].is_object() {
        let wrong = policy["mode"] != "ALLOW_ANY";
        findings.refuse_if(wrong, "sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode");
        findings.refuse_if(policy["egressProxy"]["port"].is_null(), "sidecar: egress_proxy port must be non-nil");
        check_destination(&policy["egressProxy"], findings);
    }
}

fn check_listener<'a>(listener: &'a Value, ports: &mut BTreeSet<(Option<u64>, &'a str)>, findings: &mut Findings) {
    let port = &listener["port"];
    let target = port["targetPort"].as_u64().is_some_and(|number| number > 0);
    findings.refuse_if(target, "targetPort has no impact on Sidecars");
    if !text(&port["name"]).is_empty() {
        findings.check(check_port_name(text(&port["name"])));
    }
    findings.check(check_protocol(text(&port["protocol"])));
    let bind = text(&listener["bind"]);
    let number = port["number"].as_u64().filter(|number| *number > 0);
    let unique = ports.insert((number, if number.is_none() { bind } else { "" }));
    findings.refuse_if(
        !unique,
        match number {
            Some(_) => "sidecar: ports on IP bound listeners must be unique",
            None => "sidecar: unix domain socket values for listeners must be unique",
        },
    );
    let wrong = number.is_some() && !bind.is_empty() && bind.parse::<IpAddr>().is_err();
    findings.refuse_if(wrong, format_args!("{bind} is not a valid IP"));
}

fn check_ingress<'a>(listener: &'a Value, ports: &mut BTreeSet<(Option<u64>, &'a str)>, findings: &mut Findings) {
    let port = &listener["port"];
    if port.is_null() {
        return findings.refuse("sidecar: port is required for ingress listeners");
    }
    findings.check(check_port(&port["number"]));
    check_listener(listener, ports, findings);
    let endpoint = text(&listener["defaultEndpoint"]);
    if !endpoint.is_empty() && !endpoint.starts_with(UNIX) {
        let (host, number) = endpoint.rsplit_once(':').unwrap_or((endpoint, ""));
        let local = matches!(host.trim_matches(['[', ']']), "" | "127.0.0.1" | "0.0.0.0" | "::1" | "::");
        findings.refuse_if(
            !local,
            "sidecar: defaultEndpoint must be of form 127.0.0.1:<port>,0.0.0.0:<port>,[::1]:port,[::]:port,unix://filepath \
             or unset",
        );
        let wrong = !matches!(number.parse::<u16>(), Ok(1..));
        findings.refuse_if(wrong, format_args!("sidecar: defaultEndpoint port ({number}) is not a number"));
    }
    let tls = &listener["tls"];
    if tls.is_object() {
        for (field, why) in [
            ("subjectAltNames", "sidecar: subjectAltNames is not supported in ingress tls"),
            ("credentialName", "sidecar: credentialName is not currently supported"),
            ("credentialNames", "sidecar: credentialNames is not currently supported"),
            ("tlsCertificates", "sidecar: tls_certificates is not currently supported"),
        ] {
            findings.refuse_if(!none_set(tls, &[field]), why);
        }
        findings.refuse_if(tls["httpsRedirect"] == true, "sidecar: httpsRedirect is not supported");
        let mode = text(&tls["mode"]);
        let wrong = matches!(mode, "ISTIO_MUTUAL" | "AUTO_PASSTHROUGH");
        findings.refuse_if(wrong, format_args!("cannot set mode to {mode} in sidecar ingress tls"));
        let plain = Protocol::parse(text(&port["protocol"])) != Some(Protocol::Tls);
        findings.refuse_if(plain, "server cannot have TLS settings for non HTTPS/TLS ports");
        check_tls(tls, findings);
    }
}

fn check_egress<'a>(listener: &'a Value, ports: &mut BTreeSet<(Option<u64>, &'a str)>, findings: &mut Findings) {
    let port = &listener["port"];
    if !port.is_null() {
        check_listener(listener, ports, findings);
        let unix = text(&listener["bind"]).starts_with(UNIX);
        if port["number"].as_u64().unwrap_or_default() == 0 {
            findings.refuse_if(!unix, "sidecar: ports with 0 value must have a unix domain socket bind address");
            let captured = listener["captureMode"] == "IPTABLES";
            findings.refuse_if(captured, "sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners");
        } else {
            findings.check(check_port(&port["number"]));
        }
    }
    let hosts = &listener["hosts"];
    findings.refuse_if(items(hosts).is_empty(), "sidecar: egress listener must contain at least one host");
    let mut seen = BTreeSet::new();
    for host in texts(hosts) {
        findings.check(check_scoped(host, false));
        findings.warn_if(!seen.insert(host), format_args!("duplicated egress host: {host}"));
    }
}
