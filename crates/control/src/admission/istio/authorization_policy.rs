//! What an AuthorizationPolicy may say.

use api::name;
use serde_json::Value;

use super::finding::{Findings, Subject, check_scope, is_set, items, none_set, text, texts};
use super::host::check_blocks;

/// The fields of a source, each with the name that Istio's messages give it.
const SOURCE: [(&str, &str); 14] = [
    ("principals", "Principals"),
    ("requestPrincipals", "RequestPrincipals"),
    ("namespaces", "Namespaces"),
    ("serviceAccounts", "ServiceAccounts"),
    ("trustDomains", "TrustDomains"),
    ("ipBlocks", "IpBlocks"),
    ("remoteIpBlocks", "RemoteIpBlocks"),
    ("notPrincipals", "NotPrincipals"),
    ("notRequestPrincipals", "NotRequestPrincipals"),
    ("notNamespaces", "NotNamespaces"),
    ("notServiceAccounts", "NotServiceAccounts"),
    ("notTrustDomains", "NotTrustDomains"),
    ("notIpBlocks", "NotIpBlocks"),
    ("notRemoteIpBlocks", "NotRemoteIpBlocks"),
];

const OPERATION: [(&str, &str); 8] = [
    ("ports", "Ports"),
    ("methods", "Methods"),
    ("paths", "Paths"),
    ("hosts", "Hosts"),
    ("notPorts", "NotPorts"),
    ("notMethods", "NotMethods"),
    ("notPaths", "NotPaths"),
    ("notHosts", "NotHosts"),
];

/// What of a source has a meaning without HTTP.
const TCP_SOURCE: [&str; 10] = [
    "principals",
    "notPrincipals",
    "ipBlocks",
    "notIpBlocks",
    "namespaces",
    "notNamespaces",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
    "serviceAccounts",
    "notServiceAccounts",
];

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let mut own = Findings::default();
    check_policy(subject.spec, &mut own);
    findings.warnings.append(&mut own.warnings);
    let Subject { name, namespace, .. } = subject;
    findings.errors.extend(own.errors.iter().map(|error| format!("invalid policy {name}.{namespace}: {error}")));
}

fn check_policy(spec: &Value, findings: &mut Findings) {
    check_scope(spec, findings);
    let action = spec["action"].as_str().unwrap_or("ALLOW");
    // A list without rules is one that protobuf does not have.
    let no_rules = !is_set(&spec["rules"]);
    if no_rules && (action == "CUSTOM" || action == "DENY") {
        findings.refuse(format_args!(
            "{action} action without `rules` is meaningless as it will never be triggered, add an empty rule `{{}}` if you \
             want it be triggered for every request"
        ));
    }
    let provider = is_set(&spec["provider"]["name"]);
    findings.refuse_if(action == "CUSTOM" && !no_rules && !provider, "`provider.name` must not be empty");
    let wrong = format!("`provider` must not be with non CUSTOM action, found {action}");
    findings.refuse_if(action != "CUSTOM" && spec["provider"].is_object(), wrong);
    for (index, rule) in items(&spec["rules"]).iter().enumerate() {
        check_rule(index, rule, findings);
        findings.warn_if(
            action == "DENY" && is_http_only(rule),
            "configured AuthorizationPolicy will deny all traffic to TCP ports under its scope due to the use of only HTTP \
             attributes in a DENY rule; it is recommended to explicitly specify the port",
        );
    }
}

fn is_http_only(rule: &Value) -> bool {
    let has = |list: &str, inner: &str, fields: &[&str]| {
        let mut all = items(&rule[list]).iter().map(|item| &item[inner]);
        all.any(|item| fields.iter().any(|field| !item[*field].is_null()))
    };
    let given = |list: &str| !items(&rule[list]).is_empty();
    let (from, to) = (has("from", "source", &TCP_SOURCE), has("to", "operation", &["ports", "notPorts"]));
    (given("from") && !given("to") && !from) || (given("to") && !to)
}

fn check_rule(index: usize, rule: &Value, findings: &mut Findings) {
    for (list, inner) in [("from", "source"), ("to", "operation")] {
        let empty = rule[list].as_array().is_some_and(Vec::is_empty);
        findings.refuse_if(empty, format_args!("`{list}` must not be empty, found at rule {index}"));
        for item in items(&rule[list]) {
            let missing = item[inner].is_null();
            findings.refuse_if(missing, format_args!("`{list}.{inner}` must not be nil, found at rule {index}"));
            let fields = if list == "from" { &SOURCE[..] } else { &OPERATION[..] };
            let names: Vec<&str> = fields.iter().map(|(field, _)| *field).collect();
            let empty = !missing && none_set(&item[inner], &names);
            findings.refuse_if(empty, format_args!("`{list}.{inner}` must not be empty, found at rule {index}"));
            for (field, title) in fields {
                let hole = texts(&item[inner][*field]).any(str::is_empty);
                findings.refuse_if(hole, format_args!("empty value not allowed, found in {title}"));
            }
        }
    }
    items(&rule["from"]).iter().for_each(|from| check_source(index, &from["source"], findings));
    items(&rule["to"]).iter().for_each(|to| check_ports(&to["operation"], findings));
    items(&rule["when"]).iter().for_each(|condition| check_condition(condition, findings));
}

