//! What a Gateway may say.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::name;
use serde_json::Value;

use super::finding::{Findings, Subject, is_set, items, none_set, text, texts};
use super::host::{Protocol, check_port, check_scoped};

const FILES: [&str; 3] = ["serverCertificate", "privateKey", "caCertificates"];

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let named = name::check_label(subject.name).is_ok();
    findings.refuse_if(!named, format_args!("invalid gateway name: {:?}", subject.name));
    let servers = items(&subject.spec["servers"]);
    findings.refuse_if(servers.is_empty(), "gateway must have at least one server");
    servers.iter().for_each(|server| check_server(server, findings));
    let mut names = BTreeSet::new();
    for port in servers.iter().map(|server| &server["port"]) {
        let name = text(&port["name"]);
        let why = format!("port names in servers must be unique: duplicate name {name}");
        findings.refuse_if(!names.insert(name), why);
    }
}

fn check_server(server: &Value, findings: &mut Findings) {
    let hosts = &server["hosts"];
    findings.refuse_if(items(hosts).is_empty(), "server config must contain at least one host");
    texts(hosts).for_each(|host| findings.check(check_scoped(host, true)));
    let port = &server["port"];
    let protocol = Protocol::parse(text(&port["protocol"]));
    if protocol.is_none() {
        findings.refuse(format_args!(
            "invalid protocol {:?}, supported protocols are HTTP, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP",
            text(&port["protocol"])
        ));
    }
    let bind = text(&server["bind"]);
    if !bind.starts_with("unix://") {
        findings.check(check_port(&port["number"]));
        let wrong = !bind.is_empty() && bind.parse::<IpAddr>().is_err();
        findings.refuse_if(wrong, format_args!("{bind} is not a valid IP"));
    }
    let target = port["targetPort"].as_u64().is_some_and(|number| number > 0);
    findings.refuse_if(target, "targetPort has no impact on Gateways");
    findings.refuse_if(text(&port["name"]).is_empty(), format_args!("port name must be set: {port}"));
    let tls = &server["tls"];
    check_tls(tls, findings);
    match protocol {
        Some(Protocol::Tls) => {
            findings.refuse_if(tls.is_null(), "server must have TLS settings for HTTPS/TLS protocols");
        }
        Some(Protocol::Http) if !tls.is_null() => {
            let passes = matches!(text(&tls["mode"]), "" | "PASSTHROUGH" | "AUTO_PASSTHROUGH");
            let wrong = !passes || !none_set(tls, &FILES);
            findings.refuse_if(wrong, "server cannot have TLS settings for plain text HTTP ports");
        }
        Some(Protocol::Tcp) if !tls.is_null() => {
            findings.refuse("server cannot have TLS settings for non HTTPS/TLS ports");
        }
        _ => {}
    }
    let redirects = tls["httpsRedirect"] == true && protocol != Some(Protocol::Http);
    findings.warn_if(redirects, "tls.httpsRedirect should only be used with http servers");
}

/// How a server speaks TLS.
pub(super) fn check_tls(tls: &Value, findings: &mut Findings) {
    let set = |field: &str| is_set(&tls[field]);
    let mode = tls["mode"].as_str().unwrap_or("PASSTHROUGH");
    if mode == "ISTIO_MUTUAL" {
        for (field, title) in [
            ("serverCertificate", "server certificate"),
            ("privateKey", "private key"),
            ("caCertificates", "CA bundle"),
            ("tlsCertificates", "tlsCertificates"),
            ("credentialName", "credentialName"),
            ("credentialNames", "credentialNames"),
        ] {
            findings.refuse_if(set(field), format_args!("ISTIO_MUTUAL TLS cannot have associated {title}"));
        }
        return;
    }
    let passes = matches!(mode, "PASSTHROUGH" | "AUTO_PASSTHROUGH");
    let certificates = ["caCrl", "credentialName", "credentialNames", "tlsCertificates"].into_iter().chain(FILES);
    let ignored = passes && certificates.into_iter().any(set);
    findings.warn_if(ignored, format_args!("{mode} mode does not use certificates, they will be ignored"));
    let files = set("serverCertificate") && set("privateKey");
    let sources = [files, set("credentialName"), set("credentialNames"), set("tlsCertificates")];
    findings.refuse_if(
        sources.into_iter().filter(|given| *given).count() > 1,
        "only one of credential_name, credential_names, server_certificate/private_key, tls_certificates should be specified",
    );
    if passes || set("credentialName") || set("credentialNames") {
        return;
    }
    let prefix = if mode == "SIMPLE" { "SIMPLE TLS" } else { "MUTUAL TLS" };
    let bundle = mode == "SIMPLE" || set("caCertificates");
    findings.refuse_if(!bundle, format_args!("{prefix} requires a client CA bundle"));
    let own = [tls.clone()];
    let several = items(&tls["tlsCertificates"]);
    for certificate in if several.is_empty() { &own[..] } else { several } {
        let missing = |field: &str| !is_set(&certificate[field]);
        findings.refuse_if(missing("serverCertificate"), format_args!("{prefix} requires a server certificate"));
        findings.refuse_if(missing("privateKey"), format_args!("{prefix} requires a private key"));
    }
}
