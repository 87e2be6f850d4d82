//! Bytes between two connections, in both directions at once.
//!
//! Nothing is read from one end before the other has taken what was read before: what a connection may hold is bounded
//! by one read. Each direction ends for itself, so that an end that has said all may still listen.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFuture;

use crate::stream::{Broken, Carried, Side, Stream};

/// What is counted while bytes go by.
pub(crate) trait Traffic {
    /// Bytes went from downstream to upstream.
    fn sent_up(&mut self, bytes: u64);
    /// Bytes went from upstream to downstream.
    fn sent_down(&mut self, bytes: u64);
    /// Downstream is not read for now, because upstream is slow.
    fn paused(&mut self);
    /// Downstream is read again.
    fn resumed(&mut self);
}

/// Why a relay ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Both ends have said all.
    Complete {
        /// Whether upstream was first.
        upstream_first: bool,
    },
    /// The connection to downstream broke.
    Downstream(Broken),
    /// The connection to upstream broke.
    Upstream(Broken),
    /// Neither end said anything for too long.
    Idle,
    /// It lasted for too long.
    TooLong,
    /// Its filter chain or its endpoint is gone, or the proxy ends.
    Drained,
}

/// When a relay has to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) idle: Option<Duration>,
    /// When it has lasted for too long.
    pub(crate) until: Option<Instant>,
    /// How much may be read from downstream at once, in bytes.
    pub(crate) downstream_limit: usize,
    /// How much may be read from upstream at once, in bytes.
    pub(crate) upstream_limit: usize,
}

#[derive(Debug, Default)]
struct Direction {
    ended: bool,
    done: bool,
    paused: bool,
}

/// The state of a relay.
struct Relay<'a, T> {
    downstream: &'a mut Stream,
    upstream: &'a mut Stream,
    up: Direction,
    down: Direction,
    upstream_first: bool,
    terms: Terms,
    traffic: &'a mut T,
    active: Instant,
    begun: bool,
}

/// Carries bytes until both ends have said all, or something else ends it.
pub(crate) async fn relay<T: Traffic>(
    downstream: &mut Stream,
    upstream: &mut Stream,
    terms: Terms,
    closed: Pin<&mut WaitForCancellationFuture<'_>>,
    traffic: &mut T,
) -> End {
    let active = Instant::now();
    let mut relay = Relay {
        downstream,
        upstream,
        up: Direction::default(),
        down: Direction::default(),
        upstream_first: false,
        terms,
        traffic,
        active,
        begun: false,
    };
    let mut closed = closed;
    let first = relay.next_check();
    let timer = tokio::time::sleep_until(first.unwrap_or(active));
    tokio::pin!(timer);
    std::future::poll_fn(|cx| {
        if closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Drained);
        }
        if let Poll::Ready(end) = relay.poll(cx) {
            return Poll::Ready(end);
        }
        if first.is_some() { relay.poll_timer(timer.as_mut(), cx) } else { Poll::Pending }
    })
    .await
}

impl<T: Traffic> Relay<'_, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if !self.begun {
            self.begun = true;
            // The last flight of the handshake goes out together with what downstream has said already.
            if let Poll::Ready(Err(end)) = self.poll_up(cx) {
                return Poll::Ready(end);
            }
            self.upstream.hurry();
        }
        if let Poll::Ready(Err(end)) = self.poll_up(cx) {
            // An upstream that hears no more may have said something before.
            if let (End::Upstream(_), Poll::Ready(Err(later))) = (&end, self.poll_down(cx)) {
                return Poll::Ready(later);
            }
            return Poll::Ready(end);
        }
        if let Poll::Ready(Err(end)) = self.poll_down(cx) {
            return Poll::Ready(end);
        }
        if self.up.done && self.down.done {
            return Poll::Ready(End::Complete { upstream_first: self.upstream_first });
        }
        Poll::Pending
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let (traffic, active) = (&mut *self.traffic, &mut self.active);
        let paused = self.up.paused;
        let outcome = direction(
            cx,
            (&mut *self.downstream, &mut *self.upstream),
            &mut self.up,
            self.terms.downstream_limit,
            &mut |bytes| {
                traffic.sent_up(bytes);
                *active = Instant::now();
            },
        );
        match (paused, self.up.paused) {
            (false, true) => self.traffic.paused(),
            (true, false) => self.traffic.resumed(),
            _ => {}
        }
        outcome.map_err(|(side, broken)| match side {
            Side::From => End::Downstream(broken),
            Side::To => End::Upstream(broken),
        })
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let (traffic, active) = (&mut *self.traffic, &mut self.active);
        let outcome = direction(
            cx,
            (&mut *self.upstream, &mut *self.downstream),
            &mut self.down,
            self.terms.upstream_limit,
            &mut |bytes| {
                traffic.sent_down(bytes);
                *active = Instant::now();
            },
        );
        self.upstream_first |= self.down.ended && !self.up.ended;
        outcome.map_err(|(side, broken)| match side {
            Side::From => End::Upstream(broken),
            Side::To => End::Downstream(broken),
        })
    }

    /// When to look whether the time is up. A connection has one timer, which is set again only when it rings.
    fn next_check(&self) -> Option<Instant> {
        let idle = self.terms.idle.map(|idle| self.active + idle);
        match (idle, self.terms.until) {
            (Some(idle), Some(until)) => Some(idle.min(until)),
            (idle, until) => idle.or(until),
        }
    }

    fn poll_timer(&mut self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if self.terms.until.is_some_and(|until| until <= now) {
                return Poll::Ready(End::TooLong);
            }
            match self.next_check() {
                Some(next) if next > now => timer.as_mut().reset(next),
                _ => return Poll::Ready(End::Idle),
            }
        }
    }
}

/// Carries what there is in one direction, until there is nothing more to read or the other end is slow.
fn direction(
    cx: &mut Context<'_>,
    (from, to): (&mut Stream, &mut Stream),
    state: &mut Direction,
    limit: usize,
    count: &mut dyn FnMut(u64),
) -> Poll<Result<(), (Side, Broken)>> {
    if state.done {
        return Poll::Ready(Ok(()));
    }
    let to_broke = |e: io::Error| (Side::To, Broken::Io(e));
    loop {
        let flushed = to.poll_flush(cx).map_err(to_broke)?;
        state.paused = flushed.is_pending();
        ready!(flushed);
        if state.ended {
            ready!(to.poll_shutdown(cx)).map_err(to_broke)?;
            state.done = true;
            return Poll::Ready(Ok(()));
        }
        match ready!(from.poll_carry(cx, to, limit))? {
            Carried::Bytes(bytes) => count(bytes as u64),
            Carried::End => {
                state.ended = true;
                to.end().map_err(|e| (Side::To, e))?;
            }
        }
    }
}
