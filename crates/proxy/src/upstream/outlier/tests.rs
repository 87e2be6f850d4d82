use envoy::TypeUrl;

use super::*;
use crate::Snapshot;
use crate::tests::accept;

/// Endpoints under watch, with a clock and dice that only the test moves.
struct Watch {
    detection: OutlierDetection,
    stats: OutlierStats,
    records: Vec<Arc<HostRecord>>,
    begin: Instant,
    elapsed: Duration,
}

const BAD_GATEWAY: Outcome = Outcome::Response(StatusCode::BAD_GATEWAY);
const INTERNAL: Outcome = Outcome::Response(StatusCode::INTERNAL_SERVER_ERROR);
const OK: Outcome = Outcome::Response(StatusCode::OK);

impl Watch {
    fn new(hosts: usize, config: &str) -> Watch {
        let yaml = format!("name: c\noutlier_detection: {{{config}}}\n");
        let snapshot = accept(&Snapshot::default(), TypeUrl::Cluster, &yaml);
        Watch {
            detection: snapshot.cluster("c").unwrap().outlier_detection.clone().unwrap(),
            stats: OutlierStats::default(),
            records: (0..hosts).map(|_| Arc::default()).collect(),
            begin: Instant::now(),
            elapsed: Duration::ZERO,
        }
    }

    fn detector(&self) -> Detector<'_> {
        let now = Now { time: self.begin + self.elapsed, random: || 0 };
        Detector { detection: &self.detection, stats: &self.stats, records: &self.records, now }
    }

    fn note(&self, host: usize, outcomes: &[Outcome]) -> &Watch {
        for outcome in outcomes {
            let causes = self.records[host].monitor.note(&self.detection, *outcome);
            self.detector().act(&self.records[host], causes);
        }
        self
    }

    /// Time passes, and then everything is looked over.
    fn after(&mut self, seconds: u64) -> &Watch {
        self.elapsed += Duration::from_secs(seconds);
        self.detector().look_over();
        self
    }

    /// Which endpoints are out.
    fn out(&self) -> Vec<usize> {
        (0..self.records.len()).filter(|host| self.records[*host].is_ejected()).collect()
    }
}

#[test]
fn failures_in_a_row_eject() {
    let watch = Watch::new(4, "consecutive_5xx: 3, max_ejection_percent: 100");
    assert!(watch.note(0, &[INTERNAL, INTERNAL, OK, INTERNAL, INTERNAL]).out().is_empty());
    assert_eq!(watch.note(0, &[INTERNAL]).out(), [0]);
    assert_eq!(watch.note(1, &[Outcome::Failed, Outcome::TimedOut, BAD_GATEWAY]).out(), [0, 1]);
    assert_eq!((watch.stats.detected_consecutive_5xx.get(), watch.stats.enforced_consecutive_5xx.get()), (2, 2));
    assert_eq!((watch.stats.ejections_active.get(), watch.stats.ejections_enforced_total.get()), (2, 2));
    // A connection alone says nothing about the requests on it.
    assert_eq!(watch.note(2, &[INTERNAL, INTERNAL, Outcome::Connected, INTERNAL]).out(), [0, 1, 2]);
    // But it is all that is known of one that is passed on.
    assert_eq!(watch.note(3, &[Outcome::Failed, Outcome::Failed, Outcome::Carried, Outcome::Failed]).out(), [0, 1, 2]);
}

#[test]
fn an_answer_that_no_gateway_gives_breaks_the_row_of_gateway_failures() {
    let config = "consecutive_5xx: 100, consecutive_gateway_failure: 2, enforcing_consecutive_gateway_failure: 100, \
                  max_ejection_percent: 100";
    let watch = Watch::new(2, config);
    assert!(watch.note(0, &[BAD_GATEWAY, INTERNAL, BAD_GATEWAY]).out().is_empty());
    assert_eq!(watch.note(0, &[Outcome::Failed]).out(), [0]);
    assert_eq!(watch.stats.enforced_consecutive_gateway_failure.get(), 1);
}

#[test]
fn what_is_not_enforced_is_counted() {
    let config = "consecutive_5xx: 2, enforcing_consecutive_5xx: 0, consecutive_gateway_failure: 2, \
                  max_ejection_percent: 100";
    let watch = Watch::new(1, config);
    assert!(watch.note(0, &[BAD_GATEWAY; 6]).out().is_empty());
    let stats = &watch.stats;
    assert_eq!((stats.detected_consecutive_5xx.get(), stats.detected_consecutive_gateway_failure.get()), (3, 3));
    assert_eq!(stats.ejections_enforced_total.get(), 0);
}

