//! Routes that are bound to a gateway.

use std::sync::Arc;

use api::istio::Hostname;

use super::super::host_index::HostIndex;
use super::Route;

/// The virtual services that are bound to one gateway.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Bound {
    /// Oldest first.
    routes: Vec<Arc<Route>>,
    /// Where they are in the list.
    by_host: HostIndex<usize>,
}

impl Bound {
    /// Adds the youngest.
    pub(super) fn insert(&mut self, route: &Arc<Route>) {
        for host in route.hosts() {
            self.by_host.insert(&host, self.routes.len());
        }
        self.routes.push(route.clone());
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// Those with a host that has some names in common with `host`, each with the narrower of both and with its rank by
    /// age.
    pub(crate) fn meeting(&self, host: &Hostname) -> impl Iterator<Item = (Hostname, usize, &Arc<Route>)> {
        let met = self.by_host.meeting(host).into_iter();
        met.filter_map(|(host, rank)| Some((host, *rank, self.routes.get(*rank)?)))
    }
}
