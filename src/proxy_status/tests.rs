//! What is shown of proxies.

use serde_json::{Value, json};

use super::*;

fn dump(listeners: &Value, clusters: &Value, routes: &Value) -> Dump {
    let listed = |list: &Value, inside: &str| -> Value {
        list.as_array().unwrap().iter().map(|value| json!({ inside: value })).collect()
    };
    let listeners = listed(listeners, "listener");
    let dump = json!({"configs": [
        {"@type": "x.ListenersConfigDump", "dynamic_listeners": listed(&listeners, "active_state")},
        {"@type": "x.ClustersConfigDump", "dynamic_active_clusters": listed(clusters, "cluster")},
        {"@type": "x.RoutesConfigDump", "dynamic_route_configs": listed(routes, "route_config")},
    ]});
    Dump::parse(&dump.to_string()).unwrap()
}

#[test]
fn a_row_has_a_state_for_each_type_and_refusals_have_reasons() {
    let told = json!({"proxy": "web.shop", "proxy_version": "envoy 1.36.0", "connected_at": "now", "types": {
        "CDS": {"status": "SYNCED"}, "LDS": {"status": "ERROR", "reason": "no"}, "EDS": {"status": "NOT SENT"},
        "RDS": {"status": "STALE"}, "SDS": {"status": "SYNCED"},
    }});
    let proxy = Proxy::new(serde_json::from_value(told).unwrap(), "c1");
    let row = ["web.shop", "c1", "SYNCED", "ERROR", "NOT SENT", "STALE", "IGNORED", "istiod.c1", "envoy 1.36.0"];
    assert_eq!(proxy.row(), row);
    assert_eq!(proxy.refusals().collect::<Vec<_>>(), [["web.shop", "c1", "LDS", "no"]]);
}

#[test]
fn what_is_not_held_as_it_was_sent_is_shown_line_by_line() {
    let listener =
        json!({"name": "l", "filter_chains": [{"filters": [{"typed_config": {"rds": {"route_config_name": "80"}}}]}]});
    let (listeners, route) = (json!([listener]), |timeout: &str| json!({"name": "80", "timeout": timeout}));
    let sent = dump(&listeners, &json!([{"name": "a"}, {"name": "b"}]), &json!([route("1s"), {"name": "unused"}]));
    let same =
        difference::between(&sent, &dump(&listeners, &json!([{"name": "b"}, {"name": "a"}]), &json!([route("1s")])));
    assert!(same.iter().all(Difference::is_none));
    assert_eq!(difference::text(&same), "Clusters Match\nListeners Match\nRoutes Match\n");
    let other = difference::between(&sent, &dump(&listeners, &json!([{"name": "a"}]), &json!([route("2s")])));
    let text = difference::text(&other);
    assert!(text.starts_with("Clusters Don't Match\n--- Istiod Clusters\n+++ Envoy Clusters\n"), "{text}");
    assert!(text.contains("-  \"name\": \"b\"\n") && !text.contains("\"a\""), "{text}");
    assert!(text.contains("-  \"timeout\": \"1s\"\n+  \"timeout\": \"2s\"\n"), "{text}");
    let document = difference::document(&other);
    assert_eq!(document["listeners"], json!({"match": true, "different": []}));
    assert_eq!(document["clusters"]["different"], json!([{"name": "b", "sent": {"name": "b"}, "held": null}]));
}
