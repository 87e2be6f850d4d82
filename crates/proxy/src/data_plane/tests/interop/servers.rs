//! Servers of others, and this proxy as their client.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::LazyLock;

use testkit::until;

use super::super::authority::Leaf;
use super::super::{LIMIT, Plane, connect, nobody};
use super::program::Program;
use super::{ECDSA, Files, NAME, NEWER, RSA};

static FILES: LazyLock<Files> = LazyLock::new(Files::new);

/// A proxy to a server of TLS, and that server, which tells of each connection what it is like.
struct Client {
    plane: Plane,
    address: SocketAddr,
    _server: Program,
}

/// A server that is `command`, in which `PORT` stands for where it is to listen.
fn client(command: &str, parameters: &str, alpn: &str) -> Client {
    let (program, server) = until("a server at a port that nobody else has taken", LIMIT, || {
        let server = nobody();
        let line = command.replace("PORT", &server.port().to_string());
        let program = Program::start(FILES.folder.path(), &line);
        let listens = || std::net::TcpStream::connect(server).ok();
        testkit::look_for(LIMIT / 3, listens).map(|_| (program, server))
    });
    let Leaf { chain, key } = &FILES.ecdsa;
    let ca = &FILES.ca.pem;
    let socket = format!(
        "transport_socket: {{name: tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: {NAME}, \
         common_tls_context: {{tls_certificates: [{{certificate_chain: {{inline_string: {chain:?}}}, private_key: \
         {{inline_string: {key:?}}}}}], validation_context: {{trusted_ca: {{inline_string: {ca:?}}}, \
         match_typed_subject_alt_names: [{{san_type: DNS, matcher: {{exact: {NAME}}}}}]}}, tls_params: {{{parameters}}}, \
         alpn_protocols: [{alpn}]}}}}}}"
    );
    let mut plane = Plane::start();
    plane.cluster("out", &[server], &socket);
    let address = plane.simple("", "", "out").go();
    Client { plane, address, _server: program }
}

impl Client {
    /// The page of a server that shows what it knows of the connection.
    fn page(&self) -> String {
        let mut stream = connect(self.address);
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut page = Vec::new();
        // A server that ends without a goodbye has said all the same.
        let _ = stream.read_to_end(&mut page);
        String::from_utf8_lossy(&page).into_owned()
    }

    #[track_caller]
    fn sees(&self, case: &str, parts: &[&str]) {
        let page = self.page();
        for part in parts {
            assert!(page.contains(part), "{case}: {part:?} in {page:?} {:?}", self.plane.log());
        }
    }

    /// What the log says about why nothing was agreed.
    fn failure(&self) -> String {
        assert_eq!(self.page(), "");
        let line = self.plane.logged("up: ");
        line.split_once("up: ").unwrap().1.split_once("; ").unwrap().0.to_owned()
    }
}

fn openssl(key: &str, options: &str) -> String {
    format!("openssl s_server -accept 127.0.0.1:PORT -www -cert {key}.pem -key {key}.key {options}")
}

fn gnutls(key: &str, priority: &str, options: &str) -> String {
    format!(
        "gnutls-serv --port=PORT --http --disable-client-cert --x509certfile={key}.pem --x509keyfile={key}.key \
         --priority='{priority}' {options}"
    )
}

#[test]
fn servers_of_openssl_agree_on_every_suite() {
    if !testkit::program("openssl") {
        return;
    }
    for (key, suites) in [("ecdsa", &ECDSA), ("rsa", &RSA)] {
        for suite in suites {
            let name = suite.openssl;
            let client =
                client(&openssl(key, &format!("-tls1_2 -cipher {name}")), "tls_maximum_protocol_version: TLSv1_3", "");
            client.sees(name, &[&format!("New, TLSv1.2, Cipher is {name}")]);
        }
        for suite in &NEWER {
            let name = suite.openssl;
            let options = format!("-tls1_3 -ciphersuites {name}");
            let client = client(&openssl(key, &options), "tls_maximum_protocol_version: TLSv1_3", "");
            client.sees(name, &[&format!("New, TLSv1.3, Cipher is {name}")]);
        }
    }
}

#[test]
fn servers_of_openssl_choose_a_protocol_and_ask_who_we_are() {
    if !testkit::program("openssl") {
        return;
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let options = format!("{version} -alpn http/1.1,h2 -Verify 1 -verify_return_error -CAfile ca.pem");
        let client = client(&openssl("ecdsa", &options), "tls_maximum_protocol_version: TLSv1_3", "h2, http/1.1");
        client.sees(version, &["New, TLSv1.", "Client certificate"]);
        // What was agreed holds for the next connection, too.
        until("a resumed session", LIMIT, || client.page().contains("Reused, TLSv1.").then_some(()));
    }
}

#[test]
fn servers_that_will_not_do_are_refused() {
    if !testkit::program("openssl") {
        return;
    }
    FILES.write_leaf("stranger", &super::Ca::new("stranger").issue(None, |_| {}));
    FILES.write_leaf("other", &FILES.ca.spiffe("spiffe://cluster.local/ns/foo/sa/other"));
    let both = "tls_maximum_protocol_version: TLSv1_3";
    let cases = [
        (
            "an old server",
            openssl("ecdsa", "-tls1_1 -cipher DEFAULT@SECLEVEL=0"),
            both,
            "refused_the_handshake:_ProtocolVersion",
        ),
        (
            "a new server",
            openssl("ecdsa", "-tls1_3"),
            "tls_maximum_protocol_version: TLSv1_2",
            "refused_the_handshake:_ProtocolVersion",
        ),
        (
            "another suite",
            openssl("rsa", "-tls1_2 -cipher ECDHE-RSA-AES128-SHA"),
            both,
            "refused_the_handshake:_HandshakeFailure",
        ),
        ("another protocol", openssl("ecdsa", "-alpn h2"), both, "refused_the_handshake:_NoApplicationProtocol"),
        ("another authority", openssl("stranger", ""), both, "is_from_an_unknown_authority"),
        ("another name", openssl("other", ""), both, "identity_is_not_accepted"),
    ];
    let told = cases.map(|(case, command, parameters, expected)| {
        (case, expected, client(&command, parameters, "http/1.1").failure())
    });
    let wrong: Vec<_> = told.iter().filter(|(_, expected, found)| !found.contains(expected)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn servers_of_gnutls_agree_on_every_suite() {
    if !testkit::program("gnutls-serv") {
        return;
    }
    let both = "tls_maximum_protocol_version: TLSv1_3";
    for (key, suites) in [("ecdsa", &ECDSA), ("rsa", &RSA)] {
        for suite in suites {
            let (exchange, cipher) = suite.priority.split_once(':').unwrap();
            let priority = format!("NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:{exchange}:-CIPHER-ALL:{cipher}");
            let client = client(&gnutls(key, &priority, ""), both, "");
            client.sees(suite.openssl, &["TLS1.2", suite.gnutls.trim_matches(['(', ')'])]);
        }
        for suite in &NEWER {
            let priority = format!("NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:{}", suite.priority);
            let client = client(&gnutls(key, &priority, "--alpn=h2"), both, "h2");
            client.sees(suite.openssl, &["TLS1.3", suite.gnutls.trim_matches(['(', ')'])]);
        }
    }
}
