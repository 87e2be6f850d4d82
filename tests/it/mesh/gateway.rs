//! A gateway for callers outside of the cluster: servers of every kind, and who gets through them.

use std::time::Duration;

use testkit::{Done, Session, until};

super::alternately!(
    servers_of_every_kind_answer,
    whoever_may_not_pass_is_told_so,
    certificates_change_while_they_are_in_use,
);

const LIMIT: Duration = Duration::from_secs(60);

/// An authority and another one, a server's certificate, and clients': c1, c3 with c1's common name, one that is for
/// servers, and one of the other authority.
const CERTIFICATES: &str = r#"set -e
authority() { openssl req -x509 -sha256 -nodes -days 1 -newkey rsa:2048 -subj "/CN=$1" -keyout $1.key -out $1.crt; }
leaf() { # NAME AUTHORITY COMMON-NAME USAGE ALTERNATIVE-NAME
  printf 'extendedKeyUsage=%s\nsubjectAltName=critical,%s\nbasicConstraints=critical,CA:false\n' "$4" "$5" > $1.ext
  openssl req -new -sha256 -nodes -newkey rsa:2048 -subj "/CN=$3" -keyout $1.key -out $1.csr
  openssl x509 -req -days 1 -CA $2.crt -CAkey $2.key -set_serial ${6:-0} -in $1.csr -out $1.crt -extfile $1.ext
}
authority example; authority other
leaf edge example edge.example.com serverAuth DNS:edge.example.com 1
leaf edge2 example edge.example.com serverAuth DNS:edge.example.com 2
leaf c1 example c1.example.com clientAuth URI:spiffe://c1.example.com/gateway
leaf server example c1.example.com serverAuth URI:spiffe://c1.example.com/gateway
leaf stranger other c1.example.com clientAuth URI:spiffe://c1.example.com/gateway
"#;

