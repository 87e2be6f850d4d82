//! Waiting for a state, for a bounded time. Nothing else in the tests may sleep.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(20);

/// Looks every few milliseconds until there is something to return.
///
/// # Panics
/// When `limit` is over; the message says `what` was waited for.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    look_for(limit, look).unwrap_or_else(|| panic!("waited {limit:?} in vain: {what}"))
}

/// [`until`], for callers that have more to say when `limit` is over: then there is nothing.
pub fn look_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        let found = look();
        if found.is_some() || Instant::now() > end {
            return found;
        }
        std::thread::sleep(PAUSE);
    }
}

/// [`until`], for asynchronous tests.
///
/// # Panics
/// When `limit` is over; the message says `what` was waited for.
pub async fn until_async<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "waited {limit:?} in vain: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_comes_is_returned() {
        let mut left = 3;
        let found = until("the third look", Duration::from_secs(5), || {
            left -= 1;
            (left == 0).then_some("here")
        });
        assert_eq!(found, "here");
    }

    #[test]
    #[should_panic(expected = "in vain: what never comes")]
    fn a_state_that_does_not_come_ends_the_test() {
        until::<()>("what never comes", Duration::from_millis(1), || None);
    }
}
