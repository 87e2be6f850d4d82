//! Connections whose chain ends in the HTTP connection manager.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::record::Record;
use super::{authorize, count_failure, refuse, terminate};
use crate::http::{self, Connection, Life, LocalManager, PeerCertificate};
use crate::inspect::Hello;
use crate::stream::Stream;
use crate::worker::{LocalChain, LocalListener, Worker};

/// Takes a connection through the filters of its chain, and serves its requests.
pub(super) async fn serve(
    worker: Rc<Worker>,
    (listener, chain): (Rc<LocalListener>, Rc<LocalChain>),
    manager: Rc<LocalManager>,
    mut stream: Stream,
    (hello, captured): (Option<Hello>, Option<SocketAddr>),
    mut record: Record,
) {
    let identities = match Box::pin(terminate(&listener, &chain, &mut stream, hello, &mut record)).await {
        Ok(identities) => identities,
        Err(failure) => return count_failure(&listener, &failure),
    };
    if let Some(denied) = authorize(&chain, &identities, &record) {
        return Box::pin(refuse(&chain, &mut stream, denied, &mut record)).await;
    }
    let own = record.own_identity.as_deref();
    let certificate = PeerCertificate::read(stream.peer_certificates(), own, &manager.config.client_certificate);
    let connection = Connection {
        worker,
        listener,
        chain,
        manager,
        number: record.number,
        local: record.local,
        remote: record.remote,
        captured,
        server_name: record.server_name,
        identities,
        own_identity: record.own_identity,
        tls_version: record.tls_version,
        certificate,
        peer: OnceCell::new(),
        own: OnceCell::new(),
        life: Life::new(),
        marks: Arc::default(),
    };
    http::serve(stream, Rc::new(connection)).await;
}
