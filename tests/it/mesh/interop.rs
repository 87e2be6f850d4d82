//! The cases of gRPC's interoperability tests, through two sidecars.

use std::path::Path;
use std::time::Duration;

use testkit::{Session, until};

super::on_both_data_planes!(every_case_of_grpcs_interoperability_tests_holds);

/// As <https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md> names them; those of credentials, caches
/// and load reports ask nothing of a proxy.
const CASES: [&str; 15] = [
    "empty_unary",
    "large_unary",
    "client_compressed_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
];

fn every_case_of_grpcs_interoperability_tests_holds(s: &Session<'_>) {
    if !testkit::program("python3") || s.sh("python3 -c 'import grpc'").code != 0 {
        return testkit::skip("python3 has no module grpc (pip install grpcio)");
    }
    s.sh(&format!("kubectl label namespace {} istio-injection=enabled", s.namespace)).ok();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/mesh/interop");
    s.sh(&format!("kubectl create configmap scripts --from-file={}", scripts.display())).ok();
    let python = s.sh("realpath -s $(command -v python3)").ok();
    for (name, command) in
        [("interop", format!("[{python}, /scripts/server.py]")), ("client", "[sleep, infinity]".to_owned())]
    {
        s.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{
               terminationGracePeriodSeconds: 0, volumes: [{{name: scripts, configMap: {{name: scripts}}}}],
               containers: [{{name: main, image: busybox, command: {command},
                 volumeMounts: [{{name: scripts, mountPath: /scripts}}]}}]}}}}"
        ));
    }
    s.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: interop}, spec: {selector: {app: interop}, ports: [
           {name: grpc, port: 10000}]}}",
    );
    s.sh("kubectl wait pod interop client --for=condition=Ready --timeout=120s").ok();
    let client = |cases: &str| s.sh(&format!("kubectl exec client -c main -- {python} /scripts/client.py {cases}"));
    until("the server of gRPC to answer", Duration::from_secs(60), || (client("empty_unary").code == 0).then_some(()));
    assert_eq!(client(&CASES.join(" ")).ok(), CASES.join("\n"));
}
