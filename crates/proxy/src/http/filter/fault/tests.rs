use http::Method;

use super::*;
use crate::config::http::HttpFilter;
use crate::http::filter::tests::{filter, head, refused};

fn fault(config: &str) -> std::sync::Arc<Fault> {
    let HttpFilter::Fault(fault) = filter("fault.v3.HTTPFault", &format!(", {config}")) else { panic!("{config}") };
    fault
}

fn inject(config: &str, headers: &[(&str, &str)], random: u64) -> Injection {
    fault(config).inject(&head(Method::GET, "/", headers), || random)
}

const DELAYED: &str = "delay: {fixed_delay: 7s, percentage: {numerator: 50}}";

#[test]
fn a_part_of_the_requests_is_delayed_or_aborted() {
    assert_eq!(inject(DELAYED, &[], 49).delay, Some(Duration::from_secs(7)));
    assert!(inject(DELAYED, &[], 50).is_empty());
    let abort = "abort: {http_status: 500, percentage: {numerator: 5, denominator: TEN_THOUSAND}}";
    assert_eq!(inject(abort, &[], 4).abort, Some(Abort::Http(StatusCode::INTERNAL_SERVER_ERROR)));
    assert!(inject(abort, &[], 5).is_empty());
    // Without a percentage it is nobody.
    assert!(inject("abort: {http_status: 500}", &[], 0).is_empty());
}

#[test]
fn other_requests_are_left_alone() {
    let config = format!("{DELAYED}, headers: [{{name: end-user, string_match: {{exact: jason}}}}]");
    assert!(inject(&config, &[], 0).is_empty());
    assert!(!inject(&config, &[("end-user", "jason")], 0).is_empty());
}

#[test]
fn requests_may_ask_for_faults_but_not_for_more_than_is_allowed() {
    let config = "delay: {header_delay: {}, percentage: {numerator: 50}}, abort: {header_abort: {}, percentage: \
                  {numerator: 100}}";
    assert!(inject(config, &[], 0).is_empty());
    let wanted = [("x-envoy-fault-delay-request", "250"), ("x-envoy-fault-abort-request", "429")];
    let both =
        Injection { delay: Some(Duration::from_millis(250)), abort: Some(Abort::Http(StatusCode::TOO_MANY_REQUESTS)) };
    assert_eq!(inject(config, &wanted, 49), both);
    assert_eq!(inject(config, &wanted, 50).delay, None);
    let seldom = [wanted[0], ("x-envoy-fault-delay-request-percentage", "10")];
    assert_eq!(inject(config, &seldom, 9).delay, both.delay);
    assert_eq!(inject(config, &seldom, 10).delay, None);
    let often = [wanted[0], ("x-envoy-fault-delay-request-percentage", "100")];
    assert_eq!(inject(config, &often, 50).delay, None);
    assert_eq!(inject(config, &[("x-envoy-fault-abort-grpc-request", "14")], 0).abort, Some(Abort::Grpc(14)));
    assert_eq!(inject(config, &[("x-envoy-fault-abort-request", "999")], 0).abort, None);
}

#[test]
fn an_abort_is_an_answer_in_envoys_words() {
    let reply = |abort| Injection { delay: None, abort: Some(abort) }.reply().unwrap();
    let http = reply(Abort::Http(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(
        (http.status.as_u16(), &*http.body, &*http.details),
        (503, &b"fault filter abort"[..], "fault_filter_abort")
    );
    assert!(http.flags.contains(Flag::FaultInjected) && http.grpc_status.is_none());
    let grpc = reply(Abort::Grpc(14));
    assert_eq!((grpc.status.as_u16(), grpc.grpc_status), (200, Some(14)));
}

#[test]
fn only_so_many_suffer_at_once() {
    let most = fault(&format!("{DELAYED}, max_active_faults: 1")).most.clone();
    let most = most.as_ref();
    // Each worker has statistics of its own.
    let (stats, other) = (Arc::new(FaultStats::default()), Arc::new(FaultStats::default()));
    let first = Suffers::new(&other, most).unwrap();
    assert!(Suffers::new(&stats, most).is_none());
    assert!(Suffers::new(&stats, None).is_some());
    assert_eq!((other.active_faults.get(), stats.faults_overflow.get()), (1, 1));
    drop(first);
    assert!(Suffers::new(&stats, most).is_some());
}

#[test]
fn what_is_not_supported_is_refused() {
    for (config, expected) in [
        ("downstream_nodes: [a]", "downstream_nodes: is not supported"),
        ("abort: {http_status: 100}", "abort.http_status: must be from 200 to 599"),
        ("delay: {fixed_delay: 0s}", "delay.fixed_delay: must be more than zero"),
        ("delay: {}", "delay: is required"),
    ] {
        assert_eq!(refused("fault.v3.HTTPFault", &format!(", {config}")), expected);
    }
}
