//! Circuit breakers: how much may be under way at once, in all workers.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Establish, Host, HostRecord, Usage};
use crate::config::RetryBudget;

/// One of what a circuit breaker limits, for as long as it is there.
#[derive(Debug)]
pub(crate) struct UnderWay {
    usage: Arc<Usage>,
    count: fn(&Usage) -> &AtomicU32,
}

impl UnderWay {
    /// Counts another one, unless there are as many as allowed.
    fn new(usage: &Arc<Usage>, count: fn(&Usage) -> &AtomicU32, limit: u32) -> Option<UnderWay> {
        let another = |n: u32| (n < limit).then(|| n + 1);
        count(usage).fetch_update(Ordering::Relaxed, Ordering::Relaxed, another).ok()?;
        Some(UnderWay { usage: usage.clone(), count })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        (self.count)(&self.usage).fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request, or a connection that is passed on as it is, among those that an endpoint has.
#[derive(Debug)]
pub(crate) struct Carried(Arc<HostRecord>);

impl Carried {
    pub(crate) fn new(host: &Host) -> Carried {
        host.record.requests.fetch_add(1, Ordering::Relaxed);
        Carried(host.record.clone())
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Establish {
    /// Counts a request among those of the cluster; `None` if there are too many.
    pub(crate) fn request(self: &Rc<Self>) -> Option<UnderWay> {
        let upstream = &self.upstream;
        UnderWay::new(&upstream.usage, |usage| &usage.requests, upstream.config.limits.max_requests)
    }

    /// Counts a retry among those of the cluster; `None` if there are too many.
    pub(crate) fn retry(self: &Rc<Self>) -> Option<UnderWay> {
        let (usage, limits) = (&self.upstream.usage, &self.upstream.config.limits);
        let limit = limits.retry_budget.map_or(limits.max_retries, |budget| allowed(&budget, usage));
        UnderWay::new(usage, |usage| &usage.retries, limit)
    }
}

/// How many retries a budget allows beside what is under way.
fn allowed(budget: &RetryBudget, usage: &Usage) -> u32 {
    let load = |count: &AtomicU32| f64::from(count.load(Ordering::Relaxed));
    let share = (load(&usage.requests) + load(&usage.pending)) * budget.percent / 100.0;
    // As many whole retries as fit in.
    budget.min_concurrency.max(share as u32)
}
