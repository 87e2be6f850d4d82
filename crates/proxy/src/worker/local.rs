//! A configuration as one worker uses it: its parts with the counters that belong to them, looked up once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Lease, Worker};
use crate::config::{FilterChain, Listener, Terminal};
use crate::http::LocalManager;
use crate::metrics::{ListenerStats, RbacStats, TcpStats};
use crate::prepared::Prepared;
use crate::tls::ServerTls;
use crate::upstream::Establish;

/// A configuration. Its parts are made when they are first used: of a thousand listeners most never are.
#[derive(Debug, Default)]
pub(crate) struct Current {
    pub(crate) prepared: Arc<Prepared>,
    listeners: RefCell<HashMap<Arc<str>, Rc<LocalListener>>>,
    clusters: RefCell<HashMap<Arc<str>, Rc<Establish>>>,
}

/// A listener.
#[derive(Debug)]
pub(crate) struct LocalListener {
    pub(crate) config: Arc<Listener>,
    pub(crate) stats: Arc<ListenerStats>,
    /// By the address of the chain, which the listener keeps.
    chains: RefCell<HashMap<*const FilterChain, Rc<LocalChain>>>,
}

/// A filter chain.
#[derive(Debug)]
pub(crate) struct LocalChain {
    pub(crate) config: Arc<FilterChain>,
    pub(crate) stats: Arc<TcpStats>,
    /// Of each RBAC filter: what is enforced, and what is only counted.
    pub(crate) rbac: Box<[(Arc<RbacStats>, Arc<RbacStats>)]>,
    pub(crate) server: Option<Arc<ServerTls>>,
    /// The connection manager, if it speaks HTTP.
    pub(crate) http: Option<Rc<LocalManager>>,
    /// Tells its connections to end with what is under way.
    pub(crate) draining: CancellationToken,
    /// Ends its connections.
    pub(crate) closed: CancellationToken,
}

impl Current {
    pub(super) fn new(prepared: Arc<Prepared>) -> Current {
        Current { prepared, ..Current::default() }
    }

    pub(crate) fn listener(&self, worker: &Worker, config: &Arc<Listener>) -> Rc<LocalListener> {
        let mut listeners = self.listeners.borrow_mut();
        if let Some(known) = listeners.get(&config.name) {
            return known.clone();
        }
        let listener = Rc::new(LocalListener {
            config: config.clone(),
            stats: worker.setup.metrics.listeners.of(&config.stat_prefix),
            chains: RefCell::default(),
        });
        listeners.insert(config.name.clone(), listener.clone());
        listener
    }

    pub(crate) fn cluster(&self, worker: &Worker, name: &Arc<str>) -> Option<Rc<Establish>> {
        if let Some(known) = self.clusters.borrow().get(name) {
            return Some(known.clone());
        }
        let upstream = self.prepared.cluster(name)?.clone();
        let stats = worker.setup.metrics.clusters.of(&upstream.config.stat_name);
        let pool = worker.pool(&upstream.config);
        let cluster = Rc::new(Establish { upstream, stats, pool });
        self.clusters.borrow_mut().insert(name.clone(), cluster.clone());
        Some(cluster)
    }

    pub(crate) fn chain(&self, worker: &Worker, listener: &LocalListener, config: &Arc<FilterChain>) -> Rc<LocalChain> {
        let mut chains = listener.chains.borrow_mut();
        let known = chains.entry(Arc::as_ptr(config));
        known.or_insert_with(|| Rc::new(self.new_chain(worker, listener, config))).clone()
    }

    fn new_chain(&self, worker: &Worker, listener: &LocalListener, config: &Arc<FilterChain>) -> LocalChain {
        let metrics = &worker.setup.metrics;
        let rbac = config.rbac.iter().map(|filter| {
            let shadow =
                if filter.shadow_stat_prefix.is_empty() { &filter.stat_prefix } else { &filter.shadow_stat_prefix };
            (metrics.rbac.of(&filter.stat_prefix), metrics.rbac.of(shadow))
        });
        let Lease { draining, closed } = worker.lease(&listener.config.name, config.fingerprint);
        LocalChain {
            stats: metrics.tcp.of(config.terminal.stat_prefix()),
            rbac: rbac.collect(),
            server: config.tls.as_ref().and_then(|tls| self.prepared.server(tls)).cloned(),
            http: match &config.terminal {
                Terminal::Http(manager) => Some(Rc::new(LocalManager::new(manager, metrics))),
                Terminal::Tcp(_) => None,
            },
            draining,
            closed,
            config: config.clone(),
        }
    }
}
