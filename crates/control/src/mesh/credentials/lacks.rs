//! What Gateways name and the namespace of their pods does not have, told about the Gateway.

use api::NamespacedName;
use api::istio::{Gateway, Object, ServerTls, ServerTlsMode, includes};
use xds::{Code, Diagnostic, Node, ObjectRef, Objects, Severity};

use super::{AUTHORITIES, Credentials, Lack, PREFIX};

/// What the gateway `node` lacks of what its Gateways name. `denied` is its account if that may not list Secrets.
pub(in crate::mesh) fn found(
    objects: &Objects,
    node: &Node,
    credentials: &Credentials,
    denied: Option<&NamespacedName>,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for gateway in objects.gateways.iter().filter(|gateway| includes(&node.labels, &gateway.spec.selector)) {
        for (i, server) in gateway.spec.servers.iter().enumerate() {
            let Some(tls) = &server.tls else { continue };
            for (field, secret) in named(tls) {
                let found_here = match denied {
                    Some(account) => Some((Severity::Error, Code::Unsafe, refusal(&secret, account))),
                    None => credentials.lack(&node.namespace, &secret).map(|lack| words(&secret, node, lack)),
                };
                found.extend(found_here.map(|(severity, code, message)| Diagnostic {
                    object: reference(gateway),
                    field: format!("spec.servers[{i}].tls.{field}"),
                    severity,
                    code,
                    message,
                }));
            }
        }
    }
    found
}

/// The resources that a server names out of Secrets, each with the field that does.
fn named(tls: &ServerTls) -> Vec<(&'static str, String)> {
    if tls.mode.passes() {
        return Vec::new();
    }
    let single = Some(&tls.credential_name).filter(|name| !name.is_empty());
    let single = single.map(|name| ("credentialName", format!("{PREFIX}{name}")));
    let several = tls.credential_names.iter().map(|name| ("credentialNames", format!("{PREFIX}{name}")));
    let mut all: Vec<_> = single.into_iter().chain(several).collect();
    let asks = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    if asks && !tls.ca_cert_credential_name.is_empty() {
        all.push(("caCertCredentialName", format!("{PREFIX}{}{AUTHORITIES}", tls.ca_cert_credential_name)));
    } else if asks && tls.ca_certificates.is_empty() {
        all.extend(all.first().map(|(field, name)| (*field, format!("{name}{AUTHORITIES}"))));
    }
    all
}

fn reference(gateway: &Object<Gateway>) -> ObjectRef {
    let (namespace, name) = (gateway.metadata.namespace.clone(), gateway.metadata.name.clone());
    ObjectRef { kind: "Gateway".to_owned(), namespace, name }
}

fn words(secret: &str, node: &Node, lack: Lack) -> (Severity, Code, String) {
    let name = secret.strip_prefix(PREFIX).unwrap_or(secret);
    let (namespace, base) = (&node.namespace, name.strip_suffix(AUTHORITIES));
    let where_it_is = match base {
        Some(base) => format!("no Secret {name} or {base} in {namespace} has cacert or ca.crt"),
        None => format!("no Secret {name} in {namespace} has tls.crt and tls.key, or cert and key"),
    };
    match lack {
        Lack::Missing => {
            let message = format!("{where_it_is}: handshakes fail until there is one");
            (Severity::Error, Code::ReferenceNotFound, message)
        }
        Lack::Unusable { why, earlier: true } => {
            let message = format!("the Secret {name} in {namespace} cannot be used, and its last state is: {why}");
            (Severity::Warning, Code::InvalidValue, message)
        }
        Lack::Unusable { why, earlier: false } => {
            let message = format!("the Secret {name} in {namespace} cannot be used, and handshakes fail: {why}");
            (Severity::Error, Code::InvalidValue, message)
        }
    }
}

fn refusal(secret: &str, account: &NamespacedName) -> String {
    let name = secret.strip_prefix(PREFIX).unwrap_or(secret);
    format!(
        "the Secret {name} is not given to the gateway, whose account {account} may not list Secrets there: bind the account a \
         Role that allows it, as `isthmus gateway render` prints"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(denied: Option<&NamespacedName>) -> Vec<String> {
        let mut objects = Objects::default();
        objects.insert(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "elsewhere"},
            "spec": {"selector": {"istio": "edge"}, "servers": [
                {"port": {"number": 443, "name": "a", "protocol": "HTTPS"}, "hosts": ["a.example"],
                 "tls": {"mode": "MUTUAL", "credentialName": "certs"}},
                {"port": {"number": 444, "name": "b", "protocol": "TLS"}, "hosts": ["b.example"], "tls": {"mode": "PASSTHROUGH"}},
            ]},
        }));
        let labels = [("istio".to_owned(), "edge".to_owned())].into();
        let node = Node { namespace: "ns".to_owned(), labels, ..Node::default() };
        let found = found(&objects, &node, &Credentials::default(), denied);
        found.into_iter().map(|d| format!("{} {}: {}", d.object, d.field, d.message)).collect()
    }

    #[test]
    fn what_is_missing_is_told_of_the_gateway_that_names_it() {
        let at = "Gateway elsewhere/g spec.servers[0].tls.credentialName";
        assert_eq!(
            messages(None),
            [
                format!(
                    "{at}: no Secret certs in ns has tls.crt and tls.key, or cert and key: handshakes fail until there is one"
                ),
                format!(
                    "{at}: no Secret certs-cacert or certs in ns has cacert or ca.crt: handshakes fail until there is one"
                ),
            ]
        );
        let account = NamespacedName::new("ns", "edge");
        assert!(messages(Some(&account))[0].contains("whose account ns/edge may not list Secrets there"));
    }
}
