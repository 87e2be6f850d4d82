//! Answers in a row.

use super::*;
use crate::config::{Intervals, Question};

const SECOND: Duration = Duration::from_secs(1);

fn check() -> HealthCheck {
    HealthCheck {
        timeout: SECOND,
        initial_jitter: Duration::ZERO,
        jitter: Duration::ZERO,
        jitter_percent: 0,
        unhealthy_threshold: 3,
        healthy_threshold: 2,
        port: None,
        reuse: true,
        intervals: Intervals {
            healthy: SECOND,
            healthy_edge: 2 * SECOND,
            unhealthy: 3 * SECOND,
            unhealthy_edge: 4 * SECOND,
            no_traffic: 5 * SECOND,
            no_traffic_healthy: 6 * SECOND,
        },
        question: Question::Tcp { send: Box::default(), receive: Box::default() },
    }
}

fn turns(session: &mut Session, findings: &[Finding]) -> Vec<Turn> {
    findings.iter().map(|finding| session.note(&check(), *finding)).collect()
}

#[test]
fn the_first_good_answer_is_enough_and_later_ones_are_counted() {
    use Finding::{Bad, Degraded, Good, Unreachable, Worse};
    use Turn::{Changed, Pending, Unchanged};
    let mut session = Session::new(Verdict::Unknown);
    assert_eq!(turns(&mut session, &[Good, Good, Degraded]), [Changed, Unchanged, Unchanged]);
    // What comes between failures begins them anew.
    assert_eq!(turns(&mut session, &[Bad, Unreachable, Good]), [Pending, Pending, Unchanged]);
    assert_eq!(turns(&mut session, &[Bad, Unreachable, Bad, Bad]), [Pending, Pending, Changed, Unchanged]);
    assert_eq!(turns(&mut session, &[Good, Bad, Good, Good]), [Pending, Unchanged, Pending, Changed]);
    assert_eq!(turns(&mut session, &[Worse, Good, Good]), [Changed, Pending, Changed]);
    // An endpoint that did not answer at first has to answer as often as any other.
    let mut session = Session::new(Verdict::Unknown);
    assert_eq!(turns(&mut session, &[Unreachable, Good, Good]), [Unchanged, Pending, Changed]);
    let mut session = Session::new(Verdict::Unhealthy);
    assert_eq!(turns(&mut session, &[Good, Good]), [Pending, Changed]);
}

#[test]
fn the_time_until_the_next_question_follows_from_the_answer() {
    let seconds = |good, turn, used| pause(&check(), good, turn, used, 0).as_secs();
    assert_eq!([true, false].map(|good| seconds(good, Turn::Unchanged, true)), [1, 3]);
    assert_eq!([true, false].map(|good| seconds(good, Turn::Changed, true)), [1, 3]);
    assert_eq!([true, false].map(|good| seconds(good, Turn::Pending, true)), [2, 4]);
    assert_eq!([true, false].map(|good| seconds(good, Turn::Unchanged, false)), [6, 5]);
    let jittered = HealthCheck { jitter: SECOND, jitter_percent: 50, ..check() };
    let longest = pause(&jittered, true, Turn::Unchanged, true, 999 << 32 | 499);
    assert_eq!(longest, Duration::from_millis(1000 + 999 + 499));
}
