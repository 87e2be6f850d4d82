//! What is worth knowing about a request at a proxy, in sentences.

use api::istio::Action;
use proxy::config::http::{Abort, Action as RouteAction, ClusterSource, Fault, HttpFilter, NamedFilter, Stated};
use proxy::select::{Fate, RequestSelection};

use super::sidecar::Sidecar;
use super::world::Cluster;

/// What cluster connections go to that nobody knows a service for.
const PASSTHROUGH: &str = "PassthroughCluster";

/// About a request that a proxy has looked at.
pub(super) fn of_request(cluster: &Cluster, proxy: &Sidecar, selection: &RequestSelection<'_>) -> Vec<String> {
    let mut notes: Vec<String> = selection.undecided.iter().map(|filter| undecided(cluster, proxy, filter)).collect();
    notes.extend(selection.faults.iter().flat_map(|fault| faults(fault)));
    if let Fate::Forwarded { cluster, path, authority, .. } = &selection.fate {
        if &*cluster.name == PASSTHROUGH {
            let name = &proxy.node.name;
            notes.push(format!("no service that {name} may call has this host: the request passes as it is"));
        }
        let rewritten = selection.route.is_some_and(|route| is_rewritten(&route.action));
        notes.extend(rewritten.then(|| format!("rewritten to {}{path}", authority.as_deref().unwrap_or_default())));
    }
    if let Some(RouteAction::Forward(action)) = selection.route.map(|route| &route.action) {
        notes.extend(action.mirrors.iter().map(|mirror| format!("a copy goes to {}", mirror.cluster)));
    }
    notes
}

fn is_rewritten(action: &RouteAction) -> bool {
    use proxy::config::http::{HostRewrite, PathRewrite};
    let RouteAction::Forward(action) = action else { return false };
    !matches!((&action.path, &action.host), (PathRewrite::Keep, HostRewrite::Keep))
}

fn undecided(cluster: &Cluster, proxy: &Sidecar, filter: &NamedFilter) -> String {
    let listed = |objects: Vec<String>| objects.join(", ");
    match &filter.filter {
        HttpFilter::JwtAuthn(_) => {
            let found = cluster.mesh.request_authentications(&proxy.node);
            let by = listed(found.iter().map(ToString::to_string).collect());
            format!("{by} decides about the token with keys that are fetched: it is taken for a good one here")
        }
        _ => {
            let policies = cluster.mesh.authorization_policies(&proxy.node);
            let custom = policies.iter().filter(|(_, action)| *action == Action::Custom);
            let by = listed(custom.map(|(object, _)| object.to_string()).collect());
            format!("{by} has another service asked, of which it is taken here that it agrees")
        }
    }
}

fn faults(fault: &Fault) -> Vec<String> {
    let delay = fault.delay.and_then(|delay| match delay.what {
        Stated::Here(time) => {
            Some(format!("{} of the requests are delayed by {time:?}", percent(delay.share.percent())))
        }
        Stated::InHeaders => None,
    });
    let abort = fault.abort.and_then(|abort| match abort.what {
        Stated::Here(Abort::Http(status)) => Some((abort.share, status.as_u16().to_string())),
        Stated::Here(Abort::Grpc(status)) => Some((abort.share, format!("the status {status} of gRPC"))),
        Stated::InHeaders => None,
    });
    let abort = abort.map(|(share, status)| {
        format!("{} of the requests are answered with {status} by a fault", percent(share.percent()))
    });
    delay.into_iter().chain(abort).collect()
}

/// A share in words.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", (share * 100.0).round() / 100.0)
}

/// The cluster that a route leads to when the dice show a number.
pub(super) fn upstream(selection: &RequestSelection<'_>, random: u64) -> Option<String> {
    let RouteAction::Forward(action) = &selection.route?.action else { return None };
    match &action.cluster {
        ClusterSource::Single(name) => Some(name.to_string()),
        ClusterSource::Weighted(weighted) => Some(weighted.pick(random).cluster.to_string()),
        ClusterSource::Header(_) => None,
    }
}
