//! What a gateway's proxy is told: where it listens, by the Gateway objects that select its pod, and where that leads, by
//! the virtual services that are bound to these.

mod chain;
mod connections;
mod server;

use std::collections::{BTreeMap, BTreeSet};

use api::istio::Hostname;

use crate::destination::Destinations;
use crate::filter::WorkloadPolicies;
use crate::mesh::Mesh;
use crate::patch::{Direction, Served};
use crate::scope::{self, Scope};
use crate::{Diagnostic, OutboundClass, Resources, Table, cluster, filter, route};
use server::Bind;
pub(crate) use server::Opened;

/// The resources of a gateway, with what was found about each table of routes apart.
pub(crate) fn build(mesh: &Mesh, class: &OutboundClass) -> (Resources, BTreeMap<String, BTreeSet<Diagnostic>>) {
    let mut resources = Resources::default();
    let binds = server::binds(mesh, class, &mut resources);
    let scope = Scope::of_router(mesh, class, &hosts(mesh, class, &binds));
    cluster::outbound(mesh, class, &scope, &mut resources);
    let gate = Gate::new(mesh, class, &scope);
    for bind in &binds {
        chain::listen(&gate, bind, &mut resources);
    }
    let mut of_tables = BTreeMap::new();
    for (name, Table { routes, diagnostics }) in tables_of(&gate, &binds, None) {
        resources.routes.insert(name.clone(), routes);
        of_tables.insert(name, diagnostics);
    }
    mesh.telemetries.apply(mesh, class, Direction::Gateway, &mut resources);
    mesh.patches.apply(&class.patches, Direction::Gateway, &served(&binds), &mut resources);
    (resources, of_tables)
}

/// Its tables of routes: all, or those that are wanted.
pub(crate) fn tables(mesh: &Mesh, class: &OutboundClass, wanted: Option<&BTreeSet<String>>) -> BTreeMap<String, Table> {
    let binds = server::binds(mesh, class, &mut Resources::default());
    let scope = Scope::of_router(mesh, class, &hosts(mesh, class, &binds));
    tables_of(&Gate::new(mesh, class, &scope), &binds, wanted)
}

/// The hosts to which it forwards anything.
pub(crate) fn reached(mesh: &Mesh, class: &OutboundClass) -> BTreeSet<Hostname> {
    hosts(mesh, class, &server::binds(mesh, class, &mut Resources::default()))
}

/// A gateway, as far as it does not depend on where a call arrives.
struct Gate<'a> {
    mesh: &'a Mesh,
    class: &'a OutboundClass,
    destinations: Destinations<'a>,
    policies: WorkloadPolicies<'a>,
}

impl<'a> Gate<'a> {
    fn new(mesh: &'a Mesh, class: &'a OutboundClass, scope: &'a Scope<'a>) -> Gate<'a> {
        Gate {
            mesh,
            class,
            destinations: Destinations { mesh, class, scope },
            policies: WorkloadPolicies::of_router(mesh, class),
        }
    }
}

fn hosts(mesh: &Mesh, class: &OutboundClass, binds: &[Bind<'_>]) -> BTreeSet<Hostname> {
    let opened = binds.iter().flat_map(|bind| &bind.servers);
    let mut hosts = filter::asked(mesh, &class.namespace, &class.labels);
    let mut seen = BTreeSet::new();
    for route in opened.flat_map(Opened::routes) {
        if seen.insert(std::sync::Arc::as_ptr(route)) {
            hosts.extend(scope::routed(route));
        }
    }
    hosts.extend(mesh.telemetries.collector(&mesh.config, &class.telemetries));
    hosts
}

fn tables_of(gate: &Gate<'_>, binds: &[Bind<'_>], wanted: Option<&BTreeSet<String>>) -> BTreeMap<String, Table> {
    let mut servers = BTreeMap::<String, (u16, Vec<&Opened<'_>>)>::new();
    for bind in binds {
        for opened in &bind.servers {
            if let Some((name, port)) = bind.table(opened) {
                servers.entry(name).or_insert((port, Vec::new())).1.push(opened);
            }
        }
    }
    let wanted = servers.into_iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted.contains(name)));
    wanted
        .map(|(name, (port, servers))| (name.clone(), route::of_servers(gate.destinations, name, port, &servers)))
        .collect()
}

/// The servers behind each listener and table, by which patches choose them.
fn served(binds: &[Bind<'_>]) -> BTreeMap<String, Served> {
    let mut all = BTreeMap::<String, Served>::new();
    for bind in binds {
        for opened in &bind.servers {
            let names = [Some(bind.listener()), bind.table(opened).map(|(name, _)| name)];
            for name in names.into_iter().flatten() {
                all.entry(name).or_default().add(opened.number(), &opened.server.port.name, &opened.gateway);
            }
        }
    }
    all
}
