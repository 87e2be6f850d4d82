use std::sync::Arc;
use std::time::Duration;

use envoy::TypeUrl;

use super::{Missing, Snapshot, Update};
use crate::config::{SecretRef, SecretSource};
use crate::tests::{accept, certificate, certificate_secret, offered, update};

const EDS: &str = "name: c\ntype: EDS\neds_cluster_config: {eds_config: {ads: {}}, service_name: s}\n";
const STATIC: &str = "name: c\ntype: STATIC\n";

fn assignment(port: u16) -> String {
    format!(
        "cluster_name: s\nendpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: \
         10.0.0.1, port_value: {port}}}}}}}}}]}}]\n"
    )
}

fn listener(name: &str, port: u16, extra: &str) -> String {
    format!(
        "name: {name}\naddress: {{socket_address: {{address: 0.0.0.0, port_value: {port}}}}}\n\
         filter_chains: [{{{extra}filters: [{{name: tcp, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: \
         c}}}}]}}]\n"
    )
}

const TLS: &str = "transport_socket: {name: tls, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: \
    {tls_certificate_sds_secret_configs: [{name: default, sds_config: {ads: {}}}], combined_validation_context: \
    {default_validation_context: {match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: 'spiffe://a/'}}]}, \
    validation_context_sds_secret_config: {name: ROOTCA, sds_config: {ads: {}}}}}}}, ";

fn ads(name: &str) -> SecretRef {
    SecretRef { name: name.into(), source: SecretSource::Ads, patience: Some(Duration::from_secs(15)) }
}

#[test]
fn a_bad_resource_harms_no_other_and_keeps_its_last_good_version() {
    let before = accept(&Snapshot::default(), TypeUrl::Cluster, STATIC);
    let resources = vec![
        offered(TypeUrl::Cluster, "c", "name: c\nlb_policy: LOAD_BALANCING_POLICY_CONFIG\n"),
        offered(TypeUrl::Cluster, "d", "name: d\n"),
    ];
    let (after, refused) = before.apply(Update { type_url: TypeUrl::Cluster, resources, removed: Vec::new() });
    assert_eq!(refused.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["c"]);
    assert!(Arc::ptr_eq(before.cluster("c").unwrap(), after.cluster("c").unwrap()));
    assert!(after.cluster("d").is_some());
    assert_eq!(after.rejected().len(), 1);
    assert_eq!(accept(&after, TypeUrl::Cluster, "name: c\nconnect_timeout: 1s\n").rejected().len(), 0);
}

#[test]
fn an_update_leaves_the_snapshot_before_it_as_it_was() {
    let before = accept(&Snapshot::default(), TypeUrl::Cluster, STATIC);
    let removed = vec!["c".to_owned()];
    let (after, _) = before.apply(Update { type_url: TypeUrl::Cluster, resources: Vec::new(), removed });
    assert!(before.cluster("c").is_some() && after.cluster("c").is_none());
}

#[test]
fn an_eds_cluster_goes_live_with_its_endpoints() {
    let waiting = accept(&Snapshot::default(), TypeUrl::Cluster, EDS);
    assert!(waiting.cluster("c").is_none());
    assert_eq!(waiting.wanted().endpoints.iter().map(|n| &**n).collect::<Vec<_>>(), ["s"]);
    assert_eq!(waiting.warming()[&(TypeUrl::Cluster, "c")], [Missing::Endpoints { name: "s".into() }]);
    let live = accept(&waiting, TypeUrl::Endpoint, &assignment(80));
    let cluster = live.cluster("c").unwrap();
    assert_eq!(live.endpoints_of(cluster).unwrap().endpoints().count(), 1);
    assert!(live.warming().is_empty());
}

