//! New connections for requests.

use std::cell::{Cell, OnceCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::Protocol;
use super::carrier::{Carrier, Sender};
use super::host::{HostPool, Seat};
use crate::config::http::HttpProtocolOptions;
use crate::http::connection::{FREE_HEADERS, LEAST_BUFFER};
use crate::http::executor::Local;
use crate::http::wire::Wire;
use crate::upstream::{self, ConnectError, Establish, Host};

/// Why there is no connection for a request.
#[derive(Debug, Clone)]
pub(crate) enum Unavailable {
    /// A circuit breaker is open.
    Overflow,
    /// The endpoint could not be connected to.
    Failed(ConnectError),
}

/// Connects to an endpoint. A task of its own drives the connection, until it ends or nobody holds its sender.
pub(super) async fn connect(
    pool: &Rc<HostPool>,
    cluster: &Rc<Establish>,
    host: &Arc<Host>,
    protocol: Protocol,
) -> Result<(Rc<Carrier>, Sender), Unavailable> {
    let seat = Seat::new(pool);
    let connected = upstream::open(cluster, host, pool.greeting()).await.map_err(Unavailable::Failed)?;
    let upstream::Connected { mut stream, host, local, identity, own_identity, open } = connected;
    stream.hurry();
    let carrier = Rc::new(Carrier {
        cluster: cluster.clone(),
        host,
        local,
        born: Instant::now(),
        requests: Cell::new(0),
        active: Cell::new(0),
        streams: Cell::new(u32::MAX),
        retired: Cell::new(false),
        ended_here: Cell::new(false),
        identity,
        own_identity,
        peer: OnceCell::new(),
        own: OnceCell::new(),
    });
    let io = TokioIo::new(Wire::upstream(stream, cluster.stats.clone()));
    let end = {
        let carrier = carrier.clone();
        move || {
            carrier.retired.set(true);
            let stats = &carrier.cluster.stats;
            if carrier.ended_here.get() {
                stats.cx_destroy_local.inc()
            } else {
                stats.cx_destroy_remote.inc()
            }
            drop((open, seat));
        }
    };
    let options = cluster.upstream.config.http.clone();
    let sender = match protocol {
        Protocol::Http1 => {
            let (sender, connection) = http1_builder(&options).handshake(io).await.map_err(not_http)?;
            cluster.stats.cx_http1_total.inc();
            let guard = Guard(Some(end));
            let task = tokio::task::spawn_local(async move {
                let _guard = guard;
                // How it ended the request that it carried has learnt.
                drop(connection.with_upgrades().await);
            });
            Sender::Http1(sender, task.abort_handle())
        }
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(Local);
            builder
                .initial_stream_window_size(options.http2.stream_window)
                .initial_connection_window_size(options.http2.connection_window)
                .header_table_size(options.http2.hpack_table)
                .max_header_list_size(u32::try_from(options.connections.max_response_head).unwrap_or(u32::MAX));
            let (sender, connection) = builder.handshake(io).await.map_err(not_http)?;
            cluster.stats.cx_http2_total.inc();
            let (guard, mut connection, carrier) = (Guard(Some(end)), connection, carrier.clone());
            tokio::task::spawn_local(async move {
                let _guard = guard;
                let driven = std::future::poll_fn(|cx| {
                    let end = Pin::new(&mut connection).poll(cx);
                    carrier.streams.set(u32::try_from(connection.current_max_send_streams()).unwrap_or(u32::MAX));
                    end
                });
                // How it ended the requests that it carried have learnt.
                drop(driven.await);
            });
            Sender::Http2(sender)
        }
    };
    Ok((carrier, sender))
}

fn http1_builder(options: &HttpProtocolOptions) -> http1::Builder {
    let mut builder = http1::Builder::new();
    let head = options.connections.max_response_head;
    builder.max_buf_size(head.max(LEAST_BUFFER)).max_header_size(head);
    if options.connections.max_headers != FREE_HEADERS {
        builder.max_headers(options.connections.max_headers);
    }
    builder
}

fn not_http(e: hyper::Error) -> Unavailable {
    Unavailable::Failed(ConnectError { reason: e.to_string().into(), timed_out: false })
}

/// Runs what must be done at the end of a task, also of one that is aborted.
struct Guard<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Guard<F> {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}
