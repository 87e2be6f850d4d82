//! Clients of others, and this proxy as their server.

use std::net::SocketAddr;
use std::sync::LazyLock;

use super::super::authority::Leaf;
use super::super::{INSPECTOR, Plane, echo, listener};
use super::program::Program;
use super::{ECDSA, Files, NAME, NEWER, RSA};

static FILES: LazyLock<Files> = LazyLock::new(Files::new);

/// All that Istio lets one choose from, and what it chooses itself is a part of.
const EVERY_SUITE: &str = "cipher_suites: [ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-RSA-AES256-GCM-SHA384, \
    ECDHE-ECDSA-AES128-GCM-SHA256, ECDHE-RSA-AES128-GCM-SHA256, ECDHE-ECDSA-CHACHA20-POLY1305, \
    ECDHE-RSA-CHACHA20-POLY1305, AES256-GCM-SHA384, AES128-GCM-SHA256]";

/// What a server is like: its certificate, its parameters, its application protocols, whether it asks who the client is.
struct Server {
    plane: Plane,
    address: SocketAddr,
}

fn server(key: &str, parameters: &str, alpn: &str, mutual: bool) -> Server {
    let Leaf { chain, key } = FILES.leaf(key);
    let validation = match mutual {
        true => format!("validation_context: {{trusted_ca: {{inline_string: {:?}}}}}, ", FILES.ca.pem),
        false => String::new(),
    };
    let tls = format!(
        "transport_socket: {{name: tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, \
         require_client_certificate: {mutual}, common_tls_context: {{{validation}tls_certificates: [{{certificate_chain: \
         {{inline_string: {chain:?}}}, private_key: {{inline_string: {key:?}}}}}], tls_params: {{{parameters}}}, \
         alpn_protocols: [{alpn}]}}}}}}, "
    );
    let mut plane = Plane::start();
    let tcp = plane.tcp("cluster: app", "");
    plane.cluster("app", &[echo("")], "");
    let chain = format!("{{name: tls, {tls}filters: [{tcp}]}}");
    let address = plane.listener(&listener("in", "127.0.0.1", INSPECTOR, &[chain])).go();
    Server { plane, address }
}

impl Server {
    /// What OpenSSL's client makes of it: whether the session is new, version, suite, application protocol, and the echo;
    /// or the alert that it is told.
    fn openssl(&self, options: &str) -> String {
        let line = format!(
            "openssl s_client -connect {} -servername {NAME} -verify_hostname {NAME} -CAfile ca.pem -verify_return_error {options}",
            self.address
        );
        let mut program = Program::start(FILES.folder.path(), &line);
        program.say("hello");
        let mut lines = program.until("hello");
        // What is echoed may come amid a line about the session.
        let echoed = lines.last().is_some_and(|line| line.ends_with("hello"));
        lines.extend(program.finish());
        if !echoed {
            let number = |line: &String| Some(line.rsplit_once("SSL alert number ")?.1.to_owned());
            return lines.iter().find_map(number).map_or_else(|| lines.join("\n"), |number| format!("alert {number}"));
        }
        let session = |line: &String| {
            let (state, rest) = line.split_once(", ").filter(|(state, _)| matches!(*state, "New" | "Reused"))?;
            Some(format!("{state} {}", rest.replace(", Cipher is", "")))
        };
        let protocol = lines.iter().find_map(|line| line.strip_prefix("ALPN protocol: ")).unwrap_or("-");
        format!("{} {protocol}", lines.iter().find_map(session).unwrap_or_default())
    }

    /// The same of GnuTLS's, whose words are its own.
    fn gnutls(&self, priority: &str, options: &str) -> String {
        let (host, port) = (self.address.ip(), self.address.port());
        let line = format!(
            "gnutls-cli --x509cafile=ca.pem --sni-hostname={NAME} --verify-hostname={NAME} --port={port} \
             --priority='{priority}' {options} {host}"
        );
        let mut program = Program::start(FILES.folder.path(), &line);
        let mut lines = program.until("Simple Client Mode");
        program.say("hello");
        lines.extend(program.until("hello"));
        let echoed = lines.last().is_some_and(|line| line == "hello");
        lines.extend(program.finish());
        if !echoed {
            let alert = |line: &String| Some(line.split_once("Received alert [")?.1.split_once(']')?.0.to_owned());
            return lines.iter().find_map(alert).map_or_else(|| lines.join("\n"), |number| format!("alert {number}"));
        }
        lines.join("\n")
    }
}

