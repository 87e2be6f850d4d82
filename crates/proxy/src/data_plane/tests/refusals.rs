//! Peers that must not get through, and what is said about them.

use std::io::Write;
use std::net::SocketAddr;

use testkit::until;

use super::authority::{Ca, Leaf, downstream, upstream};
use super::mutual::{CLIENT, SERVER, inbound, outbound};
use super::{LIMIT, Plane, ask, connect, echo, is_over, listener};
use crate::metrics::Scope;

/// A client with a bad certificate gets nothing, and the server says why.
fn refuse_client(leaf: impl Fn(&Ca) -> Leaf, reason: &str) {
    let ca = Ca::new("mesh");
    let (server, at) = inbound(&ca, &ca.spiffe(SERVER), "", echo("secret"));
    let (_client, address) = outbound(&ca, &leaf(&ca), SERVER, at);
    assert_eq!(ask(address, "x"), "");
    let line = server.logged("TLS_error");
    assert!(line.contains(reason), "{line}");
    assert_eq!(server.number(&Scope::Cluster("app".into()), "upstream_cx_total"), 0);
}

/// A server with a bad certificate gets nothing, and the client says why.
fn refuse_server(leaf: impl Fn(&Ca) -> Leaf, reason: &str) {
    let ca = Ca::new("mesh");
    let (_server, at) = inbound(&ca, &leaf(&ca), "", echo("secret"));
    let (client, address) = outbound(&ca, &ca.spiffe(CLIENT), SERVER, at);
    assert_eq!(ask(address, "x"), "");
    let line = client.logged("UF,URX");
    assert!(line.contains(&format!("up: TLS_error:_{reason}")), "{line}");
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    refuse_client(|_| Ca::new("other").spiffe(CLIENT), "from_an_unknown_authority");
    refuse_server(|_| Ca::new("other").spiffe(SERVER), "the_peer's_certificate_is_from_an_unknown_authority");
}

#[test]
fn an_identity_of_another_trust_domain_is_refused() {
    let other = "spiffe://elsewhere/ns/foo/sa/sleep";
    refuse_client(|ca| ca.spiffe(other), "the_peer's_identity_is_not_accepted:_spiffe://elsewhere/ns/foo/sa/sleep");
    refuse_server(|ca| ca.spiffe(other), "the_peer's_identity_is_not_accepted");
}

#[test]
fn a_common_name_is_no_identity() {
    refuse_client(|ca| ca.common_name(CLIENT), "has_no_identity");
    refuse_server(|ca| ca.common_name(SERVER), "the_peer's_certificate_has_no_identity");
}

#[test]
fn an_expired_certificate_is_refused() {
    refuse_client(|ca| ca.expired(CLIENT), "the_peer's_certificate_has_expired");
    refuse_server(|ca| ca.expired(SERVER), "the_peer's_certificate_has_expired");
}

#[test]
fn plain_text_to_tls_is_refused() {
    let ca = Ca::new("mesh");
    let (server, address) = inbound(&ca, &ca.spiffe(SERVER), "", echo("secret"));
    let answer = {
        let mut stream = connect(address);
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
        answer
    };
    assert!(!answer.windows(6).any(|w| w == b"secret"));
    server.logged("TLS_error");
    assert_eq!(server.number(&Scope::Listener("127.0.0.1_0".into()), "ssl.connection_error"), 1);
}

const ONLY_SLEEP: &str = "{name: rbac, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: tcp., rules: {policies: \
    {'ns[foo]-policy[p]-rule[0]': {permissions: [{any: true}], principals: [{authenticated: {principal_name: {exact: \
    'spiffe://cluster.local/ns/foo/sa/sleep'}}}]}}}, shadow_rules: {action: DENY, policies: {shadow: {permissions: \
    [{any: true}], principals: [{any: true}]}}}}}, ";

#[test]
fn who_is_not_allowed_learns_nothing_of_upstream() {
    let ca = Ca::new("mesh");
    let (server, at) = inbound(&ca, &ca.spiffe(SERVER), ONLY_SLEEP, echo("secret"));
    let (_one, allowed) = outbound(&ca, &ca.spiffe(CLIENT), SERVER, at);
    assert_eq!(ask(allowed, "!"), "secret!");
    let (_two, denied) = outbound(&ca, &ca.spiffe("spiffe://cluster.local/ns/bar/sa/sleep"), SERVER, at);
    let mut stream = connect(denied);
    stream.write_all(b"x").unwrap();
    assert!(is_over(&mut stream));
    server.logged("- rbac_access_denied_matched_policy[none]; ");
    let rbac = |name: &str| server.number(&Scope::Rbac("tcp.".into()), name);
    assert_eq!((rbac("allowed"), rbac("denied"), rbac("shadow_denied")), (1, 1, 2));
    assert_eq!(server.number(&Scope::Cluster("app".into()), "upstream_cx_total"), 1);
}

const NOT_HERE: &str = "{name: rbac, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: tcp., rules: {action: DENY, \
    policies: {'ns[foo]-policy[p]-rule[0]': {permissions: [{any: true}], principals: [{any: true}]}}}}}, ";

#[test]
fn a_denied_connection_is_closed_when_it_says_something() {
    let mut plane = Plane::start();
    let address: SocketAddr = plane.cluster("c", &[echo("secret")], "").simple("", NOT_HERE, "c").go();
    let mut stream = connect(address);
    until("the connection to be open", LIMIT, || (plane.plane.connections() == 1).then_some(()));
    assert!(plane.log().is_empty());
    stream.write_all(b"x").unwrap();
    assert!(is_over(&mut stream));
    plane.logged("- rbac_access_denied_matched_policy[ns[foo]-policy[p]-rule[0]]; ");
}

