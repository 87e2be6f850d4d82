//! The whole configuration at one moment.
//!
//! A snapshot never changes: an update makes the next one, which shares with the last what stayed the same. Nothing in
//! an update can harm anything else: a resource that is refused leaves its last good version in force, and one that
//! still waits for others (it is *warming*) leaves its predecessor in force until they are there.

mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use envoy::TypeUrl;
use envoy::ads::Offer;
use prost_types::Any;

use crate::config::http::{HttpConnectionManager, RouteSource, RouteTable};
use crate::config::{
    Cluster, Discovery, Listener, LoadAssignment, Rejected, Secret, SecretRef, SecretSource, TlsCertificate,
    TlsSettings, Validation, ValidationContext,
};

pub use slots::Loaded;
use slots::{Decoded, Slots};

/// New, changed and removed resources of one type.
#[derive(Debug, Clone)]
pub struct Update {
    /// The type of everything in it.
    pub type_url: TypeUrl,
    /// What is new or changed.
    pub resources: Vec<Offered>,
    /// The names of what is gone.
    pub removed: Vec<String>,
}

/// A resource of an [`Update`].
#[derive(Debug, Clone)]
pub struct Offered {
    /// Its name.
    pub name: String,
    /// Its version, which the server chose.
    pub version: String,
    /// The message; `None` if there was none, which is refused.
    pub message: Option<Any>,
}

impl From<Offer> for Update {
    fn from(offer: Offer) -> Update {
        let resources = offer.resources.into_iter().map(|r| Offered {
            version: r.version().to_owned(),
            name: r.name,
            message: r.message,
        });
        Update { type_url: offer.type_url, resources: resources.collect(), removed: offer.removed }
    }
}

/// What a warming listener or cluster waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// The endpoints of a cluster.
    Endpoints {
        /// The name of the assignment.
        name: Arc<str>,
    },
    /// A route table.
    Routes {
        /// Its name.
        name: Arc<str>,
    },
    /// A secret.
    Secret(SecretRef),
    /// A cluster that is itself still warming.
    Cluster {
        /// Its name.
        name: Arc<str>,
    },
}

/// Resources that listeners and clusters refer to, and that must be asked for by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Assignments of endpoints.
    pub endpoints: BTreeSet<Arc<str>>,
    /// Route tables.
    pub routes: BTreeSet<Arc<str>>,
    /// Secrets.
    pub secrets: BTreeSet<SecretRef>,
}

/// The whole configuration at one moment, immutable and indexed.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    listeners: Arc<Slots<Listener>>,
    clusters: Arc<Slots<Cluster>>,
    endpoints: Arc<Slots<LoadAssignment>>,
    routes: Arc<Slots<RouteTable>>,
    secrets: Arc<Slots<Secret>>,
    /// Active listeners by address.
    addresses: Arc<HashMap<SocketAddr, Arc<Listener>>>,
    rejected: Arc<BTreeMap<(TypeUrl, Arc<str>), Rejected>>,
}

impl Snapshot {
    /// The next snapshot, and what was refused, by the name of the resource.
    pub fn apply(&self, update: Update) -> (Snapshot, Vec<(String, Rejected)>) {
        let mut next = self.clone();
        let type_url = update.type_url;
        for name in &update.removed {
            next.remove(type_url, name);
        }
        let mut refusals = Vec::new();
        for offered in update.resources {
            let name = offered.name.clone();
            match next.load(type_url, offered) {
                Ok(()) => next.forgive(type_url, &name),
                Err(rejected) => refusals.push((name, rejected)),
            }
        }
        for (name, rejected) in &refusals {
            Arc::make_mut(&mut next.rejected).insert((type_url, name.as_str().into()), rejected.clone());
        }
        if matches!(type_url, TypeUrl::Cluster | TypeUrl::Listener) {
            next.drop_unwanted(&self.wanted());
        }
        next.promote(|_, _, missing| missing.is_empty());
        next.index(self);
        (next, refusals)
    }