#[track_caller]
fn all_are(found: Vec<(String, String, String)>) {
    let wrong: Vec<_> = found.into_iter().filter(|(_, expected, found)| expected != found).collect();
    let told = wrong.iter().map(|(case, expected, found)| format!("{case}\n  expected {expected}\n  found {found}"));
    assert!(wrong.is_empty(), "\n{}", told.collect::<Vec<_>>().join("\n"));
}

#[test]
fn clients_of_openssl_agree_on_every_suite() {
    if !testkit::program("openssl") {
        return;
    }
    let mut found = Vec::new();
    for (key, suites) in [("ecdsa", &ECDSA), ("rsa", &RSA)] {
        let server = server(key, EVERY_SUITE, "h2, http/1.1", false);
        for suite in suites {
            let name = suite.openssl;
            let told = server.openssl(&format!("-tls1_2 -cipher {name} -alpn h2,http/1.1"));
            found.push((format!("{key} {name}"), format!("New TLSv1.2 {name} h2"), told));
        }
        for suite in &NEWER {
            let name = suite.openssl;
            let told = server.openssl(&format!("-tls1_3 -ciphersuites {name} -alpn http/1.1"));
            found.push((format!("{key} {name}"), format!("New TLSv1.3 {name} http/1.1"), told));
        }
        for group in ["X25519", "P-256", "P-384", "P-521:P-256"] {
            let told = server.openssl(&format!("-groups {group} -ciphersuites TLS_AES_128_GCM_SHA256"));
            found.push((format!("{key} {group}"), "New TLSv1.3 TLS_AES_128_GCM_SHA256 -".to_owned(), told));
        }
    }
    all_are(found);
}

#[test]
fn clients_of_openssl_are_refused_with_the_alert_that_says_why() {
    if !testkit::program("openssl") {
        return;
    }
    let newer = "tls_minimum_protocol_version: TLSv1_3";
    let older = "tls_maximum_protocol_version: TLSv1_2";
    let one = "cipher_suites: [ECDHE-ECDSA-AES128-GCM-SHA256]";
    // Numbers of RFC 8446's alerts: 40 handshake_failure, 70 protocol_version.
    let cases = [
        ("an old client", newer, "-tls1_2", "alert 70"),
        ("a new client", older, "-tls1_3", "alert 70"),
        // Clients that old name no signature algorithms, and that is seen first.
        ("TLS 1.1", "", "-tls1_1 -cipher DEFAULT@SECLEVEL=0", "alert 40"),
        ("TLS 1.0", "", "-tls1 -cipher DEFAULT@SECLEVEL=0", "alert 40"),
        ("another suite", one, "-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384", "alert 40"),
        ("a suite for another key", "", "-tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384", "alert 40"),
        ("a suite without forward secrecy", EVERY_SUITE, "-tls1_2 -cipher AES256-GCM-SHA384", "alert 40"),
        ("no group in common", "", "-tls1_3 -groups P-521", "alert 40"),
        (
            "another protocol",
            "",
            "-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256 -alpn h3",
            "New TLSv1.3 TLS_AES_128_GCM_SHA256 -",
        ),
        ("the suite", one, "-tls1_2", "New TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 -"),
        (
            "the older version",
            older,
            "-cipher ECDHE-ECDSA-AES128-GCM-SHA256",
            "New TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 -",
        ),
    ];
    let told = cases.map(|(case, parameters, options, expected)| {
        let server = server("ecdsa", parameters, "h2", false);
        (case.to_owned(), expected.to_owned(), server.openssl(options))
    });
    all_are(told.into());
}