#[test]
fn a_listener_waits_for_its_secrets_and_for_clusters_that_are_announced() {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Cluster, EDS);
    let snapshot = accept(&snapshot, TypeUrl::Listener, &listener("l", 1, TLS));
    let missing = &snapshot.warming()[&(TypeUrl::Listener, "l")];
    let expected =
        [Missing::Secret(ads("ROOTCA")), Missing::Secret(ads("default")), Missing::Cluster { name: "c".into() }];
    assert_eq!(missing[..], expected);
    let (root, _) = certificate();
    let root = format!("name: ROOTCA\nvalidation_context: {{trusted_ca: {{inline_string: {root:?}}}}}\n");
    let snapshot = accept(&snapshot, TypeUrl::Secret, &root);
    let snapshot = accept(&snapshot, TypeUrl::Secret, &certificate_secret("default"));
    assert!(snapshot.listener("l").is_none());
    let snapshot = accept(&snapshot, TypeUrl::Endpoint, &assignment(80));
    let tls = snapshot.listener("l").unwrap().chains[0].tls.clone().unwrap();
    assert_eq!(snapshot.certificates(&tls.settings).unwrap().len(), 1);
    let demands = snapshot.validation(&tls.settings.validation).unwrap();
    assert_eq!(demands.names.len(), 1);
}

#[test]
fn a_cluster_that_nobody_announces_is_not_waited_for() {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &listener("l", 1, ""));
    assert!(snapshot.listener("l").is_some());
}

#[test]
fn while_a_new_version_warms_the_old_one_serves() {
    let old = accept(&Snapshot::default(), TypeUrl::Listener, &listener("l", 1, ""));
    let warming = accept(&old, TypeUrl::Listener, &listener("l", 1, TLS));
    assert!(Arc::ptr_eq(old.listener("l").unwrap(), warming.listener("l").unwrap()));
    let tired = warming.without_endpoints(Duration::ZERO, |_, _| Duration::ZERO);
    assert!(Arc::ptr_eq(old.listener("l").unwrap(), tired.listener("l").unwrap()));
}

#[test]
fn endpoints_are_not_waited_for_without_end() {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Cluster, EDS);
    let snapshot = accept(&snapshot, TypeUrl::Listener, &listener("l", 1, ""));
    let second = Duration::from_secs(1);
    let waited = |type_url, _: &str| if type_url == TypeUrl::Listener { second } else { Duration::ZERO };
    assert!(snapshot.without_endpoints(second, waited).listener("l").is_some());
    let live = snapshot.without_endpoints(Duration::ZERO, |_, _| Duration::ZERO);
    assert!(live.cluster("c").is_some() && live.listener("l").is_some());
    assert!(live.endpoints_of(live.cluster("c").unwrap()).is_none());
}

#[test]
fn secrets_of_the_pods_own_agent_stay() {
    let local = TLS.replace(
        "{ads: {}}",
        "{api_config_source: {api_type: GRPC, transport_api_version: V3, \
        grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}",
    );
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &listener("l", 1, &local));
    let snapshot = accept(&snapshot, TypeUrl::Secret, &certificate_secret("default"));
    let removed = vec!["l".to_owned()];
    let (snapshot, _) = snapshot.apply(Update { type_url: TypeUrl::Listener, resources: Vec::new(), removed });
    assert_eq!(snapshot.secrets().len(), 1);
}

#[test]
fn the_same_resource_again_changes_nothing() {
    let before = accept(&Snapshot::default(), TypeUrl::Listener, &listener("l", 1, ""));
    let after = accept(&before, TypeUrl::Listener, &listener("l", 1, ""));
    assert!(Arc::ptr_eq(before.listener("l").unwrap(), after.listener("l").unwrap()));
}

#[test]
fn one_address_has_one_listener() {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &listener("l", 1, ""));
    let (_, refused) = snapshot.apply(update(TypeUrl::Listener, &listener("m", 1, "")));
    assert_eq!(refused[0].1.to_string(), "address: 0.0.0.0:1 is taken by the listener \"l\"");
}

#[test]
fn a_listener_is_found_by_its_address_or_else_by_the_wildcard() {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &listener("any", 80, ""));
    let exact = listener("one", 80, "").replace("0.0.0.0", "10.0.0.1");
    let snapshot = accept(&snapshot, TypeUrl::Listener, &exact);
    let at = |address: &str| snapshot.listener_at(address.parse().unwrap()).map(|l| &*l.name);
    assert_eq!(at("10.0.0.1:80"), Some("one"));
    assert_eq!(at("10.0.0.2:80"), Some("any"));
    assert_eq!(at("10.0.0.1:81"), None);
    assert_eq!(at("[::1]:80"), None);
}

