//! Tables of a small dump.

use serde_json::json;

use super::*;

fn dump() -> Dump {
    let typed = |name: &str| format!("type.googleapis.com/envoy.admin.v3.{name}ConfigDump");
    let socket = |ip: &str, port: u16| json!({"socket_address": {"address": ip, "port_value": port}});
    let reviews = "outbound|9080|v1|reviews.shop.svc.cluster.local";
    let metadata = |kind: &str| {
        let path = format!("/apis/networking.istio.io/v1/namespaces/shop/{kind}/reviews");
        json!({"filter_metadata": {"istio": {"config": path}}})
    };
    let document = json!({"configs": [
        {"@type": typed("Bootstrap"), "bootstrap": {"node": {"id": "n"}}},
        {"@type": typed("Clusters"), "dynamic_active_clusters": [
            {"cluster": {"name": reviews, "type": "EDS", "metadata": metadata("destination-rule")}},
            {"cluster": {"name": "BlackHoleCluster"}},
        ]},
        {"@type": typed("Listeners"), "dynamic_listeners": [{"name": "l", "active_state": {"listener": {
            "name": "0.0.0.0_9080", "address": socket("0.0.0.0", 9080),
            "filter_chains": [{
                "filter_chain_match": {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]},
                "filters": [{"typed_config": {"rds": {"route_config_name": "9080"}}}],
            }],
            "default_filter_chain": {"filters": [{"typed_config": {"cluster": "PassthroughCluster"}}]},
        }}}]},
        {"@type": typed("Routes"), "dynamic_route_configs": [{"route_config": {"name": "9080", "virtual_hosts": [{
            "name": "reviews:9080", "domains": ["reviews.shop", "reviews", "10.0.0.1"], "routes": [
                {"match": {"prefix": "/api"}, "metadata": metadata("virtual-service")},
                {"match": {"path": "/gone"}, "direct_response": {"status": 404}},
            ],
        }]}}]},
        {"@type": typed("Endpoints"), "dynamic_endpoint_configs": [{"endpoint_config": {"cluster_name": reviews, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": socket("10.1.0.7", 9080)}},
                {"endpoint": {"address": socket("10.1.0.8", 9080)}, "health_status": "DRAINING"}]},
        ]}}]},
        {"@type": typed("Secrets"), "dynamic_active_secrets": [
            {"name": "default", "secret": {"tls_certificate": {}}}, {"name": "ROOTCA", "secret": {"validation_context": {}}},
        ]},
    ]});
    Dump::parse(&document.to_string()).unwrap()
}

fn any() -> Filter {
    Filter { port: None, fqdn: None, subset: None, direction: None, name: None }
}

fn rows(part: Part, filter: &Filter) -> Vec<String> {
    table::of(&dump(), part, filter).1.iter().map(|row| row.join(" | ")).collect()
}

#[test]
fn every_part_has_its_table() {
    assert_eq!(
        rows(Part::Clusters, &any()),
        [
            "BlackHoleCluster | - | - | - | STATIC | ",
            "reviews.shop.svc.cluster.local | 9080 | v1 | outbound | EDS | reviews.shop",
        ]
    );
    assert_eq!(
        rows(Part::Listeners, &any()),
        [
            "0.0.0.0 | 9080 | Trans: raw_buffer; App: http/1.1,h2c | Route: 9080",
            "0.0.0.0 | 9080 | ALL | PassthroughCluster",
        ]
    );
    assert_eq!(
        rows(Part::Routes, &any()),
        [
            "9080 | reviews:9080 | reviews, + 2 more... | /api* | reviews.shop",
            "9080 | reviews:9080 | reviews, + 2 more... | /gone | 404",
        ]
    );
    let cluster = "outbound|9080|v1|reviews.shop.svc.cluster.local";
    let expected = [format!("10.1.0.7:9080 | HEALTHY | {cluster}"), format!("10.1.0.8:9080 | DRAINING | {cluster}")];
    assert_eq!(rows(Part::Endpoints, &any()), expected);
    assert_eq!(rows(Part::Secrets, &any()), ["ROOTCA | CA | ACTIVE", "default | Cert Chain | ACTIVE"]);
}

#[test]
fn what_is_not_wanted_is_left_out_of_tables_and_documents() {
    let filter = Filter { fqdn: Some("reviews.shop.svc.cluster.local".to_owned()), ..any() };
    assert_eq!(rows(Part::Clusters, &filter).len(), 1);
    assert_eq!(document(&dump(), Part::Clusters, &filter)[0]["type"], "EDS");
    let filter = Filter { port: Some(80), ..any() };
    assert!([Part::Listeners, Part::Routes, Part::Endpoints].iter().all(|part| rows(*part, &filter).is_empty()));
    let filter = Filter { subset: Some("v2".to_owned()), direction: Some("outbound".to_owned()), ..any() };
    assert!(rows(Part::Clusters, &filter).is_empty());
    assert_eq!(document(&dump(), Part::Bootstrap, &any())["node"]["id"], "n");
    assert!(Dump::parse("{}").is_err());
}