#[test]
fn clients_of_openssl_show_who_they_are() {
    if !testkit::program("openssl") {
        return;
    }
    let server = server("rsa", "", "", true);
    let stranger = super::Ca::new("stranger").issue(None, |_| {});
    FILES.write_leaf("stranger", &stranger);
    FILES.write_leaf("expired", &FILES.ca.expired("spiffe://cluster.local/ns/foo/sa/old"));
    let mut found = Vec::new();
    for (version, suite) in [("-tls1_2", "ECDHE-RSA-AES256-GCM-SHA384"), ("-tls1_3", "TLS_AES_256_GCM_SHA384")] {
        let agreed = format!("New {} {suite} -", version.replace("-tls1_", "TLSv1."));
        // 45 certificate_expired, 48 unknown_ca, 116 certificate_required, which older clients are told, too.
        for (who, expected) in [
            ("ecdsa", agreed.as_str()),
            ("rsa", &agreed),
            ("stranger", "alert 48"),
            ("expired", "alert 45"),
            ("", "alert 116"),
        ] {
            let options = if who.is_empty() { String::new() } else { format!("-cert {who}.pem -key {who}.key") };
            let ciphers = if version == "-tls1_2" { "-cipher" } else { "-ciphersuites" };
            let told = server.openssl(&format!("{version} {ciphers} {suite} {options}"));
            found.push((format!("{version} {who:?}"), expected.to_owned(), told));
        }
    }
    all_are(found);
}

#[test]
fn sessions_of_openssl_are_resumed() {
    if !testkit::program("openssl") {
        return;
    }
    let server = server("ecdsa", "", "", false);
    let mut found = Vec::new();
    for (case, options) in [("tickets", "-tls1_2"), ("ids", "-tls1_2 -no_ticket"), ("newer", "-tls1_3")] {
        for (use_of_it, expected) in [("-sess_out", "New"), ("-sess_in", "Reused")] {
            let told = server.openssl(&format!("{options} {use_of_it} {case}.session"));
            let state = told.split(' ').next().unwrap_or_default().to_owned();
            found.push((format!("{case} {use_of_it}"), expected.to_owned(), state));
        }
    }
    all_are(found);
    server.plane.reaches("app", "upstream_cx_total", 6);
}

#[test]
fn clients_of_gnutls_agree_on_every_suite() {
    if !testkit::program("gnutls-cli") {
        return;
    }
    for (key, suites) in [("ecdsa", &ECDSA), ("rsa", &RSA)] {
        let server = server(key, EVERY_SUITE, "h2, http/1.1", false);
        let alpn = "--alpn=h2 --alpn=http/1.1";
        for suite in suites {
            let (_, cipher) = suite.priority.split_once(":").unwrap();
            let kept = suite.priority.split_once(':').unwrap().0;
            let priority = format!("NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:{kept}:-CIPHER-ALL:{cipher}");
            let told = server.gnutls(&priority, alpn);
            for part in ["(TLS1.2", suite.gnutls, "protocol: h2"] {
                assert!(told.contains(part), "{key} {}: {part} in {told}", suite.openssl);
            }
        }
        for suite in &NEWER {
            let priority = format!("NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:{}", suite.priority);
            let told = server.gnutls(&priority, alpn);
            for part in ["(TLS1.3", suite.gnutls, "protocol: h2"] {
                assert!(told.contains(part), "{key} {}: {part} in {told}", suite.openssl);
            }
        }
    }
}

#[test]
fn clients_of_gnutls_are_refused_known_and_resumed() {
    if !testkit::program("gnutls-cli") {
        return;
    }
    let newer = server("ecdsa", "tls_minimum_protocol_version: TLSv1_3", "", false);
    assert_eq!(newer.gnutls("NORMAL:-VERS-ALL:+VERS-TLS1.2", ""), "alert 70");
    let older = server("ecdsa", "tls_maximum_protocol_version: TLSv1_2", "", false);
    assert_eq!(older.gnutls("NORMAL:-VERS-ALL:+VERS-TLS1.3", ""), "alert 70");
    let mutual = server("ecdsa", "", "", true);
    for version in ["1.2", "1.3"] {
        let priority = format!("NORMAL:-VERS-ALL:+VERS-TLS{version}");
        let told = mutual.gnutls(&priority, "--x509certfile=rsa.pem --x509keyfile=rsa.key");
        assert!(told.contains(&format!("(TLS{version}")), "{told}");
        assert_eq!(mutual.gnutls(&priority, ""), "alert 116");
    }
    // With TLS 1.3 the program says nothing before it has a ticket, and tickets go out with the first answer.
    let told = server("rsa", "", "", false).gnutls("NORMAL:-VERS-ALL:+VERS-TLS1.2", "--resume --waitresumption");
    assert!(told.contains("*** This is a resumed session"), "{told}");
}
