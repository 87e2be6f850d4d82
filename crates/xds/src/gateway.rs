//! What a gateway's proxy is told: where it listens, by the Gateway objects that select its pod, and where that leads, by
//! the virtual services that are bound to these.

mod chain;
mod connections;
mod named;
mod server;

use std::collections::{BTreeMap, BTreeSet};

use api::istio::Hostname;

use crate::destination::Destinations;
use crate::filter::WorkloadPolicies;
use crate::mesh::Mesh;
use crate::patch::{Direction, Doors, Served};
use crate::scope::{self, Scope};
use crate::{Diagnostic, OutboundClass, Resources, Table, cluster, filter, route};
use server::Bind;
pub(crate) use server::Opened;

/// The resources of a gateway, with what was found about each table of routes apart.
pub(crate) fn build(mesh: &Mesh, class: &OutboundClass) -> (Resources, BTreeMap<String, BTreeSet<Diagnostic>>) {
    let mut resources = Resources::default();
    let binds = server::binds(mesh, class, &mut resources);
    let scopes = Scopes::of(mesh, class, &binds, None);
    scopes.clusters(mesh, class, &mut resources);
    let gate = Gate::new(mesh, class, &scopes);
    for bind in &binds {
        chain::listen(&gate, bind, &mut resources);
    }
    let mut of_tables = BTreeMap::new();
    for (name, Table { routes, diagnostics }) in tables_of(&gate, &binds, None) {
        resources.routes.insert(name.clone(), routes);
        of_tables.insert(name, diagnostics);
    }
    mesh.telemetries.apply(mesh, class, Direction::Gateway, &mut resources);
    mesh.patches.apply(&class.patches, Direction::Gateway, &doors(mesh, class, &binds), &mut resources);
    (resources, of_tables)
}

/// Its tables of routes: all, or those that are wanted.
pub(crate) fn tables(mesh: &Mesh, class: &OutboundClass, wanted: Option<&BTreeSet<String>>) -> BTreeMap<String, Table> {
    let binds = server::binds(mesh, class, &mut Resources::default());
    let scopes = Scopes::of(mesh, class, &binds, None);
    tables_of(&Gate::new(mesh, class, &scopes), &binds, wanted)
}

/// The clusters of some hosts, as far as it forwards anything to them.
pub(crate) fn clusters_of(mesh: &Mesh, class: &OutboundClass, only: &BTreeSet<Hostname>) -> Resources {
    let mut resources = Resources::default();
    let binds = server::binds(mesh, class, &mut Resources::default());
    Scopes::of(mesh, class, &binds, Some(only)).clusters(mesh, class, &mut resources);
    resources
}

/// The hosts to which it forwards anything.
pub(crate) fn reached(mesh: &Mesh, class: &OutboundClass) -> BTreeSet<Hostname> {
    let binds = server::binds(mesh, class, &mut Resources::default());
    let mut hosts = hosts(mesh, class, &binds);
    hosts.extend(named::hosts(mesh, class, &binds));
    hosts
}

/// The services to which a gateway forwards.
struct Scopes<'m> {
    /// Where routes lead, and whom it asks on its own account.
    routed: Scope<'m>,
    /// What may be called by server name.
    named: Scope<'m>,
}

impl<'m> Scopes<'m> {
    fn of(mesh: &'m Mesh, class: &OutboundClass, binds: &[Bind<'_>], only: Option<&BTreeSet<Hostname>>) -> Scopes<'m> {
        let among = |mut hosts: BTreeSet<Hostname>| {
            hosts.retain(|host| only.is_none_or(|only| only.contains(host)));
            Scope::of_router(mesh, class, &hosts)
        };
        let named = named::hosts(mesh, class, binds);
        Scopes { routed: among(hosts(mesh, class, binds)), named: among(named) }
    }

    fn clusters(&self, mesh: &Mesh, class: &OutboundClass, resources: &mut Resources) {
        cluster::outbound(mesh, class, &self.routed, resources);
        cluster::forwarded(mesh, class, &self.named, resources);
    }
}

/// A gateway, as far as it does not depend on where a call arrives.
struct Gate<'a> {
    mesh: &'a Mesh,
    class: &'a OutboundClass,
    destinations: Destinations<'a>,
    /// What may be called by server name.
    named: &'a Scope<'a>,
    policies: WorkloadPolicies<'a>,
}

impl<'a> Gate<'a> {
    fn new(mesh: &'a Mesh, class: &'a OutboundClass, scopes: &'a Scopes<'a>) -> Gate<'a> {
        Gate {
            mesh,
            class,
            destinations: Destinations { mesh, class, scope: &scopes.routed },
            named: &scopes.named,
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
            hosts.extend(scope::routed(mesh, route));
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

/// What patches choose by.
fn doors(mesh: &Mesh, class: &OutboundClass, binds: &[Bind<'_>]) -> Doors {
    let mut all = BTreeMap::<String, Served>::new();
    for bind in binds {
        for opened in &bind.servers {
            let names = [Some(bind.listener()), bind.table(opened).map(|(name, _)| name)];
            for name in names.into_iter().flatten() {
                all.entry(name).or_default().add(opened.number(), &opened.server.port.name, &opened.gateway);
            }
        }
    }
    let own = server::services(mesh, class).into_iter().flat_map(|service| &service.ports);
    Doors { served: all, known: own.map(|port| port.number).collect() }
}
