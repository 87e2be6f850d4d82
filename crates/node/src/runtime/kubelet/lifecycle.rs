//! Which containers of a pod are to be started, and when the pod is over. Pure: reads no clock and does nothing.

use jiff::{SignedDuration, Timestamp};

/// The first delay before a container is started again; doubled each time.
const FIRST_DELAY: SignedDuration = SignedDuration::from_secs(10);
const LONGEST_DELAY: SignedDuration = SignedDuration::from_mins(5);
/// A container that ran for so long starts with the first delay again.
const FORGIVEN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// `restartPolicy` of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    pub(super) fn parse(text: Option<&str>) -> RestartPolicy {
        match text {
            Some("OnFailure") => RestartPolicy::OnFailure,
            Some("Never") => RestartPolicy::Never,
            _ => RestartPolicy::Always,
        }
    }
}

/// What a container is in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: the next one starts when it has started.
    Sidecar,
    Main,
}

/// The latest attempt to run a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Never run in the pod's present sandbox.
    Absent,
    /// `started` says that its startup probe and its postStart hook are through.
    Running { started: bool },
    /// Ended with an exit code.
    Ended { code: i32 },
}

/// What the plan needs to know of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    pub(super) role: Role,
    pub(super) state: State,
    /// It must not be started before.
    pub(super) not_before: Option<Timestamp>,
}

/// How a pod ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeded,
    Failed,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Indices of the containers to start, in this order.
    pub(super) start: Vec<usize>,
    /// Indices of those that would be started if it were not too early.
    pub(super) waiting: Vec<usize>,
    pub(super) outcome: Option<Outcome>,
}

enum Want {
    Start,
    Nothing,
    Finished { failed: bool },
}

fn want(view: &View, policy: RestartPolicy) -> Want {
    let code = match view.state {
        State::Absent => return Want::Start,
        State::Running { .. } => return Want::Nothing,
        State::Ended { code } => code,
    };
    let policy = match (view.role, policy) {
        (Role::Sidecar, _) => RestartPolicy::Always,
        (Role::Init, RestartPolicy::Always) => RestartPolicy::OnFailure,
        (Role::Init | Role::Main, policy) => policy,
    };
    match policy {
        RestartPolicy::Always => Want::Start,
        RestartPolicy::OnFailure if code != 0 => Want::Start,
        RestartPolicy::OnFailure | RestartPolicy::Never => Want::Finished { failed: code != 0 },
    }
}

/// Whether a container that has ended will be started again.
pub(super) fn will_restart(view: &View, policy: RestartPolicy) -> bool {
    matches!(view.state, State::Ended { .. }) && matches!(want(view, policy), Want::Start)
}

/// Whether every init container has done its part.
pub(super) fn is_initialized(containers: &[View]) -> bool {
    let main_ran = containers.iter().any(|c| c.role == Role::Main && c.state != State::Absent);
    let through = |c: &View| match c.role {
        Role::Main => true,
        Role::Init => c.state == State::Ended { code: 0 },
        Role::Sidecar => c.state == State::Running { started: true },
    };
    main_ran || containers.iter().all(through)
}

/// Plans the next steps. Containers are in the order init containers, containers.
pub(super) fn plan(policy: RestartPolicy, containers: &[View], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let initialized = is_initialized(containers);
    for (index, view) in containers.iter().enumerate() {
        if view.role == Role::Init && initialized {
            continue;
        }
        match want(view, policy) {
            Want::Start if view.not_before.is_none_or(|time| time <= now) => plan.start.push(index),
            Want::Start => plan.waiting.push(index),
            Want::Finished { failed: true } if view.role == Role::Init => {
                plan.outcome = Some(Outcome::Failed);
                return Plan { start: Vec::new(), waiting: Vec::new(), ..plan };
            }
            Want::Nothing | Want::Finished { .. } => {}
        }
        let through = match view.role {
            Role::Main => true,
            Role::Init => view.state == State::Ended { code: 0 },
            Role::Sidecar => initialized || view.state == State::Running { started: true },
        };
        if !through {
            return plan;
        }
    }
    plan.outcome = outcome(policy, containers);
    if plan.outcome.is_some() { Plan { start: Vec::new(), waiting: Vec::new(), ..plan } } else { plan }
}

