//! Which resources the API server serves, custom ones included.

use kube::Client;
use kube::core::discovery::{ApiResource, Scope, verbs};
use kube::discovery::Discovery;

/// A resource whose objects can be listed, watched and deleted.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
}

/// The resources served now, each in its preferred version.
pub(crate) async fn served(client: &Client) -> Result<Vec<Served>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let all = discovery.groups().flat_map(|group| group.recommended_resources());
    let usable = all.filter(|(_, capabilities)| {
        [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|verb| capabilities.supports_operation(verb))
    });
    let served =
        usable.map(|(resource, capabilities)| Served { resource, namespaced: capabilities.scope == Scope::Namespaced });
    Ok(served.collect())
}
