//! The tools that people use, each through two sidecars to a server that minds every byte.

use std::path::Path;
use std::time::Duration;

use testkit::{Session, until};

super::alternately!(
    requests_of_every_shape_arrive_as_they_were_sent,
    load_is_carried_without_a_failure,
    a_gigabyte_goes_either_way,
    calls_of_grpc_of_every_kind_are_answered,
    streams_that_a_server_refuses_go_elsewhere,
);

const URL: &str = "http://server:8000";

/// A server of our own in Python, and a client that has its scripts, both with sidecars. `None` without Python.
fn servers(s: &Session<'_>) -> Option<()> {
    if !testkit::program("python3") {
        return None;
    }
    s.sh(&format!("kubectl label namespace {} istio-injection=enabled", s.namespace)).ok();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/mesh/protocols");
    s.sh(&format!("kubectl create configmap scripts --from-file={}", scripts.display())).ok();
    let python = s.sh("realpath -s $(command -v python3)").ok();
    for (name, command) in
        [("server", format!("[{python}, /scripts/server.py]")), ("client", "[sleep, infinity]".to_owned())]
    {
        s.apply(&format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}}}}}\n---\n\
             {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{
               serviceAccountName: {name}, terminationGracePeriodSeconds: 0, volumes: [{{name: scripts, configMap: {{name: scripts}}}}],
               containers: [{{name: main, image: busybox, command: {command}, env: [{{name: PYTHONUNBUFFERED, value: '1'}}],
                 volumeMounts: [{{name: scripts, mountPath: /scripts}}]}}]}}}}"
        ));
    }
    s.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: server}, spec: {selector: {app: server}, ports: [
           {name: http, port: 8000}, {name: grpc, port: 9000}, {name: grpc-refusing, port: 9001}]}}",
    );
    s.sh("kubectl wait pod server client --for=condition=Ready --timeout=120s").ok();
    s.until_prints(&inside(&format!("curl -sS -m 10 {URL}/echo")), "GET /echo 0 bytes");
    Some(())
}

/// A command line inside of the client's pod.
fn inside(line: &str) -> String {
    format!("kubectl exec client -c main -- {line}")
}

/// A part of the client's script.
fn script(s: &Session<'_>, part: &str) -> String {
    s.sh(&inside(&format!("$(command -v python3) /scripts/client.py {part}"))).ok()
}

fn requests_of_every_shape_arrive_as_they_were_sent(s: &Session<'_>) {
    let Some(()) = servers(s) else { return };
    let curl = |arguments: &str| s.sh(&inside(&format!("curl -sS -m 30 {arguments}"))).ok();
    let told = "-w '|%{http_code} %{http_version} %{size_download}'";
    assert_eq!(curl(&format!("{told} {URL}/echo -d abc")), "POST /echo 3 bytes|200 1.1 18");
    assert_eq!(curl(&format!("{told} --http2-prior-knowledge {URL}/echo -d abc")), "POST /echo 3 bytes|200 2 18");
    // Who asks to change to HTTP/2 is answered in HTTP/1.
    assert_eq!(curl(&format!("{told} --http2 {URL}/echo")), "GET /echo 0 bytes|200 1.1 17");
    assert_eq!(
        curl(&format!("{told} -H 'Transfer-Encoding: chunked' {URL}/echo -d abc")),
        "POST /echo 3 bytes|200 1.1 18"
    );
    assert_eq!(curl(&format!("{told} {URL}/chunks")), "one two three|200 1.1 13");
    assert_eq!(curl(&format!("{told} -I {URL}/echo -o /dev/null")), "|200 1.1 0");
    for status in [204, 304] {
        // The connection is as good afterwards as it was before.
        let twice = curl(&format!("{told} {URL}/status/{status} {URL}/echo"));
        assert_eq!(twice, format!("|{status} 1.1 0GET /echo 0 bytes|200 1.1 17"));
    }
    let expecting = s.sh(&inside(&format!("curl -sv -m 30 -H 'Expect: 100-continue' -d abc {URL}/echo"))).transcript();
    assert!(expecting.contains("< HTTP/1.1 100 Continue") && expecting.contains("POST /echo 3 bytes"), "{expecting}");
    let certificate = curl(&format!("{URL}/header/x-forwarded-client-cert"));
    let identity = |name: &str| format!("URI=spiffe://cluster.local/ns/{}/sa/{name}", s.namespace);
    let by = identity("server").replace("URI=", "By=");
    assert!(certificate.starts_with(&by) && certificate.contains(&identity("client")), "{certificate}");
    assert_eq!(script(s, "pipeline"), "GET /echo?1 0 bytes\nPOST /echo?2 3 bytes\nGET /echo?3 0 bytes");
    // Trailers of HTTP/1 are taken and not passed on, as long as no setting says otherwise.
    assert_eq!(script(s, "trailers"), "3 bytes, 0 trailers\n3 bytes, 0 trailers");
    assert_eq!(script(s, "websocket"), "101 echo: hello, echo: again");
    assert_eq!(script(s, "leave"), "gone");
    s.until_prints(&inside(&format!("curl -sS -m 30 {URL}/left")), "1 left");
}

