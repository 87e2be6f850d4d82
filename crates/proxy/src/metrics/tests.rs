use std::sync::Arc;

use super::{
    CallLabels, HttpFilterName, Kind, Metrics, Reporter, RequestLabels, Sample, Scope, Security, Service, Workload,
    collect, envoy_text, prometheus_text,
};
use crate::access_log::Flags;

fn labels() -> CallLabels {
    let workload = |name: &str| {
        Arc::new(Workload {
            name: name.into(),
            namespace: "foo".into(),
            principal: format!("spiffe://cluster.local/ns/foo/sa/{name}").into(),
            ..Workload::default()
        })
    };
    CallLabels {
        reporter: Reporter::Destination,
        source: workload("sleep"),
        destination: workload("tcp-echo"),
        service: Arc::new(Service { host: "tcp-echo.foo.svc.cluster.local".into(), ..Service::default() }),
        request: None,
        flags: Flags::default(),
        security: Security::MutualTls,
    }
}

/// Two workers that each took a connection and a few bytes.
fn workers() -> Vec<Arc<Metrics>> {
    let workers = vec![Arc::new(Metrics::default()), Arc::new(Metrics::default())];
    for (worker, bytes) in workers.iter().zip([10, 32]) {
        let cluster = worker.clusters.of(&"outbound|9000||tcp-echo".into());
        cluster.cx_total.inc();
        cluster.rx_bytes.add(bytes);
        worker.istio.of(&labels()).sent.add(bytes);
    }
    workers[0].listeners.of(&"[::]:15006".into()).cx_active.inc();
    workers[1].listeners.of(&"[::]:15006".into()).cx_active.dec();
    workers[1].rbac.of(&"tcp.".into()).denied.inc();
    workers[0].faults.of(&"web".into()).aborts_injected.inc();
    for prefix in ["", "own"] {
        let filter = HttpFilterName { manager: "web".into(), prefix: prefix.into() };
        workers[0].jwt_authn.of(&filter).allowed.inc();
        workers[1].ext_authz.of(&filter).ok.inc();
    }
    workers
}

#[test]
fn a_scrape_adds_up_the_workers() {
    let text = prometheus_text(&collect(&workers()));
    for line in [
        "# TYPE envoy_cluster_upstream_cx_total counter",
        "envoy_cluster_upstream_cx_total{envoy_cluster_name=\"outbound|9000||tcp-echo\"} 2",
        "envoy_cluster_upstream_cx_rx_bytes_total{envoy_cluster_name=\"outbound|9000||tcp-echo\"} 42",
        "# TYPE envoy_listener_downstream_cx_active gauge",
        "envoy_listener_downstream_cx_active{envoy_listener_address=\"[::]:15006\"} 0",
        "envoy_tcp_rbac_denied{} 1",
        "envoy_http_fault_aborts_injected{envoy_http_conn_manager_prefix=\"web\"} 1",
        "envoy_http_jwt_authn_allowed{envoy_http_conn_manager_prefix=\"web\"} 1",
        "envoy_http_jwt_authn_own_allowed{envoy_http_conn_manager_prefix=\"web\"} 1",
        "envoy_http_ext_authz_ok{envoy_http_conn_manager_prefix=\"web\"} 1",
        "envoy_http_ext_authz_ok{envoy_ext_authz_prefix=\"own\",envoy_http_conn_manager_prefix=\"web\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    let types = text.lines().filter(|l| l.starts_with("# TYPE envoy_cluster_upstream_cx_total ")).count();
    assert_eq!(types, 1);
}

#[test]
fn istios_metrics_have_istios_labels_and_unknown_for_what_is_missing() {
    let text = prometheus_text(&collect(&workers()));
    let line = text.lines().find(|l| l.starts_with("istio_tcp_sent_bytes_total{")).unwrap();
    for part in [
        "{reporter=\"destination\",",
        ",source_principal=\"spiffe://cluster.local/ns/foo/sa/sleep\",",
        ",destination_service=\"tcp-echo.foo.svc.cluster.local\",",
        ",destination_app=\"unknown\",",
        ",request_protocol=\"tcp\",",
        ",response_flags=\"-\",",
        ",connection_security_policy=\"mutual_tls\"} 42",
    ] {
        assert!(line.contains(part), "{part}\n{line}");
    }
}

#[test]
fn envoys_text_has_a_sorted_line_for_each_number() {
    let text = envoy_text(&collect(&workers()));
    assert!(text.contains("cluster.outbound|9000||tcp-echo.upstream_cx_total: 2\n"));
    assert!(text.contains("listener.[__]_15006.downstream_cx_active: 0\n"));
    assert!(text.contains("\ntcp.rbac.denied: 1\n"), "{text}");
    for line in [
        "http.web.fault.aborts_injected: 1",
        "http.web.jwt_authn.allowed: 1",
        "http.web.jwt_authn.own.allowed: 1",
        "http.web.ext_authz.ok: 1",
        "http.web.ext_authz.own.ok: 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.lines().is_sorted());
}

#[test]
fn a_label_value_cannot_end_its_quotes() {
    let scope = Scope::Cluster("a\"b\\c\n".into());
    let text = prometheus_text(&[Sample { scope, name: "x", kind: Kind::Counter, value: 1 }]);
    assert!(text.ends_with("{envoy_cluster_name=\"a\\\"b\\\\c\\n\"} 1\n"), "{text}");
}

#[test]
fn a_removed_subject_is_no_longer_shown() {
    let workers = workers();
    workers.iter().for_each(|w| w.clusters.retain(|_| false));
    assert!(!collect(&workers).iter().any(|s| matches!(s.scope, Scope::Cluster(_))));
}

#[test]
fn a_histogram_says_how_many_values_are_below_each_bound() {
    let worker = Arc::new(Metrics::default());
    let request = RequestLabels { grpc: true, status: 200, grpc_status: Some(14) };
    let stats = worker.istio_http.of(&CallLabels { request: Some(request), ..labels() });
    stats.requests.inc();
    [0, 3, 5, 4_000_000].into_iter().for_each(|value| stats.duration.record(value));
    let text = prometheus_text(&collect(&[worker]));
    let name = "istio_request_duration_milliseconds";
    assert!(text.contains(&format!("# TYPE {name} histogram\n{name}_bucket{{reporter=\"destination\",")), "{text}");
    let labels = ",request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"14\",response_flags=\"-\",\
        connection_security_policy=\"mutual_tls\"";
    for (suffix, end) in [
        ("_bucket", ",le=\"0.5\"} 1"),
        ("_bucket", ",le=\"1\"} 1"),
        ("_bucket", ",le=\"5\"} 3"),
        ("_bucket", ",le=\"3.6e+06\"} 3"),
        ("_bucket", ",le=\"+Inf\"} 4"),
        ("_sum", "} 4000008"),
        ("_count", "} 4"),
    ] {
        let line = text.lines().find(|l| l.starts_with(&format!("{name}{suffix}{{")) && l.ends_with(end));
        assert!(line.is_some_and(|l| l.contains(labels)), "{suffix} {end}\n{text}");
    }
    assert!(!text.contains("_messages_total") && text.contains("istio_requests_total{"), "{text}");
}