fn check_source(index: usize, source: &Value, findings: &mut Findings) {
    let wide = ["principals", "notPrincipals", "namespaces", "notNamespaces"];
    let both = !none_set(source, &wide) && !none_set(source, &["serviceAccounts", "notServiceAccounts"]);
    let why = format!("cannot set serviceAccounts with namespaces or principals, found at rule {index}");
    findings.refuse_if(both, why);
    for list in ["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"] {
        check_blocks(&source[list], findings);
    }
    for (list, title) in [("principals", "Principals"), ("notPrincipals", "NotPrincipals")] {
        texts(&source[list]).for_each(|value| findings.check(check_wildcard(value, title)));
    }
    for (list, title) in [("serviceAccounts", "ServiceAccounts"), ("notServiceAccounts", "NotServiceAccounts")] {
        for account in texts(&source[list]).filter(|account| !account.is_empty()) {
            findings.refuse_if(account.contains('*'), format_args!("wildcard not allowed, found in {title}"));
            let (namespace, name) = account.split_once('/').unwrap_or(("any", account));
            let wrong = name::check_label(namespace).is_err() || name.is_empty() || name.contains('/');
            let why =
                format!("expected format 'serviceAccount' or 'namespace/serviceAccount', found {account:?} in {title}");
            findings.refuse_if(wrong && !account.contains('*'), why);
        }
    }
}

/// A wildcard stands for a beginning or an end.
fn check_wildcard(value: &str, title: &str) -> Result<(), String> {
    let inner = value.strip_prefix('*').or_else(|| value.strip_suffix('*')).unwrap_or(value);
    if inner.contains('*') {
        return Err(format!("wildcard is only allowed at the start or end, found in {title}: {value:?}"));
    }
    Ok(())
}

fn check_ports(operation: &Value, findings: &mut Findings) {
    for port in ["ports", "notPorts"].iter().flat_map(|list| texts(&operation[*list])) {
        let valid = port.is_empty() || port.parse::<u16>().is_ok();
        findings.refuse_if(!valid, format_args!("bad port ({port}): it is not a number of 0 to 65535"));
    }
}

fn check_condition(condition: &Value, findings: &mut Findings) {
    let key = text(&condition["key"]);
    if key.is_empty() {
        return findings.refuse("`key` must not be empty");
    }
    if none_set(condition, &["values", "notValues"]) {
        return findings.refuse(format_args!("at least one of `values` or `notValues` must be set for key {key}"));
    }
    for (list, title) in [("values", "value"), ("notValues", "notValue")] {
        if let Err(why) = check_attribute(key, &condition[list]) {
            findings.refuse(format_args!("invalid `{title}` for `key` {key}: {why}"));
        }
    }
}

fn check_attribute(key: &str, values: &Value) -> Result<(), String> {
    const PLAIN: [&str; 8] = [
        "source.namespace",
        "source.serviceAccount",
        "source.principal",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "connection.sni",
    ];
    let mut findings = Findings::default();
    match key {
        _ if PLAIN.contains(&key) => {}
        "source.ip" | "remote.ip" | "destination.ip" => check_blocks(values, &mut findings),
        "destination.port" => check_ports(&serde_json::json!({ "ports": values }), &mut findings),
        "destination.namespace" => return Err(format!("attribute {key} is replaced by the metadata.namespace")),
        "destination.name" | "destination.user" => {
            return Err(format!("deprecated attribute {key}: only supported in v1alpha1"));
        }
        _ if key.starts_with("destination.labels") => {
            return Err(format!("attribute {key} is replaced by the workload selector"));
        }
        _ if ["request.headers", "request.auth.claims", "experimental."].iter().any(|p| key.starts_with(p)) => {
            let named = key.starts_with("experimental.") || (key.contains('[') && key.ends_with(']'));
            findings.refuse_if(!named, format_args!("bad key ({key}): should have format a[b]"));
        }
        _ => return Err(format!("unknown attribute: {key}")),
    }
    findings.verdict().map_or(Ok(()), Err)
}
