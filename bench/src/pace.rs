//! Load at a fixed rate, and as much load as is answered.
//!
//! At a fixed rate, what is asked when does not depend on the answers: each time is counted from the moment at which the
//! request was due, so that a proxy which stands still is not spared the requests that would have come meanwhile.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use futures::future::join_all;
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{timeout, timeout_at};

use crate::proxy::client::{Client, Lane};

/// Requests that are due within one of these are due at its end. The runtime's own clock goes by milliseconds.
const TICK: Duration = Duration::from_micros(100);
/// How long answers may take after the last request was due.
const DRAIN: Duration = Duration::from_secs(10);

/// What came of some load.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How long each took that succeeded, sorted.
    pub(crate) times: Vec<Duration>,
    pub(crate) errors: u64,
    /// What the first that failed has failed with.
    pub(crate) complaint: Option<String>,
    /// From the first that was due to the last that was answered.
    pub(crate) wall: Duration,
}

impl Outcome {
    /// How many succeeded in a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.wall.as_secs_f64()
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.complaint.get_or_insert_with(|| format!("{error:#}"));
    }

    fn sum(of: Vec<Outcome>, wall: Duration) -> Outcome {
        let mut sum = Outcome { wall, ..Outcome::default() };
        for one in of {
            sum.times.extend(one.times);
            sum.errors += one.errors;
            sum.complaint = sum.complaint.or(one.complaint);
        }
        sum.times.sort_unstable();
        sum
    }
}

/// Asks `rate` times a second for so long, in turn on each of the lanes.
pub(crate) async fn at_rate(client: &Client, lanes: &mut [Lane], rate: f64, time: Duration) -> anyhow::Result<Outcome> {
    let (senders, receivers): (Vec<_>, Vec<_>) = lanes.iter().map(|_| unbounded_channel()).unzip();
    let begin = Instant::now();
    let end = (begin + time + DRAIN).into();
    let answering = lanes.iter_mut().zip(receivers).map(|(lane, due)| follow(client, lane, due, end));
    let (scheduled, outcomes) = tokio::join!(schedule(senders, rate, begin, time), join_all(answering));
    scheduled?;
    Ok(Outcome::sum(outcomes, begin.elapsed()))
}

/// Says to each lane when its next request is due.
async fn schedule(
    lanes: Vec<UnboundedSender<Instant>>,
    rate: f64,
    begin: Instant,
    time: Duration,
) -> anyhow::Result<()> {
    let mut clock = Clock::start()?;
    let total = (rate * time.as_secs_f64()) as usize;
    let mut said = 0;
    let mut ticks = 0;
    while said < total {
        ticks += clock.next().await?;
        let now = TICK * u32::try_from(ticks).context("the measurement takes for ever")?;
        let due = total.min((rate * now.as_secs_f64()) as usize);
        while said < due {
            // The tick at which it was due, also when the clock was read late.
            let tick = ((said + 1) as f64 / rate / TICK.as_secs_f64()).ceil();
            lanes[said % lanes.len()].send(begin + TICK.mul_f64(tick)).context("a lane has ended")?;
            said += 1;
        }
    }
    Ok(())
}

/// Asks when it is due, until `end`: what is not answered then has failed.
async fn follow(
    client: &Client,
    lane: &mut Lane,
    mut due: UnboundedReceiver<Instant>,
    end: tokio::time::Instant,
) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some(due) = due.recv().await {
        match timeout_at(end, client.ask(lane)).await {
            Ok(Ok(())) => outcome.times.push(due.elapsed()),
            Ok(Err(error)) => outcome.failed(&error),
            Err(_) => outcome.failed(&anyhow!("there is no answer after {DRAIN:?}")),
        }
    }
    outcome
}

/// Asks again as soon as there is an answer, on each of the lanes, for so long.
pub(crate) async fn at_most(client: &Client, lanes: &mut [Lane], time: Duration) -> anyhow::Result<Outcome> {
    let begin = Instant::now();
    let asking = lanes.iter_mut().map(async |lane| {
        let mut outcome = Outcome::default();
        while begin.elapsed() < time && outcome.errors < 100 {
            let asked = Instant::now();
            match client.ask(lane).await {
                Ok(()) => outcome.times.push(asked.elapsed()),
                Err(error) => outcome.failed(&error),
            }
        }
        outcome
    });
    let outcomes = timeout(time + DRAIN, join_all(asking)).await.context("answers do not come")?;
    let outcome = Outcome::sum(outcomes, begin.elapsed());
    let complaint = || outcome.complaint.clone().unwrap_or_default();
    ensure!(!outcome.times.is_empty(), "nothing was answered: {}", complaint());
    Ok(outcome)
}

/// A clock with ticks of [`TICK`].
struct Clock(Receiver);

impl Clock {
    fn start() -> anyhow::Result<Clock> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        timer.set(Expiration::Interval(TimeSpec::from_duration(TICK)), TimerSetTimeFlags::empty())?;
        // A timer is read like a pipe, and this is what the runtime has for descriptors that somebody owns.
        Ok(Clock(Receiver::from_owned_fd_unchecked(OwnedFd::from(timer))?))
    }

    /// Waits for the next tick; says how many there were.
    async fn next(&mut self) -> io::Result<u64> {
        let mut count = [0; 8];
        self.0.read_exact(&mut count).await?;
        Ok(u64::from_ne_bytes(count))
    }
}
