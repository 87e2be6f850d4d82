//! What gateways listen for, by whom it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::NamespacedName;
use api::istio::{Gateway, Hostname, Object, ServerTls, ServerTlsMode};
use api::selector::Labels;

use super::by_age;
use super::host_index::HostIndex;
use crate::mesh::{DOMAIN, Workloads};
use crate::{Code, Diagnostic, ObjectRef};

/// The gateway that stands for all sidecars.
const MESH: &str = "mesh";

/// Every Gateway.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Gateways {
    /// Oldest first.
    by_age: Vec<Arc<Object<Gateway>>>,
    /// The hosts of each, with the namespaces from which routes may be bound; `None` is any.
    served: BTreeMap<NamespacedName, HostIndex<Option<String>>>,
    /// The numbers of the ports of each.
    ports: BTreeMap<NamespacedName, BTreeSet<u16>>,
}

/// A host of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerHost {
    /// The namespace from which routes may be bound; `None` is any.
    pub(crate) from: Option<String>,
    pub(crate) host: Hostname,
}

impl ServerHost {
    /// Reads `NAMESPACE/HOST` or `HOST` of a gateway in `namespace`; `None` if it is no host.
    pub(crate) fn parse(text: &str, namespace: &str) -> Option<ServerHost> {
        let (from, host) = match text.split_once('/') {
            None | Some(("*", _)) => (None, text.rsplit('/').next()?),
            Some((".", host)) => (Some(namespace.to_owned()), host),
            Some((from, host)) => (Some(from.to_owned()), host),
        };
        Hostname::is_valid(host).then(|| ServerHost { from, host: Hostname::new(host) })
    }

    /// Whether routes of a namespace may be bound to it.
    pub(crate) fn is_for(&self, namespace: &str) -> bool {
        self.from.as_ref().is_none_or(|from| from == namespace)
    }
}

impl Gateways {
    pub(crate) fn new(
        objects: &[Arc<Object<Gateway>>],
        workloads: &Workloads,
        found: &mut Vec<Diagnostic>,
    ) -> Gateways {
        let by_age: Vec<Arc<Object<Gateway>>> = by_age(objects).into_iter().cloned().collect();
        let mut served = BTreeMap::<NamespacedName, HostIndex<Option<String>>>::new();
        for object in &by_age {
            let name = ObjectRef::of(object);
            let hosts = served.entry(object.name()).or_default();
            found.extend(super::check_selector(&name, "spec.selector", None, &object.spec.selector, workloads));
            for (i, server) in object.spec.servers.iter().enumerate() {
                if let Some(tls) = &server.tls {
                    check(&name, &format!("spec.servers[{i}].tls"), tls, found);
                }
                for (j, text) in server.hosts.iter().enumerate() {
                    match ServerHost::parse(text, &object.metadata.namespace) {
                        Some(ServerHost { from, host }) => hosts.insert(&host, from),
                        None => {
                            let message = format!("{text:?} is not a host, and has no effect");
                            let field = format!("spec.servers[{i}].hosts[{j}]");
                            found.push(name.error(field, Code::InvalidValue, message));
                        }
                    }
                }
            }
        }
        let numbers = |object: &Object<Gateway>| object.spec.servers.iter().map(|server| server.port.number).collect();
        let ports = by_age.iter().map(|object| (object.name(), numbers(object))).collect();
        Gateways { by_age, served, ports }
    }

    /// Those for a gateway's pod, whatever their namespaces, oldest first. One without a selector is for every gateway.
    pub(crate) fn of<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a Arc<Object<Gateway>>> {
        self.by_age.iter().filter(|object| api::istio::includes(labels, &object.spec.selector))
    }

    pub(crate) fn get(&self, name: &NamespacedName) -> Option<&Arc<Object<Gateway>>> {
        self.by_age.iter().find(|object| object.name() == *name)
    }

    /// Whether a gateway has a server at a port; one that is not there might.
    pub(crate) fn has_port(&self, gateway: &NamespacedName, port: u16) -> bool {
        self.ports.get(gateway).is_none_or(|ports| ports.contains(&port))
    }

    /// Whether a gateway has a server for some name that `host` stands for, to which routes of a namespace may be bound;
    /// `None` if there is no such gateway.
    pub(crate) fn serves(&self, gateway: &NamespacedName, host: &Hostname, namespace: &str) -> Option<bool> {
        let met = self.served.get(gateway)?.meeting(host);
        Some(met.iter().any(|(_, from)| from.as_ref().is_none_or(|from| from == namespace)))
    }
}

/// The gateway that an object of a namespace means: `NAMESPACE/NAME`, `./NAME` or `NAME`, or as up to Istio 1.4
/// `NAME.NAMESPACE` and `NAME.NAMESPACE.svc.cluster.local`; `None` for that of all sidecars.
pub(crate) fn gateway_name(text: &str, namespace: &str) -> Option<NamespacedName> {
    if text == MESH {
        return None;
    }
    Some(match text.split_once('/') {
        Some((".", name)) => NamespacedName::new(namespace, name),
        Some((namespace, name)) => NamespacedName::new(namespace, name),
        None => {
            let short = text.strip_suffix(DOMAIN).and_then(|rest| rest.strip_suffix(".svc.")).unwrap_or(text);
            match short.split_once('.') {
                Some((name, namespace)) => NamespacedName::new(namespace, name),
                None => NamespacedName::new(namespace, short),
            }
        }
    })
}

/// What of a server's TLS has less effect than written.
fn check(object: &ObjectRef, field: &str, tls: &ServerTls, found: &mut Vec<Diagnostic>) {
    if tls.mode.passes() {
        return;
    }
    let authorities = !tls.ca_certificates.is_empty() || !tls.credential_name.is_empty();
    let authorities = authorities || !tls.ca_cert_credential_name.is_empty() || !tls.credential_names.is_empty();
    let asks = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    if asks && !authorities {
        let message =
            "names no authorities for clients' certificates, so that nobody has a good one: the port is closed";
        found.push(object.error(format!("{field}.caCertificates"), Code::InvalidValue, message));
    }
    if tls.insecure_skip_verify == Some(true) {
        let message = "has no effect: clients' certificates are verified in any case";
        found.push(object.warning(format!("{field}.insecureSkipVerify"), Code::NotSupported, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_may_say_whose_routes_they_are_for() {
        let of = |text| ServerHost::parse(text, "here").map(|h| (h.from.clone(), h.host.to_string()));
        assert_eq!(of("a.b"), Some((None, "a.b".to_owned())));
        assert_eq!(of("*/a.b"), of("a.b"));
        assert_eq!(of("./*"), Some((Some("here".to_owned()), "*".to_owned())));
        assert_eq!(of("ns/*.b"), Some((Some("ns".to_owned()), "*.b".to_owned())));
        assert_eq!(of("a/b/c"), None);
    }

    #[test]
    fn gateways_are_named_in_old_forms_and_new() {
        let of = |text| gateway_name(text, "here").map(|name| name.to_string());
        assert_eq!(of("mesh"), None);
        for text in ["gw", "./gw", "here/gw", "gw.here", "gw.here.svc.cluster.local"] {
            assert_eq!(of(text).as_deref(), Some("here/gw"), "{text}");
        }
        for text in ["there/gw", "gw.there", "gw.there.svc.cluster.local"] {
            assert_eq!(of(text).as_deref(), Some("there/gw"), "{text}");
        }
    }
}
