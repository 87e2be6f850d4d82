//! When a certificate is replaced: at half of its life or so, and at once when the mesh's roots change.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch;

use crate::certification::{Certification, Identity, Refused};
use crate::reason;

/// How soon to ask again after a failure, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Clocks may jump, so nobody sleeps for longer without a look at them.
const LOOK: Duration = Duration::from_secs(60);

/// Keeps `current` valid for ever; `roots` tells of new roots.
pub(crate) async fn run(
    certification: Certification,
    current: watch::Sender<Option<Arc<Identity>>>,
    mut roots: watch::Receiver<u64>,
) -> Infallible {
    loop {
        roots.mark_unchanged();
        let identity = obtain(&certification, &current).await;
        let due = renewal(identity.obtained, identity.expires, random());
        tracing::info!(id = %certification.id, valid_for = ?identity.expires.duration_since(identity.obtained).unwrap_or_default(), "the workload has a certificate");
        current.send_replace(Some(Arc::new(identity)));
        tokio::select! {
            () = until(due) => {}
            changed = roots.changed() => {
                if changed.is_err() {
                    until(due).await;
                }
                tracing::info!("the mesh's roots have changed");
            }
        }
    }
}

/// Asks until there is an answer. What there is already stays in use meanwhile.
async fn obtain(certification: &Certification, current: &watch::Sender<Option<Arc<Identity>>>) -> Identity {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(BACKOFF.0)
        .with_max_delay(BACKOFF.1)
        .with_jitter()
        .without_max_times();
    let mut delays = backoff.build();
    loop {
        let refused: Refused = match certification.obtain().await {
            Ok(identity) => return identity,
            Err(refused) => refused,
        };
        let delay = delays.next().unwrap_or(BACKOFF.1);
        let (why, delay_ms) = (reason(&refused), delay.as_millis());
        let expired = current.borrow().as_ref().is_some_and(|identity| identity.expires <= SystemTime::now());
        if expired {
            tracing::error!("the certificate has expired, and there is no other: {why}; trying again in {delay_ms} ms");
        } else {
            tracing::warn!("cannot get a certificate: {why}; trying again in {delay_ms} ms");
        }
        tokio::time::sleep(delay).await;
    }
}

/// The moment for the next certificate. `random`, from 0 to 1, keeps the pods of a cluster from asking all at once.
fn renewal(obtained: SystemTime, expires: SystemTime, random: f64) -> SystemTime {
    let life = expires.duration_since(obtained).unwrap_or_default();
    obtained + life.mul_f64(0.5 - 0.1 * random)
}

async fn until(due: SystemTime) {
    while let Ok(rest) = due.duration_since(SystemTime::now())
        && !rest.is_zero()
    {
        tokio::time::sleep(rest.min(LOOK)).await;
    }
}

fn random() -> f64 {
    let bits = RandomState::new().hash_one(()) >> 32;
    bits as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_replaced_well_before_it_ends() {
        let start = SystemTime::now();
        let day = Duration::from_secs(86_400);
        assert_eq!(renewal(start, start + day, 0.0), start + day / 2);
        assert_eq!(renewal(start, start + day, 1.0), start + day.mul_f64(0.4));
        assert_eq!(renewal(start, start - day, 0.5), start, "what has ended is replaced at once");
        assert!((0.0..=1.0).contains(&random()));
    }
}