#[test]
fn failures_to_connect_are_told_apart_if_asked_for() {
    let config = "split_external_local_origin_errors: true, consecutive_5xx: 2, consecutive_local_origin_failure: 3, \
                  max_ejection_percent: 100";
    let watch = Watch::new(3, config);
    assert!(watch.note(0, &[Outcome::Failed, Outcome::TimedOut, INTERNAL, OK]).out().is_empty());
    assert_eq!(watch.note(0, &[Outcome::Failed]).out(), [0]);
    assert_eq!(watch.note(1, &[INTERNAL, Outcome::Connected, INTERNAL]).out(), [0, 1]);
    assert_eq!(watch.note(2, &[Outcome::Failed, Outcome::Failed, Outcome::Connected, Outcome::Failed]).out(), [0, 1]);
    assert_eq!(watch.stats.enforced_consecutive_local_origin_failure.get(), 1);
}

#[test]
fn the_nth_ejection_in_a_row_lasts_n_times_as_long() {
    let config = "consecutive_5xx: 1, base_ejection_time: 30s, max_ejection_time: 75s, max_ejection_percent: 100";
    let watch = &mut Watch::new(1, config);
    let lasts = |watch: &mut Watch| {
        watch.note(0, &[INTERNAL]);
        let mut seconds = 0;
        while watch.records[0].is_ejected() {
            seconds += 1;
            watch.elapsed += Duration::from_secs(1);
            let record = &watch.records[0];
            if record.monitor.is_over(&watch.detection, watch.begin + watch.elapsed) {
                watch.detector().uneject(record);
            }
        }
        seconds
    };
    let durations: Vec<u64> = (0..5).map(|_| lasts(watch)).collect();
    assert_eq!(durations, [30, 60, 75, 75, 75]);
    // Each interval in rotation takes one back.
    for _ in 0..3 {
        watch.after(10);
    }
    assert_eq!(lasts(watch), 60);
}

#[test]
fn only_so_many_may_be_out_at_once() {
    let watch = Watch::new(10, "consecutive_5xx: 1, max_ejection_percent: 25");
    for host in 0..10 {
        watch.note(host, &[INTERNAL]);
    }
    assert_eq!(watch.out(), [0, 1]);
    assert_eq!(watch.stats.ejections_overflow.get(), 8);
    let watch = Watch::new(2, "consecutive_5xx: 1, max_ejection_percent: 0");
    assert!(watch.note(0, &[INTERNAL]).out().is_empty());
    let watch = Watch::new(2, "consecutive_5xx: 1, max_ejection_percent: 0, always_eject_one_host: true");
    for host in 0..2 {
        watch.note(host, &[INTERNAL]);
    }
    assert_eq!(watch.out(), [0]);
}

#[test]
fn an_endpoint_that_does_worse_than_the_others_is_ejected() {
    let config = "consecutive_5xx: 0, success_rate_request_volume: 10, max_ejection_percent: 100";
    let mut watch = Watch::new(5, config);
    let with = |failures: usize| [vec![INTERNAL; failures], vec![OK; 10 - failures]].concat();
    // Rates of 50, 100, 100, 100 and 100 make a mean of 90 and a deviation of 20: 52 is the threshold.
    watch.note(0, &with(5));
    for host in 1..5 {
        watch.note(host, &with(0));
    }
    assert_eq!(watch.after(10).out(), [0]);
    assert_eq!(watch.stats.enforced_success_rate.get(), 1);
    // Another interval begins from zero, and one that is out is not compared.
    assert_eq!(watch.after(10).out(), [0]);
    // With too few requests, or too few endpoints, there is nothing to compare.
    for (hosts, volume) in [(5, 9), (4, 10)] {
        let mut watch = Watch::new(hosts, config);
        watch.note(0, &vec![INTERNAL; volume]);
        for host in 1..hosts {
            watch.note(host, &vec![OK; volume]);
        }
        assert!(watch.after(10).out().is_empty());
    }
}

#[test]
fn an_endpoint_that_fails_too_large_a_part_is_ejected() {
    let config = "consecutive_5xx: 0, enforcing_success_rate: 0, enforcing_failure_percentage: 100, \
                  failure_percentage_threshold: 40, failure_percentage_request_volume: 5, \
                  failure_percentage_minimum_hosts: 1, max_ejection_percent: 100";
    let mut watch = Watch::new(2, config);
    watch.note(0, &[INTERNAL, INTERNAL, OK, OK, OK]).note(1, &[INTERNAL, OK, OK, OK, OK]);
    assert_eq!(watch.after(10).out(), [0]);
    assert_eq!(watch.stats.enforced_failure_percentage.get(), 1);
}

#[test]
fn chance_makes_an_ejection_longer() {
    let config = "consecutive_5xx: 1, base_ejection_time: 30s, max_ejection_time_jitter: 10s, \
                  max_ejection_percent: 100";
    let mut watch = Watch::new(1, config);
    let causes = watch.records[0].monitor.note(&watch.detection, INTERNAL);
    let detector = watch.detector();
    let unlucky = Detector { now: Now { random: || 7_000, ..detector.now }, ..detector };
    // The dice say 0 of 100, and 7,000 of 10,001 milliseconds.
    unlucky.act(&watch.records[0], causes);
    assert_eq!(watch.after(36).out(), [0]);
    assert!(watch.after(1).out().is_empty());
}
