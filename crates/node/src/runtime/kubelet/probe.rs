//! Startup, liveness and readiness probes: a task for each, for as long as the container runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Probe};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::action::Target;
use super::event::{Kind, Recorder};

/// While a container comes up, it is probed more often than it asks for, so that a quick one is not kept waiting. These
/// extra probes can only succeed: their failures neither count nor are told.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Startup,
    Liveness,
    Readiness,
}

impl Which {
    fn title(self) -> &'static str {
        match self {
            Which::Startup => "Startup",
            Which::Liveness => "Liveness",
            Which::Readiness => "Readiness",
        }
    }

    /// In the middle of a sentence.
    pub(super) fn name(self) -> &'static str {
        match self {
            Which::Startup => "startup",
            Which::Liveness => "liveness",
            Which::Readiness => "readiness",
        }
    }
}

/// What the probes have found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) started: bool,
    pub(super) ready: bool,
    /// The probe because of which the container must be restarted, and the grace period that the probe sets.
    pub(super) unhealthy: Option<(Which, Option<i64>)>,
}

/// The probes of one running container; they end when this is dropped.
pub(super) struct Probes {
    health: Arc<Mutex<Health>>,
    _tasks: JoinSet<()>,
}

/// What a probe's task needs.
#[derive(Clone)]
struct Prober {
    target: Target,
    pod: Arc<Pod>,
    events: Recorder,
    health: Arc<Mutex<Health>>,
    /// Tells the pod's worker that the health has changed.
    wake: Arc<Notify>,
    started: watch::Sender<bool>,
}

impl Probes {
    /// Starts the probes of a container that has been running for `age`. One that was found running again is as healthy
    /// as it was `published` to be, until a probe says otherwise: a cluster process that comes back takes no pod out of
    /// its services.
    pub(super) fn start(
        target: Target,
        pod: Arc<Pod>,
        events: Recorder,
        wake: Arc<Notify>,
        age: Duration,
        published: Option<&ContainerStatus>,
    ) -> Probes {
        let container = target.container.clone();
        let health = Health {
            started: container.startup_probe.is_none() || published.is_some_and(|p| p.started == Some(true)),
            ready: container.readiness_probe.is_none() || published.is_some_and(|p| p.ready),
            unhealthy: None,
        };
        let startup_probe = container.startup_probe.as_ref().filter(|_| !health.started);
        let (started, _) = watch::channel(health.started);
        let health = Arc::new(Mutex::new(health));
        let prober = Prober { target, pod, events, health: health.clone(), wake, started };
        let mut tasks = JoinSet::new();
        let all = [
            (Which::Startup, startup_probe),
            (Which::Liveness, container.liveness_probe.as_ref()),
            (Which::Readiness, container.readiness_probe.as_ref()),
        ];
        for (which, probe) in all {
            if let Some(probe) = probe {
                tasks.spawn(prober.clone().run(which, probe.clone(), age));
            }
        }
        Probes { health, _tasks: tasks }
    }

    pub(super) fn health(&self) -> Health {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default))
}

fn threshold(value: Option<i32>, default: u32) -> u32 {
    value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
}

impl Prober {
    async fn run(self, which: Which, probe: Probe, age: Duration) {
        if which != Which::Startup {
            // The sender lives as long as any probe's task, this one included.
            let _ = self.started.subscribe().wait_for(|started| *started).await;
        }
        let delay = Duration::from_secs(u64::try_from(probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0));
        tokio::time::sleep(delay.saturating_sub(age)).await;
        let period = seconds(probe.period_seconds, 10);
        let mut eager = (which != Which::Liveness).then_some(FIRST_RETRY).filter(|retry| *retry < period);
        let mut due = Instant::now();
        let (mut successes, mut failures) = (0, 0);
        loop {
            let result = self.check(&probe).await;
            let on_time = Instant::now() >= due;
            match result {
                Ok(()) => {
                    (successes, failures) = (successes + 1, 0);
                    eager = None;
                    if successes >= threshold(probe.success_threshold, 1) && self.succeed(which) {
                        return;
                    }
                }
                Err(_) if !on_time => {}
                Err(why) => {
                    (successes, failures) = (0, failures + 1);
                    // The very first failure of a container that is coming up is not worth a word.
                    if eager.is_none() {
                        self.tell(which, &why);
                    }
                    if failures >= threshold(probe.failure_threshold, 3) && self.fail(which, &probe) {
                        return;
                    }
                }
            }
            if on_time {
                due += period;
            }
            let next = match eager {
                Some(retry) if Instant::now() + retry < due => {
                    eager = Some(retry * 2);
                    Instant::now() + retry
                }
                _ => {
                    eager = None;
                    due
                }
            };
            tokio::time::sleep_until(next).await;
        }
    }

    async fn check(&self, probe: &Probe) -> Result<(), String> {
        let target = &self.target;
        let limit = seconds(probe.timeout_seconds, 1);
        let action = async {
            if let Some(exec) = &probe.exec {
                target.exec(exec.command.as_deref().unwrap_or_default()).await.map(drop)
            } else if let Some(http) = &probe.http_get {
                target.http(http).await
            } else if let Some(tcp) = &probe.tcp_socket {
                target.tcp(tcp.host.as_deref(), &tcp.port).await
            } else if let Some(grpc) = &probe.grpc {
                target.grpc(grpc).await
            } else {
                Err("the probe has no handler".to_owned())
            }
        };
        let late = |_| Err(format!("probe timed out after {}s", limit.as_secs()));
        tokio::time::timeout(limit, action).await.unwrap_or_else(late)
    }

    /// Notes success; `true` when the probe has done its part.
    fn succeed(&self, which: Which) -> bool {
        self.change(|health| match which {
            Which::Startup => health.started = true,
            Which::Readiness => health.ready = true,
            Which::Liveness => {}
        });
        if which == Which::Startup {
            self.started.send_replace(true);
        }
        which == Which::Startup
    }

    /// Notes failure; `true` when the container will be restarted.
    fn fail(&self, which: Which, probe: &Probe) -> bool {
        self.change(|health| match which {
            Which::Readiness => health.ready = false,
            Which::Startup | Which::Liveness => {
                health.unhealthy = Some((which, probe.termination_grace_period_seconds));
            }
        });
        which != Which::Readiness
    }

    fn change(&self, change: impl FnOnce(&mut Health)) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *health;
        change(&mut health);
        if *health != before {
            self.wake.notify_one();
        }
    }

    fn tell(&self, which: Which, why: &str) {
        let name = &self.target.container.name;
        let message = format!("{} probe failed: {why}", which.title());
        self.events.pod(&self.pod, Some(name), Kind::Warning, "Unhealthy", message);
    }
}
