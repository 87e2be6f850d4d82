//! New connections.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::Worker;
use crate::downstream;

/// How long no connection is accepted when the kernel has no room for one, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Takes connections until it is aborted.
pub(super) async fn accept(worker: Rc<Worker>, name: Arc<str>, socket: TcpListener) {
    let mut pause = BACK_OFF.0;
    loop {
        // As long as there are connections, this goes on without asking the kernel whether there are more.
        match socket.accept().await {
            Ok((stream, peer)) => {
                pause = BACK_OFF.0;
                let current = worker.current();
                if let Some(listener) = current.prepared.snapshot.listener(&name).cloned() {
                    tokio::task::spawn_local(downstream::serve(worker.clone(), current, listener, stream, peer));
                }
            }
            Err(e) if concerns_one_connection(&e) => {}
            Err(e) => {
                tracing::warn!(listener = %name, error = %e, "connections cannot be accepted for now");
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(BACK_OFF.1);
            }
        }
    }
}

/// Whether the error is of a connection that is gone already; accept(2) tells errors of the network in this way.
fn concerns_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        e.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::PermissionDenied
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
}
