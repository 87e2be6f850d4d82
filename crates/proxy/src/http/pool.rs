//! Connections to the endpoints of a cluster that requests share, for one worker.
//!
//! A connection belongs to an endpoint, a transport and a protocol. One that speaks HTTP/1.1 carries one request at a
//! time and waits among the idle ones in between, the latest on top; one that speaks HTTP/2 carries many at once.

mod carrier;
mod connect;
mod host;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use http::header;
use http::request::Parts;
use http::uri::{Authority, Scheme, Uri};

pub(crate) use carrier::{Carrier, Lease, Sent};
pub(crate) use connect::Unavailable;
use host::HostPool;

use crate::config::Cluster;
use crate::upstream::{Establish, Greeting, Host};

/// How often a request may meet a connection that has just ended, and go on to another one without anybody noticing.
pub(crate) const STALE: u32 = 3;

/// Which protocol requests to an endpoint speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// Its name in handshakes.
    fn name(self) -> &'static [u8] {
        match self {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        }
    }

    /// Its version, as messages have it.
    pub(crate) fn version(self) -> Version {
        match self {
            Protocol::Http1 => Version::HTTP_11,
            Protocol::Http2 => Version::HTTP_2,
        }
    }

    /// Gives the head of a request, whose authority is in `host`, the form that it has in this protocol.
    pub(crate) fn shape(self, parts: &mut Parts, secure: bool) {
        parts.version = self.version();
        match self {
            Protocol::Http1 => {}
            Protocol::Http2 => {
                let authority = parts.headers.remove(header::HOST);
                let authority = authority.and_then(|host| Authority::try_from(host.as_bytes()).ok());
                let mut uri = std::mem::take(&mut parts.uri).into_parts();
                uri.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
                uri.authority = authority.or(uri.authority);
                parts.uri = Uri::from_parts(uri).unwrap_or_default();
            }
        }
    }
}

/// How long connections live.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lifetime {
    /// How long without a request.
    pub(crate) idle: Option<Duration>,
    /// How long in all, until no more requests are sent on it.
    pub(crate) whole: Option<Duration>,
    /// After how many requests.
    pub(crate) requests: Option<u32>,
    /// How many requests at once, with HTTP/2.
    pub(crate) streams: u32,
}

/// What a connection must be like for a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    address: SocketAddr,
    transport: usize,
    protocol: Protocol,
    greeting: Greeting,
}

/// The connections of one worker to a cluster as it is configured. Another configuration has another pool; connections
/// of the old one end with their requests.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    lifetime: Lifetime,
    hosts: RefCell<HashMap<Key, Rc<HostPool>>>,
}

/// What a request wants of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    pub(crate) protocol: Protocol,
    pub(crate) greeting: Greeting,
}

impl Pool {
    /// A pool for a cluster, without connections.
    pub(crate) fn of(cluster: &Cluster) -> Pool {
        let (connections, http2) = (&cluster.http.connections, &cluster.http.http2);
        let lifetime = Lifetime {
            idle: connections.idle_timeout,
            whole: connections.max_duration,
            requests: connections.max_requests.map(NonZeroU32::get),
            streams: http2.max_streams.get(),
        };
        Pool { lifetime, hosts: RefCell::default() }
    }

    /// A connection to an endpoint: one that is there, or a new one.
    pub(crate) async fn lease(
        &self,
        cluster: &Rc<Establish>,
        host: &Arc<Host>,
        want: &Want,
    ) -> Result<Lease, Unavailable> {
        let pool = self.host(host, want);
        match want.protocol {
            Protocol::Http1 => host::http1(&pool, cluster, host).await,
            Protocol::Http2 => host::http2(&pool, cluster, host).await,
        }
    }

    fn host(&self, host: &Arc<Host>, want: &Want) -> Rc<HostPool> {
        let Want { protocol, greeting } = want;
        let greeting = Greeting { otherwise: Some(protocol.name()), ..greeting.clone() };
        let key =
            Key { address: host.address, transport: host.transport, protocol: *protocol, greeting: greeting.clone() };
        let mut hosts = self.hosts.borrow_mut();
        if let Some(known) = hosts.get(&key) {
            return known.clone();
        }
        let pool = Rc::new(HostPool::new(self.lifetime, greeting.clone()));
        hosts.insert(key, pool.clone());
        pool
    }

    /// Closes the idle connections to endpoints that have gone; the others end with their requests.
    pub(crate) fn prune(&self) {
        self.hosts.borrow_mut().retain(|_, pool| !pool.is_of_the_past());
    }
}
