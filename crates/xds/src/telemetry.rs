//! What proxies report of calls, where Telemetry objects say otherwise than the mesh: a late step of a build.

mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::NamespacedName;
use api::istio::telemetry::{AccessLogging, SideSelector, Tracing, WorkloadMode};
use api::istio::{Hostname, MeshConfig, Object, Telemetry};
use api::selector::Labels;
use envoy::envoy::config::accesslog::v3::AccessLog;
use envoy::envoy::config::listener::v3::{Filter, filter::ConfigType};
use envoy::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use prost::Message;

use crate::mesh::Workloads;
use crate::patch::{Direction, with_manager};
use crate::policy::{by_age, check_selector, is_for_others};
use crate::{Code, Diagnostic, Node, ObjectRef, OutboundClass, Resources, access_log, provider, wire};

const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
/// The provider that is always there: lines on the standard output.
const BUILT_IN: &str = "envoy";

/// Every Telemetry, by namespace, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Telemetries {
    root: String,
    by_namespace: BTreeMap<String, Vec<Arc<Object<Telemetry>>>>,
}

impl Telemetries {
    pub(crate) fn new(
        objects: &[Arc<Object<Telemetry>>],
        mesh: &MeshConfig,
        workloads: &Workloads,
        found: &mut Vec<Diagnostic>,
    ) -> Telemetries {
        let mut by_namespace = BTreeMap::<String, Vec<Arc<Object<Telemetry>>>>::new();
        for object in by_age(objects) {
            if is_for_others(object, found) {
                continue;
            }
            let (name, namespace) = (ObjectRef::of(object), object.metadata.namespace.as_str());
            let others = by_namespace.entry(namespace.to_owned()).or_default();
            if let Some(older) = others.iter().find(|other| labels(other) == labels(object)) {
                let message = format!("has no effect: the older {} is for the same workloads", ObjectRef::of(older));
                found.push(name.warning("spec.selector", Code::Conflict, message));
            }
            found.extend(check_selector(&name, "spec.selector", Some(namespace), labels(object), workloads));
            check(&name, &object.spec, mesh, found);
            others.push(object.clone());
        }
        Telemetries { root: mesh.root_namespace.clone(), by_namespace }
    }

    /// The names of those for a workload, the widest first: the mesh's, its namespace's and its own; each the oldest.
    pub(crate) fn of(&self, namespace: &str, workload: &Labels) -> Vec<NamespacedName> {
        let of_namespace = |namespace: &str| self.by_namespace.get(namespace).map_or(&[][..], Vec::as_slice);
        let whole = |o: &&Arc<Object<Telemetry>>| labels(o).is_empty();
        let selects = |o: &&Arc<Object<Telemetry>>| !whole(o) && api::istio::includes(workload, labels(o));
        let mesh = of_namespace(&self.root).iter().find(whole);
        let own = of_namespace(namespace).iter().find(whole).filter(|_| namespace != self.root);
        [mesh, own, of_namespace(namespace).iter().find(selects)].into_iter().flatten().map(|o| o.name()).collect()
    }

    /// Those with some names.
    pub(crate) fn named<'a>(&'a self, names: &'a [NamespacedName]) -> impl Iterator<Item = &'a Arc<Object<Telemetry>>> {
        names.iter().filter_map(|name| {
            self.by_namespace.get(&name.namespace)?.iter().find(|object| object.metadata.name == name.name)
        })
    }

    /// What traces call a node's workload; nothing if its calls are not traced, so that it is like others.
    pub(crate) fn service(&self, mesh: &MeshConfig, names: &[NamespacedName], node: &Node) -> String {
        let asked = self.named(names).any(|object| !object.spec.tracing.is_empty());
        if !mesh.enable_tracing && !asked {
            return String::new();
        }
        let name = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
        let name = name.iter().find_map(|key| node.labels.get(*key)).unwrap_or(&node.name);
        format!("{name}.{}", node.namespace)
    }

