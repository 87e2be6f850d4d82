//! The sockets of listeners. Every worker has one of its own at each address, and the kernel spreads connections.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::Unbound;
use crate::Snapshot;
use crate::config::Listener;

/// How many connections may wait to be accepted; the kernel has a limit of its own.
const BACKLOG: i32 = 4096;

/// Which listeners have sockets.
#[derive(Debug, Default)]
pub(super) struct Sockets(HashMap<Arc<str>, Bound>);

#[derive(Debug, Clone, Copy)]
struct Bound {
    configured: SocketAddr,
    actual: SocketAddr,
}

/// What another snapshot changes.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// New sockets for each worker, by listener.
    pub(super) opened: Vec<Vec<(Arc<str>, TcpListener)>>,
    pub(super) closed: Vec<Arc<str>>,
    pub(super) unbound: Vec<Unbound>,
}

impl Sockets {
    /// Opens sockets for the listeners that want one (`listens`) and have none, and closes the others. A listener that
    /// moves is closed at its old address even if it cannot have the new one: connections to the old one are no longer
    /// meant for it.
    pub(super) fn change(
        &mut self,
        snapshot: &Snapshot,
        workers: usize,
        listens: impl Fn(&Listener) -> bool,
    ) -> Change {
        let listeners = snapshot.listeners();
        let mut change = Change { opened: (0..workers).map(|_| Vec::new()).collect(), ..Change::default() };
        self.0.retain(|name, bound| {
            let wanted = listeners.get(&**name).is_some_and(|l| listens(&l.config));
            let keep = wanted && listeners.get(&**name).is_some_and(|l| l.config.address == bound.configured);
            if !keep {
                change.closed.push(name.clone());
            }
            keep
        });
        for listener in listeners.values().map(|l| &l.config).filter(|l| listens(l)) {
            if self.0.contains_key(&listener.name) {
                continue;
            }
            match open(listener.address, workers) {
                Ok((actual, sockets)) => {
                    self.0.insert(listener.name.clone(), Bound { configured: listener.address, actual });
                    for (worker, socket) in change.opened.iter_mut().zip(sockets) {
                        worker.push((listener.name.clone(), socket));
                    }
                }
                Err(error) => {
                    change.unbound.push(Unbound { listener: listener.name.clone(), address: listener.address, error })
                }
            }
        }
        change
    }

    pub(super) fn addresses(&self) -> BTreeMap<Arc<str>, SocketAddr> {
        self.0.iter().map(|(name, bound)| (name.clone(), bound.actual)).collect()
    }
}

/// So many sockets at one address, and which it is.
fn open(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let mut actual = address;
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = listen(actual)?;
        // The first decides on a port that was left open.
        actual = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok((actual, sockets))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
