//! A connection that carries requests.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::host::HostPool;
use crate::http::body::RequestBody;
use crate::upstream::{Establish, Host};

/// What is known of a connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) cluster: Rc<Establish>,
    pub(crate) host: Arc<Host>,
    pub(crate) local: Option<SocketAddr>,
    pub(super) born: Instant,
    pub(super) requests: Cell<u32>,
    /// Requests that are under way.
    pub(super) active: Cell<u32>,
    /// How many the endpoint takes at once.
    pub(super) streams: Cell<u32>,
    /// Whether no more requests are to be sent.
    pub(super) retired: Cell<bool>,
    /// Whether this proxy has ended it.
    pub(super) ended_here: Cell<bool>,
}

impl Carrier {
    /// Whether it may carry another request.
    pub(super) fn is_usable(&self, lifetime: &super::Lifetime) -> bool {
        let old = |whole: Duration| self.born.elapsed() >= whole;
        !self.retired.get()
            && !self.host.record.gone.is_cancelled()
            && lifetime.requests.is_none_or(|most| self.requests.get() < most)
            && !lifetime.whole.is_some_and(old)
    }

    fn begin(&self) {
        self.requests.set(self.requests.get() + 1);
        self.active.set(self.active.get() + 1);
    }
}

/// A connection as long as a request needs it. Dropped before [`complete`](Self::complete) it ends the request: with
/// HTTP/1.1 that ends the connection, too.
#[derive(Debug)]
pub(crate) struct Lease {
    carrier: Rc<Carrier>,
    sender: Option<Sender>,
    pool: Weak<HostPool>,
}

#[derive(Debug)]
pub(super) enum Sender {
    Http1(http1::SendRequest<RequestBody>, AbortHandle),
    Http2(http2::SendRequest<RequestBody>),
}

/// What came of sending a request.
pub(crate) enum Sent {
    /// Upstream has answered.
    Answered(Response<Incoming>),
    /// The connection had gone before anything was sent: the request may be sent on another one.
    Unsent(Request<RequestBody>),
    /// It broke before there was an answer.
    Broken(hyper::Error),
}

impl Lease {
    pub(super) fn new(carrier: Rc<Carrier>, sender: Sender, pool: &Rc<HostPool>) -> Lease {
        carrier.begin();
        Lease { carrier, sender: Some(sender), pool: Rc::downgrade(pool) }
    }

    pub(crate) fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    pub(crate) async fn send(&mut self, request: Request<RequestBody>) -> Sent {
        let answer = match &mut self.sender {
            Some(Sender::Http1(sender, _)) => {
                // The task of the connection may not have seen the end of the last request yet.
                if sender.ready().await.is_err() {
                    return Sent::Unsent(request);
                }
                sender.try_send_request(request).await
            }
            Some(Sender::Http2(sender)) => sender.try_send_request(request).await,
            None => return Sent::Unsent(request),
        };
        match answer {
            Ok(response) => Sent::Answered(response),
            Err(mut e) => match e.take_message() {
                Some(request) => Sent::Unsent(request),
                None => Sent::Broken(e.into_error()),
            },
        }
    }

    /// The request was sent and answered whole: the connection is free for another one.
    pub(crate) fn complete(mut self) {
        let (sender, pool) = (self.sender.take(), self.pool.upgrade());
        if let (Some(sender), Some(pool)) = (sender, pool) {
            pool.take_back(&self.carrier, sender);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.carrier.active.set(self.carrier.active.get() - 1);
        if let Some(Sender::Http1(_, task)) = &self.sender {
            self.carrier.ended_here.set(true);
            task.abort();
        }
        if let Some(pool) = self.pool.upgrade() {
            pool.released(&self.carrier);
        }
    }
}