const GATEWAY: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: LABEL}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [edge.example.com]}
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [edge.example.com]
    tls: {mode: SIMPLE, credentialName: edge-secret}
  - port: {number: 443, name: absent, protocol: HTTPS}
    hosts: [absent.example.com]
    tls: {mode: SIMPLE, credentialName: absent-secret}
  - port: {number: 8443, name: mutual, protocol: HTTPS}
    hosts: [edge.example.com]
    tls:
      mode: MUTUAL
      serverCertificate: /etc/istio/edge/tls.crt
      privateKey: /etc/istio/edge/tls.key
      caCertificates: /etc/istio/edge/ca.crt
  - {port: {number: 15443, name: tls, protocol: TLS}, hosts: [secure.example.com], tls: {mode: PASSTHROUGH}}
  - {port: {number: 31400, name: tcp, protocol: TCP}, hosts: ['*']}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: [edge.example.com, absent.example.com]
  gateways: [edge]
  http: [{route: [{destination: {host: httpbin, port: {number: 8000}}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: secure}
spec:
  hosts: [secure.example.com]
  gateways: [edge]
  tls:
  - match: [{port: 15443, sniHosts: [secure.example.com]}]
    route: [{destination: {host: secure, port: {number: 9443}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: ['*']
  gateways: [edge]
  tcp: [{match: [{port: 31400}], route: [{destination: {host: tcp-echo, port: {number: 9000}}}]}]
"#;

/// A server that ends TLS itself.
const SECURE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: secure}
spec: {selector: {app: secure}, ports: [{name: tls, port: 9443}]}
---
apiVersion: v1
kind: Pod
metadata: {name: secure, labels: {app: secure, sidecar.istio.io/inject: 'false'}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: certs, secret: {secretName: edge-secret}}]
  containers:
  - name: main
    image: busybox
    command: [openssl, s_server, -accept, '9443', -cert, /certs/tls.crt, -key, /certs/tls.key, -www, -quiet]
    volumeMounts: [{name: certs, mountPath: /certs}]
    readinessProbe: {tcpSocket: {port: 9443}, periodSeconds: 1}
"#;

fn has_tools() -> bool {
    ["openssl", "curl", "nc"].into_iter().all(testkit::program)
}

/// Gateways of every namespace select the pods, so that each test has a label of its own.
fn label(s: &Session<'_>) -> String {
    format!("edge-{}", s.namespace)
}

/// A gateway with its servers, before httpbin and tcp-echo. Returns the address that others know.
fn edge(s: &Session<'_>) -> String {
    s.write("certificates.sh", CERTIFICATES);
    s.sh("sh certificates.sh").ok();
    s.sh(&format!("kubectl label namespace {} istio-injection=enabled", s.namespace)).ok();
    s.sh("kubectl create secret tls edge-secret --cert edge.crt --key edge.key").ok();
    let files = "--from-file=tls.crt=edge.crt --from-file=tls.key=edge.key --from-file=ca.crt=example.crt";
    s.sh(&format!("kubectl create secret generic edge-files {files}")).ok();
    for sample in ["httpbin/httpbin.yaml", "tcp-echo/tcp-echo.yaml"] {
        s.sample(sample);
    }
    s.apply(SECURE);
    let ports = "--port http:80 --port https:443 --port mutual:8443 --port tls:15443:9443 --port tcp:31400";
    let place = format!("-n {} --label istio={}", s.namespace, label(s));
    let render = format!("$ISTHMUS gateway render edge {place} {ports} --secret-volume edge-files:/etc/istio/edge");
    s.sh(&format!("{render} | kubectl apply -f -")).ok();
    s.apply(&GATEWAY.replace("LABEL", &label(s)));
    s.sh("kubectl wait deployment --all --for=condition=Available --timeout=80s").ok();
    s.sh("kubectl wait pod secure --for=condition=Ready --timeout=60s").ok();
    s.sh("kubectl get service edge -o jsonpath='{.status.loadBalancer.ingress[0].ip}'").ok()
}

/// Runs a command on the network where load balancers answer.
fn outside(s: &Session<'_>, line: &str) -> Done {
    s.write("outside.sh", line);
    s.sh(&s.federation.command("run -- sh outside.sh"))
}

#[track_caller]
fn until_outside_prints(s: &Session<'_>, line: &str, expected: &str) {
    until(&format!("{expected:?} from {line}"), LIMIT, || (outside(s, line).stdout() == expected).then_some(()));
}

/// A request to `edge.example.com` at a port of the gateway; the status is printed.
fn curl(address: &str, scheme: &str, host: &str, port: u16, options: &str) -> String {
    format!(
        "curl -sS -m 20 -o /dev/null -w '%{{http_code}}' --cacert example.crt --resolve {host}:{port}:{address} {options} \
         {scheme}://{host}:{port}/status/418"
    )
}

fn servers_of_every_kind_answer(s: &Session<'_>) {
    if !has_tools() {
        return;
    }
    let address = edge(s);
    let host = "edge.example.com";
    until_outside_prints(s, &curl(&address, "http", host, 80, ""), "418");
    until_outside_prints(s, &curl(&address, "http", "other.example.com", 80, ""), "404");
    until_outside_prints(s, &curl(&address, "https", host, 443, "--http2"), "418");
    until_outside_prints(s, &curl(&address, "https", host, 443, "--http1.1"), "418");
    until_outside_prints(s, &curl(&address, "https", host, 8443, "--cert c1.crt --key c1.key"), "418");
    until_outside_prints(s, &format!("echo world | nc -w 5 {address} 31400"), "hello world");
    let subject = format!(
        "openssl s_client -connect {address}:15443 -servername secure.example.com </dev/null 2>/dev/null | \
         openssl x509 -noout -serial"
    );
    until_outside_prints(s, &subject, "serial=01");
    let pods = format!("kubectl get pod -l istio={}", label(s));
    let ready = "-o jsonpath='{.items[*].status.containerStatuses[*].ready}'";
    assert_eq!(s.sh(&format!("{pods} {ready}")).ok(), "true", "a gateway has one container");
    // From another cluster, if there is one.
    if s.sh("kubectl config get-contexts c2").code == 0 {
        s.sh(&format!("kubectl --context c2 create namespace {}", s.namespace)).ok();
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: far}, spec: {containers: [{name: main, image: busybox, command: [sleep, infinity]}]}}";
        s.sh(&format!("echo '{pod}' | kubectl --context c2 -n {} apply -f -", s.namespace)).ok();
        s.sh(&format!("kubectl --context c2 -n {} wait pod far --for=condition=Ready --timeout=60s", s.namespace)).ok();
        let exec = format!("kubectl --context c2 -n {} exec far -- sh -c", s.namespace);
        s.until_prints(&format!("{exec} 'echo far | nc -w 5 {address} 31400'"), "hello far");
        s.sh(&format!("kubectl --context c2 delete namespace {} --wait=false", s.namespace)).ok();
    }
}

fn whoever_may_not_pass_is_told_so(s: &Session<'_>) {
    if !has_tools() {
        return;
    }
    let address = edge(s);
    let mutual = |options: &str| curl(&address, "https", "edge.example.com", 8443, options);
    until_outside_prints(s, &mutual("--cert c1.crt --key c1.key"), "418");
    for (options, alert) in [
        ("", "certificate required"),
        ("-cert stranger.crt -key stranger.key", "unknown ca"),
        ("-cert server.crt -key server.key", "unsupported certificate"),
    ] {
        // A client of TLS 1.3 is done before its certificate is looked at: it has to listen for the verdict.
        let connect = format!("openssl s_client -connect {address}:8443 -servername edge.example.com -ign_eof");
        let said = outside(s, &format!("{connect} {options} </dev/null 2>&1")).fails();
        assert!(said.contains(&format!("alert {alert}")), "{options:?}: {said}");
    }
    // No server has this name, and nobody answers for it.
    outside(s, &curl(&address, "https", "nobody.example.com", 8443, "-k --cert c1.crt --key c1.key")).fails();
    let absent = curl(&address, "https", "absent.example.com", 443, "-k");
    outside(s, &absent).fails();
    let status = "kubectl get gateways.networking.istio.io edge -o jsonpath='{.status.validationMessages[*].message}'";
    until("the missing Secret to be told of", LIMIT, || {
        s.sh(status).stdout().contains("no Secret absent-secret").then_some(())
    });
    s.sh("kubectl create secret tls absent-secret --cert edge2.crt --key edge2.key").ok();
    until_outside_prints(s, &absent, "418");
}

fn certificates_change_while_they_are_in_use(s: &Session<'_>) {
    if !has_tools() {
        return;
    }
    let address = edge(s);
    let serial = |port: u16, options: &str| {
        format!(
            "openssl s_client -connect {address}:{port} -servername edge.example.com {options} </dev/null 2>/dev/null | \
             openssl x509 -noout -serial"
        )
    };
    let (simple, mutual) = (serial(443, ""), serial(8443, "-cert c1.crt -key c1.key"));
    until_outside_prints(s, &simple, "serial=01");
    until_outside_prints(s, &mutual, "serial=01");
    let request = |port, options| curl(&address, "https", "edge.example.com", port, options);
    let both = [request(443, ""), request(8443, "--cert c1.crt --key c1.key")].map(|line| format!("{line}; echo"));
    s.write("load.sh", &format!("while [ ! -e stop ]; do {}; done", both.join("; ")));
    let load = s.start(&s.federation.command("run -- sh load.sh"));
    load.line_with("418");
    let replace =
        |kind: &str| s.sh(&format!("kubectl create secret {kind} --dry-run=client -o yaml | kubectl apply -f -")).ok();
    replace("tls edge-secret --cert edge2.crt --key edge2.key");
    replace(
        "generic edge-files --from-file=tls.crt=edge2.crt --from-file=tls.key=edge2.key --from-file=ca.crt=example.crt",
    );
    until_outside_prints(s, &simple, "serial=02");
    until_outside_prints(s, &mutual, "serial=02");
    s.write("stop", "");
    let seen: Vec<String> = load.lines().into_iter().filter(|line| !line.is_empty()).collect();
    load.wait();
    assert!(seen.len() > 4 && seen.iter().all(|line| line == "418"), "{seen:?}");
    let restarts = "-o jsonpath='{.items[*].status.containerStatuses[*].restartCount}'";
    assert_eq!(s.sh(&format!("kubectl get pod -l istio={} {restarts}", label(s))).ok(), "0");
}
