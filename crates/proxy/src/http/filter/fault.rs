//! Injects faults: delays, and answers that upstream did not give.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::LocalReply;
use crate::access_log::{Flag, Flags};
use crate::config::Fraction;
use crate::config::http::{Abort, Fault, FaultOf, Stated};

/// Where a request says how long it wants to be delayed, in milliseconds, and how often, in the denominator that the
/// configuration has.
const DELAY: (&str, &str) = ("x-envoy-fault-delay-request", "x-envoy-fault-delay-request-percentage");
/// Where it says how it wants to be aborted, and how often.
const ABORT: (&str, &str) = ("x-envoy-fault-abort-request", "x-envoy-fault-abort-request-percentage");
/// Where it names a status of gRPC for that.
const ABORT_GRPC: &str = "x-envoy-fault-abort-grpc-request";

/// What is done to a request: first a delay, and then an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Injection {
    pub(crate) delay: Option<Duration>,
    pub(crate) abort: Option<Abort>,
}

/// The requests of a filter that suffer now, in one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Suffering(Rc<Cell<u32>>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Suffers(Rc<Cell<u32>>);

impl Suffering {
    /// Counts another one, unless there are as many as allowed.
    pub(crate) fn another(&self, most: Option<u32>) -> Option<Suffers> {
        if most.is_some_and(|most| self.0.get() >= most) {
            return None;
        }
        self.0.set(self.0.get() + 1);
        Some(Suffers(self.0.clone()))
    }
}

impl Drop for Suffers {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Injection {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Injection::default()
    }

    /// The answer, if there is one to be given.
    pub(crate) fn reply(&self) -> Option<LocalReply> {
        let (status, grpc_status) = match self.abort? {
            Abort::Http(status) => (status, None),
            Abort::Grpc(status) => (StatusCode::OK, Some(status)),
        };
        let reply = LocalReply::new(status, "fault filter abort", "fault_filter_abort");
        Some(LocalReply { grpc_status, flag: Some(Flag::FaultInjected), ..reply })
    }
}

impl Fault {
    /// What is done to a request. `random` throws the dice for each kind of fault.
    pub(crate) fn inject(&self, parts: &Parts, random: impl Fn() -> u64) -> Injection {
        if !self.headers.iter().all(|header| header.holds(parts)) {
            return Injection::default();
        }
        let headers = &parts.headers;
        Injection {
            delay: self.delay.and_then(|delay| {
                let wanted = number(headers, DELAY.0).map(Duration::from_millis);
                chosen(&delay, wanted.filter(|d| !d.is_zero()), number(headers, DELAY.1), random())
            }),
            abort: self.abort.and_then(|abort| {
                let wanted = abort_wanted(headers);
                chosen(&abort, wanted, number(headers, ABORT.1), random())
            }),
        }
    }
}

/// Lets a request suffer what a filter has for it.
pub(crate) async fn suffer(
    config: &Fault,
    suffering: &Suffering,
    parts: &Parts,
    flags: &mut Flags,
) -> Result<(), LocalReply> {
    let injection = config.inject(parts, || fastrand::u64(..));
    if injection.is_empty() {
        return Ok(());
    }
    let Some(_suffers) = suffering.another(config.most) else { return Ok(()) };
    if let Some(delay) = injection.delay {
        flags.set(Flag::DelayInjected);
        tokio::time::sleep(delay).await;
    }
    injection.reply().map_or(Ok(()), Err)
}

/// The fault, if it is one for this request.
fn chosen<T: Copy>(fault: &FaultOf<T>, wanted: Option<T>, share: Option<u64>, random: u64) -> Option<T> {
    let FaultOf { what, share: configured } = *fault;
    let (what, share) = match what {
        Stated::Here(what) => (what, configured),
        Stated::InHeaders => (wanted?, lowered(configured, share)),
    };
    share.includes(random).then_some(what)
}

/// A request may have less than the configuration allows, not more.
fn lowered(configured: Fraction, wanted: Option<u64>) -> Fraction {
    wanted.and_then(|wanted| u32::try_from(wanted).ok()).map_or(configured, |wanted| configured.at_most(wanted))
}

fn abort_wanted(headers: &HeaderMap) -> Option<Abort> {
    let status = number(headers, ABORT.0).and_then(|status| u16::try_from(status).ok());
    let status = status.filter(|status| (200..600).contains(status)).and_then(|s| StatusCode::from_u16(s).ok());
    let grpc = || number(headers, ABORT_GRPC).and_then(|status| u32::try_from(status).ok()).map(Abort::Grpc);
    status.map(Abort::Http).or_else(grpc)
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
