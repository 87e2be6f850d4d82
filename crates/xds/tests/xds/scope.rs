//! What a node is told of.

use crate::call::{leave, snapshot};
use crate::world::{assert_found, node, told, world};

fn sidecar(name: &str, namespace: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: \
         {{{rest}}}\n"
    )
}

/// Whether the ports 9000 and 9001 of the server are known.
fn known(objects: &str) -> [bool; 2] {
    let snapshot = snapshot(&told("sleep", objects));
    ["10.96.0.9:9000", "10.96.0.9:9001"].map(|to| leave(&snapshot, to, None).contains("outbound|"))
}

#[test]
fn a_sidecar_object_narrows_what_may_be_called() {
    let egress = |hosts: &str| sidecar("s", "foo", &format!("egress: [{{hosts: ['{hosts}']}}]"));
    for all in ["./*", "*/*", "foo/*", "*/tcp-echo.foo.svc.cluster.local", "./*.svc.cluster.local"] {
        assert_eq!(known(&egress(all)), [true, true], "{all}");
    }
    for none in ["~/*", "bar/*", "*/other.foo.svc.cluster.local"] {
        assert_eq!(known(&egress(none)), [false, false], "{none}");
    }
    let port = sidecar("s", "foo", "egress: [{port: {number: 9001}, hosts: ['./*']}]");
    assert_eq!(known(&port), [false, true]);
}

#[test]
fn the_sidecar_object_of_the_workload_wins_over_the_namespaces_over_the_root() {
    let none = "egress: [{hosts: ['~/*']}]";
    let all = "egress: [{hosts: ['*/*']}]";
    let root = sidecar("root", "istio-system", none);
    assert_eq!(known(&root), [false, false]);
    let namespace = sidecar("namespace", "foo", all);
    assert_eq!(known(&format!("{root}{namespace}")), [true, true]);
    let own = sidecar("own", "foo", &format!("workloadSelector: {{labels: {{app: sleep}}}}, {none}"));
    assert_eq!(known(&format!("{root}{namespace}{own}")), [false, false]);
    let twice = format!("{namespace}{}", sidecar("newer", "foo", none));
    assert_found(
        "sleep",
        &twice,
        "(Sidecar foo/newer) spec.workloadSelector: has no effect: the older Sidecar foo/namespace",
    );
}

#[test]
fn a_service_that_is_not_exported_is_not_known_elsewhere() {
    let entry = |export: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: bar}}\nspec: {{hosts: [a.b], \
             addresses: [240.0.0.1], resolution: STATIC, endpoints: [{{address: 192.0.2.1}}], ports: [{{number: 80, name: \
             tcp}}], exportTo: ['{export}']}}\n"
        )
    };
    let is_known = |export| leave(&snapshot(&told("sleep", &entry(export))), "240.0.0.1:80", None).contains("outbound");
    assert!(is_known("*") && is_known("foo") && !is_known(".") && !is_known("~"));
}

#[test]
fn routes_bring_their_destinations_into_scope() {
    let objects = format!(
        "{}---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: foo}}\nspec: {{hosts: [a.b], \
         addresses: [240.0.0.1], resolution: NONE, ports: [{{number: 80, name: tcp}}]}}\n---\napiVersion: \
         networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: foo}}\nspec: {{hosts: [a.b], tcp: \
         [{{route: [{{destination: {{host: tcp-echo, port: {{number: 9000}}}}}}]}}]}}\n",
        sidecar("s", "foo", "egress: [{hosts: ['./a.b']}]")
    );
    let outcome = leave(&snapshot(&told("sleep", &objects)), "240.0.0.1:80", None);
    assert!(outcome.starts_with("outbound|9000||tcp-echo.foo.svc.cluster.local"), "{outcome}");
}

#[test]
fn nodes_that_differ_in_nothing_that_matters_are_of_one_class() {
    let by_label = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: foo}\nspec: \
        {hosts: [tcp-echo], tcp: [{match: [{sourceLabels: {app: sleep}}], route: [{destination: {host: tcp-echo}}]}]}\n";
    let same = |objects: &str| {
        let mesh = world(objects);
        mesh.outbound_class(&node("sleep")) == mesh.outbound_class(&node("tcp-echo"))
    };
    assert!(same("") && !same(by_label));
    assert!(!same(&sidecar("s", "foo", "workloadSelector: {labels: {app: sleep}}")));
}
