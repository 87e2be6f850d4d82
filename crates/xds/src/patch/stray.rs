//! Patches that authorize at a port that a gateway does not know.

use std::collections::BTreeSet;

use api::istio::envoy_filter::{ApplyTo, ListenerMatch, Operation};
use envoy::envoy::config::listener::v3::Listener;

use super::{Finding, Patch, Target, listener};
use crate::{Code, Severity};

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

fn is_stray(patch: &Patch, target: &Target<'_>) -> bool {
    let inserts = !matches!(patch.operation, Operation::Remove | Operation::Merge);
    let filters = matches!(patch.what, ApplyTo::NetworkFilter | ApplyTo::HttpFilter);
    let port = place(patch).port_number;
    let selects = || target.resources.listeners.values().any(|l| listener::is_selected(patch, target.doors, l));
    let known = || target.doors.known.contains(&port) || target.doors.has_server(port);
    patch.guards && inserts && filters && port != 0 && !known() && !selects()
}
