//! Work queues: keys to reconcile, each at most once at a time, now or later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};

/// The first delay after a failure; it doubles with each further one up to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));

struct State<T> {
    waiting: VecDeque<T>,
    /// What is in `waiting`, or must be once it is no longer being worked on.
    dirty: BTreeSet<T>,
    working: BTreeSet<T>,
    later: BTreeMap<T, Instant>,
    failures: BTreeMap<T, u32>,
}

/// Keys that wait for a controller. Cheap to clone.
pub(crate) struct Queue<T>(Arc<(Mutex<State<T>>, Notify)>);

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue(self.0.clone())
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        let state = State {
            waiting: VecDeque::new(),
            dirty: BTreeSet::new(),
            working: BTreeSet::new(),
            later: BTreeMap::new(),
            failures: BTreeMap::new(),
        };
        Queue(Arc::new((Mutex::new(state), Notify::new())))
    }
}

impl<T: Ord + Clone + Hash + Display> Queue<T> {
    /// Asks for `key` to be reconciled; a key that is already waiting waits once.
    pub(crate) fn add(&self, key: T) {
        let mut state = self.state();
        state.add(key);
        drop(state);
        self.0.1.notify_one();
    }

    /// Asks for `key` to be reconciled after `delay`, or at the earlier time it is already due.
    pub(crate) fn add_after(&self, key: T, delay: Duration) {
        let due = Instant::now() + delay;
        let mut state = self.state();
        let at = state.later.entry(key).or_insert(due);
        *at = due.min(*at);
        drop(state);
        self.0.1.notify_one();
    }

    /// The next key. It is not given out again before [`Queue::done`].
    async fn next(&self) -> T {
        loop {
            let due = {
                let mut state = self.state();
                state.ripen(Instant::now());
                if let Some(key) = state.waiting.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    if !state.waiting.is_empty() {
                        self.0.1.notify_one();
                    }
                    return key;
                }
                state.later.values().min().copied()
            };
            match due {
                Some(due) => {
                    tokio::select! {
                        () = self.0.1.notified() => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                None => self.0.1.notified().await,
            }
        }
    }

    fn done(&self, key: &T) {
        let mut state = self.state();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.waiting.push_back(key.clone());
            drop(state);
            self.0.1.notify_one();
        }
    }

    fn failed(&self, key: T) -> Duration {
        let mut state = self.state();
        let failures = state.failures.entry(key.clone()).or_default();
        let delay = BACKOFF.0.saturating_mul(2u32.saturating_pow(*failures)).min(BACKOFF.1);
        *failures += 1;
        drop(state);
        self.add_after(key, delay);
        delay
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reconciles keys for ever, `workers` of them at a time, with `context` at hand. `reconcile` says when it wants
    /// to see its key again; an error is logged and retried with growing delays.
    pub(crate) async fn work<C, E>(
        &self,
        controller: &'static str,
        workers: usize,
        context: &C,
        reconcile: impl for<'a> Fn(&'a C, &'a T) -> BoxFuture<'a, Result<Option<Duration>, E>>,
    ) where
        E: Display + Transient,
    {
        let workers = (0..workers).map(|_| async {
            loop {
                let key = self.next().await;
                match reconcile(context, &key).await {
                    Ok(again) => {
                        self.state().failures.remove(&key);
                        if let Some(delay) = again {
                            self.add_after(key.clone(), delay);
                        }
                    }
                    Err(error) => self.retry(controller, &key, &error),
                }
                self.done(&key);
            }
        });
        futures::future::join_all(workers).await;
    }

    fn retry<E: Display + Transient>(&self, controller: &'static str, key: &T, error: &E) {
        let delay = self.failed(key.clone());
        if error.is_transient() {
            debug!(controller, %key, %error, ?delay, "trying again");
        } else {
            warn!(controller, %key, %error, ?delay, "cannot reconcile; trying again");
        }
    }
}

/// Errors that are part of normal life among concurrent writers.
pub(crate) trait Transient {
    /// Whether the error is a lost race rather than a fault.
    fn is_transient(&self) -> bool;
}

impl Transient for kube::Error {
    fn is_transient(&self) -> bool {
        matches!(self, kube::Error::Api(status) if matches!(status.code, 404 | 409))
    }
}

impl<T: Ord + Clone> State<T> {
    fn add(&mut self, key: T) {
        if self.dirty.insert(key.clone()) && !self.working.contains(&key) {
            self.waiting.push_back(key);
        }
    }

    /// Moves what is due to those that wait.
    fn ripen(&mut self, now: Instant) {
        let due: Vec<T> = self.later.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            self.later.remove(&key);
            self.add(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_waits_once_and_is_worked_on_once_at_a_time() {
        let queue = Queue::<String>::default();
        queue.add("a".to_owned());
        queue.add("a".to_owned());
        let key = queue.next().await;
        queue.add("a".to_owned());
        queue.add("b".to_owned());
        assert_eq!(queue.next().await, "b", "`a` is being worked on");
        queue.done(&key);
        assert_eq!(queue.next().await, "a");
    }

    #[test]
    fn the_earlier_of_two_delays_counts() {
        let queue = Queue::<String>::default();
        let start = Instant::now();
        queue.add_after("a".to_owned(), Duration::from_secs(60));
        queue.add_after("a".to_owned(), Duration::from_secs(5));
        queue.add_after("a".to_owned(), Duration::from_secs(10));
        let mut state = queue.state();
        state.ripen(start + Duration::from_secs(4));
        assert!(state.waiting.is_empty());
        state.ripen(start + Duration::from_secs(9));
        assert_eq!(state.waiting, ["a"]);
        assert!(state.later.is_empty());
    }

    #[test]
    fn failures_are_retried_more_and_more_slowly() {
        let queue = Queue::<String>::default();
        let delays: Vec<Duration> = (0..20).map(|_| queue.failed("a".to_owned())).collect();
        assert!(delays.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(delays.last(), Some(&BACKOFF.1));
    }
}