fn outcome(policy: RestartPolicy, containers: &[View]) -> Option<Outcome> {
    let mut result = Outcome::Succeeded;
    for view in containers.iter().filter(|c| c.role == Role::Main) {
        match want(view, policy) {
            Want::Finished { failed } if failed => result = Outcome::Failed,
            Want::Finished { .. } => {}
            Want::Start | Want::Nothing => return None,
        }
    }
    Some(result)
}

/// The delays between attempts to run a container that keeps ending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    /// Ends in a row without a long run between them.
    ends: u32,
}

impl Backoff {
    /// For a container that has ended so often already.
    pub(super) fn after(ends: u32) -> Backoff {
        Backoff { ends }
    }

    /// Notes an end and gives the delay after it; the first restart is at once.
    pub(super) fn next(&mut self, ran_for: SignedDuration) -> SignedDuration {
        if ran_for >= FORGIVEN_AFTER {
            self.ends = 0;
        }
        let delay = match self.ends {
            0 => SignedDuration::ZERO,
            ends => FIRST_DELAY.saturating_mul(1_i32 << (ends - 1).min(8)).min(LONGEST_DELAY),
        };
        self.ends = self.ends.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn view(role: Role, state: State) -> View {
        View { role, state, not_before: None }
    }

    #[test]
    fn init_containers_run_one_after_the_other_and_sidecars_stay() {
        let mut all = vec![
            view(Role::Init, State::Absent),
            view(Role::Sidecar, State::Absent),
            view(Role::Init, State::Absent),
            view(Role::Main, State::Absent),
            view(Role::Main, State::Absent),
        ];
        let mut start = |index: usize, state| {
            if let Some(view) = all.get_mut(index) {
                view.state = state;
            }
            plan(RestartPolicy::Always, &all, NOW).start
        };
        assert_eq!(start(9, State::Absent), [0]);
        assert_eq!(start(0, State::Running { started: true }), [0; 0]);
        assert_eq!(start(0, State::Ended { code: 1 }), [0]);
        assert_eq!(start(0, State::Ended { code: 0 }), [1]);
        assert_eq!(start(1, State::Running { started: false }), [0; 0]);
        assert_eq!(start(1, State::Running { started: true }), [2]);
        assert_eq!(start(2, State::Ended { code: 0 }), [3, 4]);
        assert_eq!(start(3, State::Running { started: true }), [4]);
        assert_eq!(start(4, State::Running { started: true }), [0; 0]);
        assert_eq!(start(1, State::Ended { code: 0 }), [1]);
        assert_eq!(start(4, State::Ended { code: 0 }), [1, 4]);
    }

    #[test]
    fn a_pod_is_over_when_no_container_will_run_again() {
        let over = |policy, codes: &[i32]| {
            let all: Vec<View> = codes.iter().map(|code| view(Role::Main, State::Ended { code: *code })).collect();
            plan(policy, &all, NOW).outcome
        };
        assert_eq!(over(RestartPolicy::Never, &[0, 0]), Some(Outcome::Succeeded));
        assert_eq!(over(RestartPolicy::Never, &[0, 3]), Some(Outcome::Failed));
        assert_eq!(over(RestartPolicy::OnFailure, &[0, 0]), Some(Outcome::Succeeded));
        assert_eq!(over(RestartPolicy::OnFailure, &[0, 3]), None);
        assert_eq!(over(RestartPolicy::Always, &[0, 0]), None);
        let failed_init = [view(Role::Init, State::Ended { code: 1 }), view(Role::Main, State::Absent)];
        assert_eq!(plan(RestartPolicy::Never, &failed_init, NOW).outcome, Some(Outcome::Failed));
    }

    #[test]
    fn a_container_in_back_off_waits() {
        let later = NOW + SignedDuration::from_secs(5);
        let all = [View { not_before: Some(later), ..view(Role::Main, State::Ended { code: 1 }) }];
        assert_eq!(plan(RestartPolicy::Always, &all, NOW).waiting, [0]);
        assert_eq!(plan(RestartPolicy::Always, &all, later).start, [0]);
    }

    #[test]
    fn delays_double_to_five_minutes_and_a_long_run_is_forgiven() {
        let mut backoff = Backoff::default();
        let delays: Vec<i64> = (0..8).map(|_| backoff.next(SignedDuration::ZERO).as_secs()).collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.next(SignedDuration::from_mins(11)).as_secs(), 0);
        assert_eq!(backoff.next(SignedDuration::ZERO).as_secs(), 10);
    }
}