    /// The providers that get access logs; `None` if they are the mesh's file, which is there already.
    fn loggers(&self, mesh: &MeshConfig, names: &[NamespacedName], direction: Direction) -> Option<Vec<String>> {
        let defaults = &mesh.default_providers.access_logging;
        let file = || if mesh.access_log_file.is_empty() { Vec::new() } else { vec![String::new()] };
        let usual = if defaults.is_empty() { file() } else { defaults.clone() };
        let mut current = usual.clone();
        for entry in self.named(names).flat_map(|object| &object.spec.access_logging) {
            let AccessLogging { r#match, providers, disabled, filter: _ } = entry;
            if !is_meant(*r#match, direction) {
                continue;
            }
            let named: Vec<String> = providers.iter().map(|provider| provider.name.clone()).collect();
            match (*disabled == Some(true), named.is_empty()) {
                (true, true) => current.clear(),
                (true, false) => current.retain(|provider| !named.contains(provider)),
                (false, true) if current.is_empty() => current.clone_from(&usual),
                (false, true) => {}
                (false, false) => current = named,
            }
        }
        (current != file()).then_some(current)
    }

    /// The host of the service that is told of calls, if they are traced.
    pub(crate) fn collector(&self, mesh: &MeshConfig, names: &[NamespacedName]) -> Option<Hostname> {
        let tracing: Vec<&Tracing> = self.named(names).flat_map(|object| &object.spec.tracing).collect();
        trace::chosen(mesh, &tracing).map(|collector| Hostname::new(provider::host(&collector.service)))
    }

    /// Applies those of a class to what was built for one direction.
    pub(crate) fn apply(
        &self,
        mesh: &crate::Mesh,
        class: &OutboundClass,
        direction: Direction,
        resources: &mut Resources,
    ) {
        if let Some(providers) = self.loggers(&mesh.config, &class.telemetries, direction) {
            let logs: Vec<AccessLog> = providers.iter().filter_map(|p| log(&mesh.config, p)).collect();
            let refused = logs.iter().cloned().map(access_log::of_refused).collect::<Vec<_>>();
            for listener in resources.listeners.values_mut() {
                listener.access_log.clone_from(&refused);
                let chains = listener.filter_chains.iter_mut().chain(&mut listener.default_filter_chain);
                chains.flat_map(|chain| &mut chain.filters).for_each(|filter| set_logs(filter, &logs));
            }
        }
        let tracing = self.named(&class.telemetries).flat_map(|object| &object.spec.tracing);
        let tracing: Vec<&Tracing> = tracing.filter(|t| is_meant(t.r#match, direction)).collect();
        if let Some(tracing) = trace::tracing(mesh, class, &tracing) {
            for listener in resources.listeners.values_mut() {
                let chains = listener.filter_chains.iter_mut().chain(&mut listener.default_filter_chain);
                for filter in chains.flat_map(|chain| &mut chain.filters).filter(|f| f.name == crate::patch::HCM) {
                    // It was made here, so that it can be read.
                    let _read = with_manager(filter, |manager| {
                        manager.tracing = Some(tracing.clone());
                        Ok(())
                    });
                }
            }
        }
    }
}

fn labels(object: &Object<Telemetry>) -> &Labels {
    static NONE: Labels = Labels::new();
    object.spec.selector.as_ref().map_or(&NONE, |selector| &selector.match_labels)
}

fn is_meant(side: Option<SideSelector>, direction: Direction) -> bool {
    match side.unwrap_or_default().mode {
        WorkloadMode::ClientAndServer => true,
        WorkloadMode::Client => direction != Direction::Inbound,
        WorkloadMode::Server => direction == Direction::Inbound,
    }
}

/// The log of a provider; no name is the mesh's own file.
fn log(mesh: &MeshConfig, provider: &str) -> Option<AccessLog> {
    if provider.is_empty() {
        return access_log::log(mesh);
    }
    let known = mesh.extension_providers.iter().find(|known| known.name == provider);
    match known {
        None if provider == BUILT_IN => Some(access_log::file("/dev/stdout", access_log::format(mesh))),
        None => None,
        Some(known) => {
            let file = known.envoy_file_access_log.as_ref()?;
            let path = if file.path.is_empty() { "/dev/stdout" } else { &file.path };
            Some(access_log::file(path, access_log::format_of(mesh, file.log_format.as_ref())))
        }
    }
}

fn set_logs(filter: &mut Filter, logs: &[AccessLog]) {
    let Some(ConfigType::TypedConfig(any)) = &mut filter.config_type else { return };
    if any.type_url.ends_with(TCP_PROXY)
        && let Ok(mut proxy) = TcpProxy::decode(any.value.as_slice())
    {
        proxy.access_log = logs.to_vec();
        *any = wire::any(TCP_PROXY, &proxy);
    } else if filter.name == crate::patch::HCM {
        // It was made here, so that it can be read.
        let _read = with_manager(filter, |manager| {
            manager.access_log = logs.to_vec();
            Ok(())
        });
    }
}

/// What of a Telemetry has no effect.
fn check(object: &ObjectRef, spec: &Telemetry, mesh: &MeshConfig, found: &mut Vec<Diagnostic>) {
    let Telemetry { selector: _, tracing, metrics, access_logging } = spec;
    for (i, entry) in access_logging.iter().enumerate() {
        let field = format!("spec.accessLogging[{i}]");
        if entry.filter.as_ref().is_some_and(|filter| !filter.expression.is_empty()) {
            let message = "is not supported: every call is logged";
            found.push(object.warning(format!("{field}.filter"), Code::NotSupported, message));
        }
        for (j, provider) in entry.providers.iter().enumerate() {
            if provider.name != BUILT_IN && log(mesh, &provider.name).is_none() {
                let message = format!("{:?} is no extension provider for files of access logs", provider.name);
                let field = format!("{field}.providers[{j}].name");
                found.push(object.error(field, Code::ReferenceNotFound, message));
            }
        }
    }
    for (i, entry) in tracing.iter().enumerate() {
        found.extend(trace::check(object, &format!("spec.tracing[{i}]"), entry, mesh));
    }
    for (i, entry) in metrics.iter().enumerate() {
        let mut ineffective = |what: &str, message: &str| {
            found.push(object.warning(format!("spec.metrics[{i}].{what}"), Code::NotSupported, message));
        };
        if !entry.overrides.is_empty() {
            ineffective("overrides", "has no effect: proxies count as Istio does without overrides");
        }
        if entry.reporting_interval.is_some() {
            ineffective("reportingInterval", "has no effect: metrics are read, not sent");
        }
        for provider in entry.providers.iter().filter(|provider| provider.name != "prometheus") {
            ineffective("providers", &format!("{:?} has no effect: metrics are offered to Prometheus", provider.name));
        }
    }
}
