//! Injects faults: delays, and answers that upstream did not give.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, StatusCode};

use crate::access_log::{Flag, Flags};
use crate::config::Fraction;
use crate::config::http::{Abort, Fault, FaultOf, Most, Stated};
use crate::http::reply::Reply;
use crate::metrics::FaultStats;

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

/// Counts a request among those that suffer, for as long as it is there.
#[derive(Debug)]
pub(crate) struct Suffers(Arc<FaultStats>, Option<Most>);

impl Suffers {
    /// Counts another one, unless as many as allowed suffer.
    fn new(stats: &Arc<FaultStats>, most: Option<&Most>) -> Option<Suffers> {
        if most.is_some_and(|most| !most.begin()) {
            stats.faults_overflow.inc();
            return None;
        }
        stats.active_faults.inc();
        Some(Suffers(stats.clone(), most.cloned()))
    }
}

impl Drop for Suffers {
    fn drop(&mut self) {
        let Suffers(stats, most) = self;
        stats.active_faults.dec();
        if let Some(most) = most {
            most.end();
        }
    }
}

impl Injection {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Injection::default()
    }

    /// The answer, if there is one to be given.
    pub(crate) fn reply(&self) -> Option<Reply> {
        let (status, grpc_status) = match self.abort? {
            Abort::Http(status) => (status, None),
            Abort::Grpc(status) => (StatusCode::OK, Some(status)),
        };
        let reply = Reply::new(status, "fault_filter_abort").body("fault filter abort").flag(Flag::FaultInjected);
        Some(Reply { grpc_status, ..reply })
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

/// Lets a request suffer what a filter has for it. One that goes on is counted until it ends.
pub(crate) async fn suffer(
    config: &Fault,
    stats: &Arc<FaultStats>,
    parts: &Parts,
    flags: &mut Flags,
) -> Result<Option<Suffers>, Reply> {
    let injection = config.inject(parts, || fastrand::u64(..));
    if injection.is_empty() {
        return Ok(None);
    }
    let Some(suffers) = Suffers::new(stats, config.most.as_ref()) else { return Ok(None) };
    if let Some(delay) = injection.delay {
        stats.delays_injected.inc();
        flags.set(Flag::DelayInjected);
        tokio::time::sleep(delay).await;
    }
    match injection.reply() {
        Some(reply) => {
            stats.aborts_injected.inc();
            Err(reply)
        }
        None => Ok(Some(suffers)),
    }
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