    /// The next snapshot once what is missing has been waited for too long: what has `waited` longer than all that it
    /// misses may take goes live without, as in Envoy after `initial_fetch_timeout`. That is `usual` for endpoints and
    /// routes; a secret has its own, and a workload's own certificate is waited for as long as it takes: without it the
    /// new version could only fail, and the old one may serve.
    #[must_use]
    pub fn without_endpoints(&self, usual: Duration, waited: impl Fn(TypeUrl, &str) -> Duration) -> Snapshot {
        let mut next = self.clone();
        next.promote(|type_url, name, missing| {
            missing.is_empty() || patience(missing, usual).is_some_and(|patience| waited(type_url, name) >= patience)
        });
        next.index(self);
        next
    }

    /// The listener that is live at an address, or else at the wildcard address of its family with the same port.
    pub fn listener_at(&self, address: SocketAddr) -> Option<&Arc<Listener>> {
        let any = match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let at = |address: SocketAddr| self.addresses.get(&address);
        at(address).or_else(|| at(SocketAddr::new(any, address.port())))
    }

    /// The listeners that are live, by name.
    pub fn listeners(&self) -> BTreeMap<&str, &Loaded<Listener>> {
        self.listeners.active()
    }

    /// The clusters that are live, by name.
    pub fn clusters(&self) -> BTreeMap<&str, &Loaded<Cluster>> {
        self.clusters.active()
    }

    /// Every assignment of endpoints, by name.
    pub fn endpoints(&self) -> BTreeMap<&str, &Loaded<LoadAssignment>> {
        self.endpoints.active()
    }

    /// Every route table that came by RDS, by name.
    pub fn routes(&self) -> BTreeMap<&str, &Loaded<RouteTable>> {
        self.routes.active()
    }

    /// Every secret, by name.
    pub fn secrets(&self) -> BTreeMap<&str, &Loaded<Secret>> {
        self.secrets.active()
    }

    /// The last refusal of each resource that has not been accepted since.
    pub fn rejected(&self) -> &BTreeMap<(TypeUrl, Arc<str>), Rejected> {
        &self.rejected
    }

