use std::collections::BTreeMap;
use std::time::Duration;

use envoy::TypeUrl;

use super::*;
use crate::Snapshot;
use crate::metrics::Metrics;
use crate::tests::accept;
use crate::upstream::{Carried, HostRecord, lock};

/// A cluster whose endpoints have these weights, the first with port 1.
fn cluster(rest: &str, weights: &[u32]) -> Arc<Upstream> {
    let endpoint = |(weight, port): (&u32, usize)| {
        format!(
            "{{endpoint: {{address: {{socket_address: {{address: 10.0.0.1, port_value: {port}}}}}}}, \
             load_balancing_weight: {weight}}}"
        )
    };
    let endpoints: Vec<String> = weights.iter().zip(1..).map(endpoint).collect();
    let endpoints = endpoints.join(", ");
    let yaml = format!(
        "name: c\n{rest}\nload_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: [{endpoints}]}}]}}\n"
    );
    let snapshot = accept(&Snapshot::default(), TypeUrl::Cluster, &yaml);
    Upstream::next(None, snapshot.cluster("c").unwrap(), &snapshot, &Metrics::default())
}

fn port(upstream: &Upstream, context: &LbContext<'_>) -> u16 {
    upstream.choose(context).unwrap().host.address.port()
}

/// How often each endpoint is chosen, by port.
fn choices(upstream: &Upstream, times: usize) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        *counts.entry(port(upstream, &LbContext::default())).or_default() += 1;
    }
    counts
}

fn close(counts: &BTreeMap<u16, usize>, expected: &[usize], tolerance: usize) {
    let counts: Vec<usize> = counts.values().copied().collect();
    assert_eq!(counts.len(), expected.len(), "{counts:?}");
    let off = counts.iter().zip(expected).any(|(count, expected)| count.abs_diff(*expected) > tolerance);
    assert!(!off, "{counts:?} is not near {expected:?}");
}

#[test]
fn turns_are_taken_by_weight_and_heavy_endpoints_do_not_come_in_a_row() {
    close(&choices(&cluster("", &[1, 1, 1]), 300), &[100, 100, 100], 0);
    let upstream = cluster("", &[1, 1, 8]);
    close(&choices(&upstream, 1000), &[100, 100, 800], 8);
    let upstream = cluster("", &[3, 3]);
    close(&choices(&upstream, 10), &[5, 5], 0);
    let upstream = cluster("", &[1, 2]);
    let chosen: Vec<u16> = (0..99).map(|_| port(&upstream, &LbContext::default())).collect();
    assert!(chosen.windows(5).all(|five| five.contains(&1)), "{chosen:?}");
}

#[test]
fn chance_disregards_weights() {
    close(&choices(&cluster("lb_policy: RANDOM", &[1, 9]), 10_000), &[5000, 5000], 400);
}

#[test]
fn the_less_busy_of_two_is_taken() {
    let upstream = cluster("lb_policy: LEAST_REQUEST\nleast_request_lb_config: {choice_count: 2}", &[1, 1]);
    let busy = upstream.choose(&LbContext::default()).unwrap().host;
    let carried = Carried::new(&busy);
    // It is taken only when both of the drawn are it.
    let chosen = choices(&upstream, 10_000);
    let times = chosen[&busy.address.port()];
    assert!((2100..2900).contains(&times), "{chosen:?}");
    drop(carried);
    close(&choices(&upstream, 10_000), &[5000, 5000], 400);
}

#[test]
fn a_weight_counts_less_the_busier_its_endpoint_is() {
    for (config, busy) in [("{}", [5000, 5000]), ("{active_request_bias: {default_value: 0}}", [7500, 2500])] {
        let upstream = cluster(&format!("lb_policy: LEAST_REQUEST\nleast_request_lb_config: {config}"), &[3, 1]);
        close(&choices(&upstream, 10_000), &[7500, 2500], 400);
        let heavy = upstream.hosts()[0].clone();
        let _carried = [Carried::new(&heavy), Carried::new(&heavy)];
        // With two requests and another one, the first counts a third of its weight.
        close(&choices(&upstream, 10_000), &busy, 400);
    }
}

#[test]
fn a_hash_leads_to_one_endpoint_and_a_retry_elsewhere() {
    for policy in ["RING_HASH", "MAGLEV"] {
        let upstream = cluster(&format!("lb_policy: {policy}"), &[1, 1, 1, 1]);
        let mut seen = std::collections::BTreeSet::new();
        for hash in (0..64_u64).map(|n| n.wrapping_mul(GOLDEN)) {
            let context = LbContext { hash: Some(hash), ..LbContext::default() };
            let first = upstream.choose(&context).unwrap().host.address;
            assert_eq!(upstream.choose(&context).unwrap().host.address, first);
            seen.insert(first);
            let tried = [first];
            let again = LbContext { tried: &tried, reselections: 100, ..context };
            assert_ne!(upstream.choose(&again).unwrap().host.address, first, "{policy}");
        }
        assert_eq!(seen.len(), 4, "{policy}");
    }
}

#[test]
fn what_was_tried_is_avoided_as_often_as_said() {
    let upstream = cluster("", &[1, 1]);
    let tried = [upstream.hosts()[0].address];
    let context = LbContext { tried: &tried, reselections: 1, ..LbContext::default() };
    assert!((0..10).all(|_| port(&upstream, &context) == 2));
    // If all were tried, one of them is taken.
    let tried: Vec<SocketAddr> = upstream.hosts().iter().map(|h| h.address).collect();
    let context = LbContext { tried: &tried, reselections: 5, ..LbContext::default() };
    assert!(upstream.choose(&context).is_some());
}

#[test]
fn without_endpoints_none_is_chosen() {
    for policy in ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"] {
        let upstream = cluster(&format!("lb_policy: {policy}"), &[]);
        let context = LbContext { reselections: 3, ..LbContext::default() };
        assert!(upstream.choose(&context).is_none(), "{policy}");
    }
}

#[test]
fn a_share_grows_as_time_goes_by() {
    let slow = SlowStart { window: Duration::from_secs(10), aggression: 1.0, minimum: 0.1 };
    let parts = [0, 500, 5_000, 10_000, 60_000].map(|ms| slow.part(Duration::from_millis(ms)));
    assert_eq!(parts, [0.1, 0.1, 0.5, 1.0, 1.0]);
    let eager = SlowStart { aggression: 2.0, ..slow };
    assert_eq!(eager.part(Duration::from_millis(2_500)), 0.5);
}

#[test]
fn a_new_endpoint_gets_little() {
    let Some(past) = Instant::now().checked_sub(Duration::from_secs(2000)) else {
        return testkit::skip("the machine has only just begun to run");
    };
    let config = "{slow_start_config: {slow_start_window: 1000s}}";
    for policy in ["ROUND_ROBIN\nround_robin", "LEAST_REQUEST\nleast_request"] {
        let upstream = cluster(&format!("lb_policy: {policy}_lb_config: {config}"), &[1, 1]);
        let assignment = upstream.members.load().assignment.clone();
        let old = HostRecord { since: past.into(), ..HostRecord::default() };
        lock(&upstream.usage.records).insert(upstream.hosts()[0].address, Arc::new(old));
        upstream.replace(assignment);
        close(&choices(&upstream, 11_000), &[10_000, 1000], 300);
    }
}