fn load_is_carried_without_a_failure(s: &Session<'_>) {
    let Some(()) = servers(s) else { return };
    if testkit::program("h2load") {
        for version in ["", "--h1"] {
            let told = s.sh(&inside(&format!("h2load {version} -n 3000 -c 8 -m 8 {URL}/echo"))).ok();
            let line = "requests: 3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout";
            assert!(told.lines().any(|l| l == line), "{told}");
            assert!(told.contains("status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{told}");
        }
    }
    if testkit::program("wrk") {
        let told = s.sh(&inside(&format!("wrk -t 1 -c 8 -d 2s {URL}/echo"))).ok();
        assert!(told.contains("requests in") && !told.contains("Non-2xx") && !told.contains("Socket errors"), "{told}");
    }
}

fn a_gigabyte_goes_either_way(s: &Session<'_>) {
    const SIZE: u64 = 1 << 30;
    let Some(()) = servers(s) else { return };
    let down =
        s.sh(&inside(&format!("curl -sS -o /dev/null -w '%{{http_code}} %{{size_download}}' {URL}/bytes/{SIZE}")));
    assert_eq!(down.ok(), format!("200 {SIZE}"));
    let up = format!("sh -c 'head -c {SIZE} /dev/zero | curl -sS -T - {URL}/upload'");
    assert_eq!(s.sh(&inside(&up)).ok(), format!("PUT /upload {SIZE} bytes"));
}

fn calls_of_grpc_of_every_kind_are_answered(s: &Session<'_>) {
    let Some(()) = servers(s) else { return };
    if s.sh("python3 -c 'import grpc'").code != 0 {
        return testkit::skip("python3 has no module grpc (pip install grpcio)");
    }
    let told = until("an answer of the server of gRPC", Duration::from_secs(60), || {
        let done = s.sh(&inside("$(command -v python3) /scripts/client.py grpc"));
        (done.code == 0).then(|| done.stdout())
    });
    let identity = format!("spiffe://cluster.local/ns/{}/sa/client", s.namespace);
    assert_eq!(
        told,
        format!(
            "unary: hello\nserver: 0 1 2\nclient: 3\nboth: a b c\ntrailer: end\nfailure: NOT_FOUND nothing here\n\
             deadline: DEADLINE_EXCEEDED\nlarge: 3000000\ncalled by {identity}"
        )
    );
}

fn streams_that_a_server_refuses_go_elsewhere(s: &Session<'_>) {
    let Some(()) = servers(s) else { return };
    let ask = "curl -sS -m 30 --http2-prior-knowledge -w '%{http_code}' http://server:9001";
    // The server has done nothing with these: the first it resets, and behind the second it ends the connection.
    for path in ["/refused", "/goaway"] {
        assert_eq!(s.sh(&inside(&format!("{ask}{path}"))).ok(), "200", "{path}");
    }
}
