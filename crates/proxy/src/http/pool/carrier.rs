//! A connection that carries requests.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::host::HostPool;
use crate::downstream::known;
use crate::http::body::RequestBody;
use crate::http::connection::as_known;
use crate::http::peer;
use crate::http::report::Reports;
use crate::metrics::Workload;
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
    /// The identity that the endpoint has shown, and that which it was shown.
    pub(super) identity: Option<Arc<str>>,
    pub(super) own_identity: Option<Arc<str>>,
    /// The workload at the other end.
    pub(super) peer: OnceCell<Arc<Workload>>,
    /// The workload at this end, as the other end knows it.
    pub(super) own: OnceCell<Arc<Workload>>,
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

    /// Whether the endpoint is a proxy of the mesh that has not said who it is, and should be told who asks.
    pub(crate) fn is_unknown(&self) -> bool {
        self.identity.is_some() && self.peer.get().is_none()
    }

    /// Takes what the endpoint says of its workload. If it says nothing to the first request, it never will.
    pub(crate) fn introduce(&self, said: Option<&HeaderValue>, reports: &Reports) {
        if self.is_unknown() {
            let workload = said.and_then(|said| peer::read(said, known(self.identity.as_ref())));
            let workload = workload.unwrap_or_else(|| known(self.identity.as_ref()));
            // It says the same every time.
            drop(self.peer.set(reports.intern(workload)));
        }
    }

    /// The workload at the other end, as far as it is known.
    pub(crate) fn peer(&self, reports: &Reports) -> Arc<Workload> {
        self.peer.get().cloned().unwrap_or_else(|| reports.intern(known(self.identity.as_ref())))
    }

    /// The workload at this end.
    pub(crate) fn own_end(&self, reports: &Reports, own: &Workload) -> Arc<Workload> {
        let with = || reports.intern(as_known(own, self.own_identity.as_ref()));
        self.own.get_or_init(with).clone()
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

    pub(crate) fn carrier(&self) -> &Rc<Carrier> {
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