#[test]
fn endpoints_and_secrets_go_with_the_last_that_wanted_them() {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Cluster, EDS);
    let snapshot = accept(&snapshot, TypeUrl::Listener, &listener("l", 1, TLS));
    let snapshot = accept(&snapshot, TypeUrl::Endpoint, &assignment(80));
    let snapshot = accept(&snapshot, TypeUrl::Secret, &certificate_secret("default"));
    let removed = |type_url, name: &str| Update { type_url, resources: Vec::new(), removed: vec![name.to_owned()] };
    let (snapshot, _) = snapshot.apply(removed(TypeUrl::Cluster, "c"));
    assert_eq!((snapshot.endpoints().len(), snapshot.secrets().len()), (0, 1));
    let (snapshot, _) = snapshot.apply(removed(TypeUrl::Listener, "l"));
    assert_eq!(snapshot.secrets().len(), 0);
}

#[test]
fn a_resource_under_another_name_is_refused() {
    let mut update = update(TypeUrl::Cluster, STATIC);
    update.resources[0].name = "d".to_owned();
    let (_, refused) = Snapshot::default().apply(update);
    assert_eq!(refused[0].1.to_string(), "the resource \"d\" has a message named \"c\"");
}

/// A listener whose chain gets the route table `r`.
fn http_listener() -> String {
    let connections = "{name: http, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network.\
        http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, rds: {config_source: {ads: {}}, \
        route_config_name: r}, http_filters: [{name: router, typed_config: {\"@type\": \
        type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}";
    format!(
        "name: l\naddress: {{socket_address: {{address: 0.0.0.0, port_value: 1}}}}\n\
         filter_chains: [{{filters: [{connections}]}}]\n"
    )
}

fn routes(cluster: &str) -> String {
    format!(
        "name: r\nvirtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: \
         {cluster}}}}}]}}]\n"
    )
}

#[test]
fn a_listener_waits_for_its_route_table_and_for_the_clusters_in_it_that_are_announced() {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Cluster, EDS);
    let snapshot = accept(&snapshot, TypeUrl::Listener, &http_listener());
    assert_eq!(snapshot.wanted().routes.iter().map(|n| &**n).collect::<Vec<_>>(), ["r"]);
    assert_eq!(snapshot.warming()[&(TypeUrl::Listener, "l")], [Missing::Routes { name: "r".into() }]);
    let snapshot = accept(&snapshot, TypeUrl::Route, &routes("c"));
    assert_eq!(snapshot.warming()[&(TypeUrl::Listener, "l")], [Missing::Cluster { name: "c".into() }]);
    let snapshot = accept(&snapshot, TypeUrl::Endpoint, &assignment(80));
    assert!(snapshot.listener("l").is_some());
}

#[test]
fn a_changed_route_table_is_in_force_at_once_and_goes_with_the_last_listener_that_wants_it() {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &http_listener());
    let snapshot = accept(&snapshot, TypeUrl::Route, &routes("nobody"));
    let listener = snapshot.listener("l").unwrap().clone();
    let snapshot = accept(&snapshot, TypeUrl::Route, &routes("other"));
    assert!(Arc::ptr_eq(&listener, snapshot.listener("l").unwrap()));
    let clusters: Vec<&str> = snapshot.routes()["r"].config.clusters().map(|name| &**name).collect();
    assert_eq!(clusters, ["other"]);
    let removed = vec!["l".to_owned()];
    let (snapshot, _) = snapshot.apply(Update { type_url: TypeUrl::Listener, resources: Vec::new(), removed });
    assert!(snapshot.routes().is_empty() && snapshot.wanted().routes.is_empty());
}

#[test]
fn a_listener_whose_routes_are_overdue_goes_live_without_them() {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &http_listener());
    assert!(snapshot.listener("l").is_none());
    assert!(snapshot.without_endpoints(Duration::ZERO, |_, _| Duration::ZERO).listener("l").is_some());
}
