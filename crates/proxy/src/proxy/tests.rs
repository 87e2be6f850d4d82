use std::time::{Duration, Instant, SystemTime};

use envoy::TypeUrl;
use envoy::TypeUrl::{Cluster, Endpoint, Listener};

use super::state::{State, sample};
use crate::Update;
use crate::metrics::Kind;
use crate::tests::{proxy, update};

const EDS: &str = "name: c\ntype: EDS\neds_cluster_config: {eds_config: {ads: {}}}\n";
const SECOND: Duration = Duration::from_secs(1);

fn none(type_url: TypeUrl) -> Update {
    Update { type_url, resources: Vec::new(), removed: Vec::new() }
}

fn apply(state: &mut State, update: Update, now: Instant) {
    assert_eq!(state.apply(update, now, SystemTime::UNIX_EPOCH), []);
}

#[test]
fn a_proxy_is_live_once_clusters_and_listeners_are_and_stays_so() {
    let (mut state, now) = (State::default(), Instant::now());
    assert_eq!(state.name(), "PRE_INITIALIZING");
    apply(&mut state, update(Cluster, EDS), now);
    apply(&mut state, none(Listener), now);
    assert_eq!(state.name(), "PRE_INITIALIZING");
    apply(&mut state, update(Endpoint, "cluster_name: c\n"), now);
    assert_eq!(state.name(), "LIVE");
    apply(&mut state, update(Cluster, &EDS.replace("name: c", "name: d")), now);
    assert_eq!(state.name(), "LIVE");
    state.fail(true);
    assert_eq!(state.name(), "DRAINING");
    state.fail(false);
    assert_eq!(state.name(), "LIVE");
    state.drain();
    state.fail(false);
    assert_eq!(state.name(), "DRAINING");
}

#[test]
fn each_resource_waits_for_its_endpoints_from_when_it_came() {
    let (mut state, start) = (State::default(), Instant::now());
    apply(&mut state, update(Cluster, EDS), start);
    apply(&mut state, update(Cluster, &EDS.replace("name: c", "name: d")), start + SECOND);
    assert_eq!(state.gives_up_at(2 * SECOND), Some(start + 2 * SECOND));
    assert!(!state.give_up(start + SECOND, 2 * SECOND));
    assert!(state.give_up(start + 2 * SECOND, 2 * SECOND));
    assert!(state.snapshot().cluster("c").is_some() && state.snapshot().cluster("d").is_none());
    assert_eq!(state.gives_up_at(2 * SECOND), Some(start + 3 * SECOND));
}

#[test]
fn a_new_version_waits_anew() {
    let (mut state, start) = (State::default(), Instant::now());
    apply(&mut state, update(Cluster, EDS), start);
    apply(&mut state, update(Cluster, &format!("{EDS}connect_timeout: 1s\n")), start + SECOND);
    assert_eq!(state.gives_up_at(SECOND), Some(start + 2 * SECOND));
}

#[test]
fn a_secret_is_waited_for_as_long_as_its_source_says() {
    let cluster = |name: &str, timeout: &str| {
        let source = format!("{{ads: {{}}, resource_api_version: V3{timeout}}}");
        let secret = format!("{{name: s, sds_config: {source}}}");
        let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
        format!(
            "name: {name}\ntransport_socket: {{name: tls, typed_config: {{\"@type\": {tls}, common_tls_context: \
             {{tls_certificate_sds_secret_configs: [{secret}]}}}}}}\n"
        )
    };
    let (mut state, start) = (State::default(), Instant::now());
    apply(&mut state, update(Cluster, &cluster("own", ", initial_fetch_timeout: 0s")), start);
    assert_eq!(state.gives_up_at(SECOND), None, "as long as it takes");
    apply(&mut state, update(Cluster, &cluster("named", ", initial_fetch_timeout: 5s")), start);
    apply(&mut state, update(Cluster, &cluster("usual", "")), start);
    assert_eq!(state.gives_up_at(SECOND), Some(start + 5 * SECOND));
    assert!(state.give_up(start + 5 * SECOND, SECOND));
    assert!(state.snapshot().cluster("named").is_some() && state.snapshot().cluster("usual").is_none());
    assert_eq!(state.gives_up_at(SECOND), Some(start + 15 * SECOND), "as in Envoy");
    assert!(state.give_up(start + 15 * SECOND, SECOND) && state.snapshot().cluster("own").is_none());
}

#[test]
fn it_is_known_when_a_version_came_for_as_long_as_it_is_there() {
    let (mut state, now) = (State::default(), Instant::now());
    let time = SystemTime::now();
    state.apply(update(Cluster, "name: c\n"), now, time);
    assert_eq!(state.arrivals().at(Cluster, "c", "1"), Some(time));
    state.apply(update(Cluster, "name: c\nlb_policy: LOAD_BALANCING_POLICY_CONFIG\n"), now, SystemTime::UNIX_EPOCH);
    assert_eq!(state.arrivals().at(Cluster, "c", "1"), Some(time));
    state.apply(Update { removed: vec!["c".to_owned()], ..none(Cluster) }, now, time);
    assert_eq!(state.arrivals().at(Cluster, "c", "1"), None);
}

#[test]
fn a_reset_takes_off_what_counters_had_and_leaves_gauges() {
    let mut state = State::default();
    let counted = |n| vec![sample("a", Kind::Counter, n), sample("b", Kind::Gauge, n)];
    state.reset_counters(&counted(5));
    let values = |counted| state.since_reset(counted).iter().map(|s| s.value).collect::<Vec<_>>();
    assert_eq!(values(counted(7)), [2, 7]);
    assert_eq!(values(counted(3)), [3, 3]);
}

#[test]
fn whoever_brings_secrets_hears_which_are_wanted() {
    let proxy = proxy(SECOND);
    let wanted = proxy.wanted();
    proxy.apply(update(Cluster, "name: d\n"));
    assert!(!wanted.has_changed().unwrap());
    proxy.apply(update(Cluster, EDS));
    assert!(wanted.has_changed().unwrap());
    assert_eq!(wanted.borrow().endpoints.len(), 1);
}

#[tokio::test]
async fn a_proxy_that_is_asked_to_quit_says_so_even_if_nobody_listened() {
    let proxy = proxy(SECOND);
    proxy.quit();
    proxy.quit_requested().await;
}