#[test]
fn a_secret_that_is_missing_is_named() {
    let ca = Ca::new("mesh");
    let (mut server, address) = inbound(&ca, &ca.spiffe(SERVER), "", echo("secret"));
    let removed = ["default", "ROOTCA"].map(str::to_owned).to_vec();
    let update = crate::Update { type_url: envoy::TypeUrl::Secret, resources: Vec::new(), removed };
    server.snapshot = server.snapshot.apply(update).0;
    server.go();
    until("connections to be refused for it", LIMIT, || {
        let mut stream = connect(address);
        stream.write_all(b"nonsense").unwrap();
        assert!(is_over(&mut stream));
        server.log().iter().any(|line| line.contains("_default_and_ROOTCA_have_not_been_supplied")).then_some(())
    });
}

/// Runs openssl in a folder; the output is what it says, whether or not it likes the outcome.
fn openssl(folder: &std::path::Path, arguments: &str) -> Option<String> {
    let mut command = std::process::Command::new("openssl");
    let output = command.args(arguments.split(' ')).current_dir(folder).stdin(std::process::Stdio::null()).output();
    let output = output.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_certificate_of_version_1_is_taken_where_no_identity_is_demanded() {
    let ca = Ca::new("mesh");
    let (mut server, address) = inbound(&ca, &ca.spiffe(SERVER), "", echo("secret"));
    let folder = tempfile::tempdir().unwrap();
    let signer = ca.issue(None, |_| {});
    std::fs::write(folder.path().join("ca.pem"), &ca.pem).unwrap();
    std::fs::write(folder.path().join("leaf.key"), &signer.key).unwrap();
    std::fs::write(folder.path().join("ca.key"), ca.key()).unwrap();
    let made = openssl(folder.path(), "req -new -key leaf.key -subj /CN=sleep -out leaf.csr").and_then(|_| {
        openssl(folder.path(), "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -out leaf.pem")
    });
    let version = openssl(folder.path(), "x509 -in leaf.pem -noout -text");
    if made.is_none() || !version.is_some_and(|text| text.contains("Version: 1 ")) {
        return testkit::skip("an openssl that makes certificates of version 1");
    }
    let answer = openssl(folder.path(), &format!("s_client -connect {address} -cert leaf.pem -key leaf.key"));
    assert!(!answer.unwrap_or_default().contains("secret"));
    server.logged("TLS_error:_the_peer's_certificate_is_X.509_v1");
    let tcp = server.tcp("cluster: app", "");
    let tls = downstream("").replace("{san_type: URI, matcher: {prefix: 'spiffe://cluster.local/'}}", "");
    let address = server.listener(&listener("in", "127.0.0.1", "", &[format!("{{{tls}filters: [{tcp}]}}")])).go();
    let leaf = Leaf { chain: std::fs::read_to_string(folder.path().join("leaf.pem")).unwrap(), key: signer.key };
    for version in ["TLSv1_2", "TLSv1_3"] {
        let mut client = Plane::start();
        let rest = format!(", tls_params: {{tls_maximum_protocol_version: {version}}}");
        let socket = format!("transport_socket: {}", upstream(SERVER, "istio", &rest));
        client.secret(&leaf.secret()).secret(&ca.trust()).cluster("out", &[address], &socket);
        assert_eq!(ask(client.simple("", "", "out").go(), "!"), "secret!", "{version}");
    }
    server.secret(&Ca::new("other").trust()).go();
    let (_client, address) = outbound(&ca, &leaf, SERVER, address);
    until("another authority to be trusted", LIMIT, || {
        ask(address, "!");
        server.log().iter().any(|line| line.contains("from_an_unknown_authority")).then_some(())
    });
}

/// What a client of TLS says first.
fn client_hello() -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut client = rustls::ClientConnection::new(config.into(), "echo.foo".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn broken_handshakes_harm_nobody_else() {
    let ca = Ca::new("mesh");
    let (server, at) = inbound(&ca, &ca.spiffe(SERVER), "", echo(""));
    let hello = client_hello();
    let flipped = (0..hello.len()).step_by(7).map(|i| {
        let mut flipped = hello.clone();
        flipped[i] ^= 0x5a;
        flipped
    });
    let followed = [&[][..], &[0x16, 3, 3, 0, 1, 0], &[0x17, 3, 3, 0, 2, 1, 2], &[0xff; 300], &hello];
    let followed = followed.map(|rest| [&hello, rest].concat());
    let halves = [1, 5, 6, 100].map(|length| hello[..length].to_vec());
    for bytes in flipped.chain(followed).chain(halves) {
        let mut stream = connect(at);
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
    let (_client, address) = outbound(&ca, &ca.spiffe(CLIENT), SERVER, at);
    for _ in 0..8 {
        assert_eq!(ask(address, "still here"), "still here");
    }
    let active = Scope::Listener("127.0.0.1_0".into());
    until("every connection to end", LIMIT, || (server.number(&active, "downstream_cx_active") == 0).then_some(()));
    // A connection whose task had failed would have left no line.
    let begun = server.number(&Scope::Tcp("tcp".into()), "downstream_cx_total");
    until("a line for every connection", LIMIT, || (server.log().len() as u64 == begun).then_some(()));
    assert_eq!(server.number(&Scope::Cluster("app".into()), "upstream_cx_total"), 8);
}