    /// The listener of this name that is live.
    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        self.listeners.get(name)
    }

    /// The cluster of this name that is live.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// The route table of a connection manager: its own, or that of RDS, if it has come.
    pub fn routes_of<'a>(&'a self, connections: &'a HttpConnectionManager) -> Option<&'a Arc<RouteTable>> {
        match &connections.routes {
            RouteSource::Inline(table) => Some(table),
            RouteSource::Rds(name) => self.routes.get(name),
        }
    }

    /// The secret of this name.
    pub fn secret(&self, name: &str) -> Option<&Arc<Secret>> {
        self.secrets.get(name)
    }

    /// The configured endpoints of a cluster: its own, or those of EDS, if they have come.
    pub fn endpoints_of<'a>(&'a self, cluster: &'a Cluster) -> Option<&'a Arc<LoadAssignment>> {
        match &cluster.discovery {
            Discovery::Eds(name) => self.endpoints.get(name),
            _ => cluster.own_endpoints(),
        }
    }

    /// The certificates that a TLS context shows; `None` while the secret is missing or is not a certificate.
    pub fn certificates(&self, settings: &TlsSettings) -> Option<Box<[TlsCertificate]>> {
        settings.certificates.with(|secret| self.secret(&secret.name).map(AsRef::as_ref))
    }

    /// What a TLS context demands of the peer; `None` while the secret is missing or is not a validation context.
    pub fn validation(&self, validation: &Validation) -> Option<Arc<ValidationContext>> {
        let secret = validation.secret.as_ref().and_then(|s| self.secret(&s.name));
        validation.with(secret.map(AsRef::as_ref))
    }

    /// What must be asked for by name, for live and for warming listeners and clusters.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for cluster in self.clusters.all() {
            if let Discovery::Eds(name) = &cluster.discovery {
                wanted.endpoints.insert(name.clone());
            }
            wanted.secrets.extend(cluster.secrets().cloned());
        }
        for listener in self.listeners.all() {
            wanted.secrets.extend(listener.secrets().cloned());
            wanted.routes.extend(listener.route_tables().cloned());
        }
        wanted
    }

    /// What is not live yet, with what it waits for.
    pub fn warming(&self) -> BTreeMap<(TypeUrl, &str), Vec<Missing>> {
        let clusters = self.clusters.warming();
        let clusters = clusters.map(|(n, c)| ((TypeUrl::Cluster, n), self.missing_for_cluster(&c.config)));
        let listeners = self.listeners.warming();
        let listeners = listeners.map(|(n, l)| ((TypeUrl::Listener, n), self.missing_for_listener(&l.config)));
        clusters.chain(listeners).collect()
    }

    /// The clusters that are not live yet, by name.
    pub fn warming_clusters(&self) -> BTreeMap<&str, &Loaded<Cluster>> {
        self.clusters.warming().collect()
    }

    /// The listeners that are not live yet, by name.
    pub fn warming_listeners(&self) -> BTreeMap<&str, &Loaded<Listener>> {
        self.listeners.warming().collect()
    }

    /// Whether a version of a resource is live or warming.
    pub fn has_version(&self, type_url: TypeUrl, name: &str, version: &str) -> bool {
        match type_url {
            TypeUrl::Listener => self.listeners.has_version(name, version),
            TypeUrl::Cluster => self.clusters.has_version(name, version),
            TypeUrl::Endpoint => self.endpoints.has_version(name, version),
            TypeUrl::Secret => self.secrets.has_version(name, version),
            TypeUrl::Route => self.routes.has_version(name, version),
        }
    }

    /// What a cluster waits for before it goes live.
    pub fn missing_for_cluster(&self, cluster: &Cluster) -> Vec<Missing> {
        let mut missing = self.missing_secrets(cluster.secrets());
        match &cluster.discovery {
            Discovery::Eds(name) if self.endpoints.get(name).is_none() => {
                missing.push(Missing::Endpoints { name: name.clone() });
            }
            _ => {}
        }
        missing
    }

    /// What a listener waits for before it goes live. A cluster that nobody has announced is not waited for: its
    /// connections are closed with the flag `NC`, as in Envoy.
    pub fn missing_for_listener(&self, listener: &Listener) -> Vec<Missing> {
        let mut missing = self.missing_secrets(listener.secrets());
        let chains = listener.chains.iter().chain(&listener.default_chain);
        let mut names: BTreeSet<&Arc<str>> = chains.flat_map(|c| c.terminal.clusters()).collect();
        let tables: BTreeSet<&Arc<str>> = listener.route_tables().collect();
        for name in tables {
            match self.routes.get(name) {
                Some(table) => names.extend(table.clusters()),
                None => missing.push(Missing::Routes { name: name.clone() }),
            }
        }
        let warming = names.into_iter().filter(|name| self.clusters.is_first_warming(name));
        missing.extend(warming.map(|name| Missing::Cluster { name: name.clone() }));
        missing
    }

    fn missing_secrets<'a>(&self, secrets: impl Iterator<Item = &'a SecretRef>) -> Vec<Missing> {
        let missing: BTreeSet<&SecretRef> = secrets.filter(|s| self.secrets.get(&s.name).is_none()).collect();
        missing.into_iter().cloned().map(Missing::Secret).collect()
    }

    fn load(&mut self, type_url: TypeUrl, offered: Offered) -> Result<(), Rejected> {
        match type_url {
            TypeUrl::Listener => {
                let Some(decoded) = Decoded::<Listener>::new(offered, &self.listeners)? else { return Ok(()) };
                let address = decoded.config.address;
                let taken = self.listeners.all().find(|l| l.address == address && l.name != decoded.config.name);
                if let Some(other) = taken {
                    let reason = format!("{address} is taken by the listener {:?}", other.name);
                    return Err(Rejected { field: "address".to_owned(), reason });
                }
                Arc::make_mut(&mut self.listeners).warm(decoded);
            }
            TypeUrl::Cluster => {
                let Some(decoded) = Decoded::<Cluster>::new(offered, &self.clusters)? else { return Ok(()) };
                Arc::make_mut(&mut self.clusters).warm(decoded);
            }
            TypeUrl::Endpoint => {
                let Some(decoded) = Decoded::<LoadAssignment>::new(offered, &self.endpoints)? else { return Ok(()) };
                Arc::make_mut(&mut self.endpoints).set(decoded);
            }
            TypeUrl::Secret => {
                let Some(decoded) = Decoded::<Secret>::new(offered, &self.secrets)? else { return Ok(()) };
                Arc::make_mut(&mut self.secrets).set(decoded);
            }
            TypeUrl::Route => {
                let Some(decoded) = Decoded::<RouteTable>::new(offered, &self.routes)? else { return Ok(()) };
                Arc::make_mut(&mut self.routes).set(decoded);
            }
        }
        Ok(())
    }

    fn remove(&mut self, type_url: TypeUrl, name: &str) {
        match type_url {
            TypeUrl::Listener => Arc::make_mut(&mut self.listeners).remove(name),
            TypeUrl::Cluster => Arc::make_mut(&mut self.clusters).remove(name),
            TypeUrl::Endpoint => Arc::make_mut(&mut self.endpoints).remove(name),
            TypeUrl::Secret => Arc::make_mut(&mut self.secrets).remove(name),
            TypeUrl::Route => Arc::make_mut(&mut self.routes).remove(name),
        }
        self.forgive(type_url, name);
    }

    fn forgive(&mut self, type_url: TypeUrl, name: &str) {
        let key = (type_url, Arc::from(name));
        if self.rejected.contains_key(&key) {
            Arc::make_mut(&mut self.rejected).remove(&key);
        }
    }

    /// Drops endpoints, routes and secrets that were wanted before and are no longer: the server will not say that they go.
    /// What the pod's own agent brought stays, because it does not bring it again.
    fn drop_unwanted(&mut self, before: &Wanted) {
        let now = self.wanted();
        for name in before.endpoints.difference(&now.endpoints) {
            Arc::make_mut(&mut self.endpoints).remove(name);
        }
        for name in before.routes.difference(&now.routes) {
            Arc::make_mut(&mut self.routes).remove(name);
        }
        let names: BTreeSet<&Arc<str>> = now.secrets.iter().map(|s| &s.name).collect();
        let gone = before.secrets.difference(&now.secrets).filter(|s| s.source == SecretSource::Ads);
        for secret in gone.filter(|s| !names.contains(&s.name)) {
            Arc::make_mut(&mut self.secrets).remove(&secret.name);
        }
    }

    /// Makes live what is warming and `ready` for what it misses; clusters first, because listeners wait for them.
    fn promote(&mut self, ready: impl Fn(TypeUrl, &str, &[Missing]) -> bool) {
        let clusters: Vec<Arc<str>> = self
            .clusters
            .warming()
            .filter(|(name, c)| ready(TypeUrl::Cluster, name, &self.missing_for_cluster(&c.config)))
            .map(|(name, _)| name.into())
            .collect();
        if !clusters.is_empty() {
            Arc::make_mut(&mut self.clusters).promote(&clusters);
        }
        let listeners: Vec<Arc<str>> = self
            .listeners
            .warming()
            .filter(|(name, l)| ready(TypeUrl::Listener, name, &self.missing_for_listener(&l.config)))
            .map(|(name, _)| name.into())
            .collect();
        if !listeners.is_empty() {
            Arc::make_mut(&mut self.listeners).promote(&listeners);
        }
    }

    /// Indexes the listeners anew if they are not those of `last`.
    fn index(&mut self, last: &Snapshot) {
        if !Arc::ptr_eq(&self.listeners, &last.listeners) {
            let active = self.listeners.active();
            self.addresses = Arc::new(active.values().map(|l| (l.config.address, l.config.clone())).collect());
        }
    }
}

/// How long all of this is waited for, where endpoints and routes are waited for `usual`; `None` is for ever.
pub(crate) fn patience(missing: &[Missing], usual: Duration) -> Option<Duration> {
    let each = missing.iter().map(|missing| match missing {
        Missing::Secret(secret) => secret.patience,
        Missing::Endpoints { .. } | Missing::Routes { .. } | Missing::Cluster { .. } => Some(usual),
    });
    each.collect::<Option<Vec<Duration>>>().and_then(|all| all.into_iter().max())
}
