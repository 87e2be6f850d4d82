//! Patches that authorize at a port that nobody declares.

use std::collections::BTreeSet;

use api::istio::envoy_filter::{ApplyTo, ListenerMatch, Operation};
use envoy::envoy::config::listener::v3::{FilterChain, Listener};

use super::{Finding, Patch, Target, listener};
use crate::{Code, Severity};

/// Gives a port of a workload that patches guard, and that no Service declares, chains of its own, like those of every other
/// undeclared port: in these the guards have a place.
pub(super) fn open<'p>(patches: &[&'p Patch], target: &mut Target<'_>) -> Vec<(&'p Patch, Vec<Finding>)> {
    let doors = target.doors;
    let Some(listener) = target.resources.listeners.values_mut().find(|l| listener::is_virtual(l)) else {
        return Vec::new();
    };
    let known = |port: u16| listener.filter_chains.iter().any(|chain| port_of(chain) == Some(port.into()));
    let strays = patches.iter().filter(|patch| listener::is_selected(patch, doors, listener));
    let strays = strays.filter_map(|patch| Some((*patch, guarded_port(patch).filter(|port| !known(*port))?)));
    let strays: Vec<(&Patch, u16)> = strays.collect();
    let shared: Vec<FilterChain> =
        listener.filter_chains.iter().filter(|chain| port_of(chain).is_none()).cloned().collect();
    for port in strays.iter().map(|(_, port)| *port).collect::<BTreeSet<u16>>() {
        listener.filter_chains.extend(shared.iter().map(|chain| at_port(chain, port)));
    }
    let found = |(patch, port): (&'p Patch, u16)| {
        let message = format!(
            "no Service declares the port {port} of the workload: it authorizes, so the port is told apart from others \
             that nobody declares"
        );
        (patch, vec![(Severity::Warning, Code::ReferenceNotFound, message)])
    };
    strays.into_iter().map(found).collect()
}

fn port_of(chain: &FilterChain) -> Option<u32> {
    chain.filter_chain_match.as_ref()?.destination_port
}

fn at_port(chain: &FilterChain, port: u16) -> FilterChain {
    let mut chain = FilterChain { name: format!("{}-{port}", chain.name), ..chain.clone() };
    chain.filter_chain_match.get_or_insert_default().destination_port = Some(port.into());
    chain
}

/// Guards with an object's stray patches every port of a gateway that its others do not: their author means some port.
/// Where a Service has the port, the gateway only does not listen there now, and nothing is open.
pub(super) fn guard<'p>(patches: &[&'p Patch], target: &mut Target<'_>) -> Vec<(&'p Patch, Vec<Finding>)> {
    let strays: Vec<&Patch> = patches.iter().copied().filter(|patch| is_stray(patch, target)).collect();
    let guarding =
        |l: &&Listener| patches.iter().any(|patch| patch.guards && listener::is_selected(patch, target.doors, l));
    let guarded: BTreeSet<String> = match strays.is_empty() {
        true => BTreeSet::new(),
        false => target.resources.listeners.values().filter(guarding).map(|l| l.name.clone()).collect(),
    };
    let one = |patch: &'p Patch| {
        // Whatever place was meant, it is where the stray port is not.
        let anywhere = ListenerMatch { filter_chain: None, ..place(patch) };
        let done = listener::in_listeners(patch, &anywhere, target, |listener| !guarded.contains(&listener.name));
        let message = match done {
            Ok(_) => format!(
                "no server and no Service of the gateway has the port {}: it authorizes, so it is put at every port that \
                 the object does not guard otherwise, lest one be open",
                anywhere.port_number
            ),
            Err(reason) => reason,
        };
        (patch, vec![(Severity::Error, Code::ReferenceNotFound, message)])
    };
    strays.into_iter().map(one).collect()
}

fn place(patch: &Patch) -> ListenerMatch {
    patch.place.listener.clone().unwrap_or_default()
}

/// The port at which a patch puts what authorizes, if it names one.
fn guarded_port(patch: &Patch) -> Option<u16> {
    let inserts = !matches!(patch.operation, Operation::Remove | Operation::Merge);
    let filters = matches!(patch.what, ApplyTo::NetworkFilter | ApplyTo::HttpFilter);
    Some(place(patch).port_number).filter(|port| *port != 0 && patch.guards && inserts && filters)
}

fn is_stray(patch: &Patch, target: &Target<'_>) -> bool {
    let selects = || target.resources.listeners.values().any(|l| listener::is_selected(patch, target.doors, l));
    let known = |port: &u16| target.doors.known.contains(port) || target.doors.has_server(*port);
    guarded_port(patch).is_some_and(|port| !known(&port)) && !selects()
}
