//! How long a stream may be silent, and how long it may take.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::config::http::{HttpConnectionManager, RouteTimeouts};

/// What is watched of a stream. As long as nothing is limited there is no timer.
#[derive(Debug)]
pub(crate) struct Watch {
    begun: Instant,
    /// When something came last.
    stirred: Cell<Instant>,
    idle: Cell<Option<Duration>>,
    /// Until when all of the request must be there; `None` once it is.
    request: Cell<Option<Instant>>,
    until: Cell<Option<Instant>>,
    /// Whether all of the request is there.
    whole: Cell<bool>,
}

/// What a stream has exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lapse {
    /// It was silent for too long.
    Idle,
    /// The request was not there whole in time.
    Request,
    /// It took too long.
    Duration,
}

impl Watch {
    /// Watches a stream that begins now.
    pub(crate) fn new(config: &HttpConnectionManager) -> Rc<Watch> {
        let now = Instant::now();
        Rc::new(Watch {
            begun: now,
            stirred: Cell::new(now),
            idle: Cell::new(config.timeouts.stream_idle),
            request: Cell::new(config.timeouts.request.map(|limit| now + limit)),
            until: Cell::new(config.connections.max_stream_duration.map(|limit| now + limit)),
            whole: Cell::new(false),
        })
    }

    /// When the stream began.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// What a route says comes before what the connection manager says.
    pub(crate) fn heed(&self, route: &RouteTimeouts) {
        let limited = |limit: Duration| (!limit.is_zero()).then_some(limit);
        if let Some(idle) = route.idle {
            self.idle.set(limited(idle));
        }
        if let Some(longest) = route.max_stream {
            self.until.set(limited(longest).map(|limit| self.begun + limit));
        }
    }

    /// Something has come or gone.
    pub(crate) fn stir(&self) {
        if self.idle.get().is_some() {
            self.stirred.set(Instant::now());
        }
    }

    /// All of the request is there.
    pub(crate) fn request_is_whole(&self) {
        self.whole.set(true);
        self.request.set(None);
    }

    /// Whether all of the request is there.
    pub(crate) fn has_whole_request(&self) -> bool {
        self.whole.get()
    }

    /// Waits until the stream has exceeded something.
    pub(crate) async fn lapse(&self) -> Lapse {
        let mut timer = None;
        std::future::poll_fn(|cx| self.poll_lapse(&mut timer, cx)).await
    }

    /// Looks whether the stream has exceeded something. The timer is made when there is something to wait for.
    pub(crate) fn poll_lapse(&self, timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<Lapse> {
        loop {
            let Some((at, lapse)) = self.next() else { return Poll::Pending };
            if at <= Instant::now() {
                return Poll::Ready(lapse);
            }
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// What would be exceeded first, and when.
    fn next(&self) -> Option<(Instant, Lapse)> {
        let idle = self.idle.get().map(|limit| (self.stirred.get() + limit, Lapse::Idle));
        let request = self.request.get().map(|at| (at, Lapse::Request));
        let until = self.until.get().map(|at| (at, Lapse::Duration));
        idle.into_iter().chain(request).chain(until).min_by_key(|(at, _)| *at)
    }
}
