//! Who gets through a gateway: each server trusts the authority that it names, for the identities that it names.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pki::Certificate;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{Ca, Leaf};
use super::{LIMIT, Plane, connect, echo, listener};

const C1: &str = "spiffe://c1.example.com/istio-private-egressgateway";
const C2: &str = "spiffe://c2.example.com/istio-private-egressgateway";
const C3: &str = "spiffe://c3.example.com/istio-private-egressgateway";
const C4: &str = "spiffe://c4.example.com/istio-private-egressgateway";
const LOCAL: &str = "spiffe://cluster.local/ns/istio-private-gateways/sa/istio-private-egressgateway-service-account";
const NAME: &str = "c2.example.com";

/// A gateway whose certificate is from `own`, before a server that says `welcome`.
struct Gateway {
    plane: Plane,
    own: Ca,
    ports: u8,
}

impl Gateway {
    fn new() -> Gateway {
        let own = Ca::new("the gateway's own");
        let mut plane = Plane::start();
        plane.secret(&shown(&own).secret()).cluster("app", &[echo("welcome")], "");
        Gateway { plane, own, ports: 0 }
    }

    /// Opens a port; `demands` is a validation context.
    fn port(&mut self, name: &str, demands: &str, required: bool, filters: &str) {
        let tcp = self.plane.tcp("cluster: app", "");
        let tls = format!(
            "transport_socket: {{name: tls, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, \
             require_client_certificate: {required}, common_tls_context: {{tls_certificate_sds_secret_configs: \
             [{{name: default, sds_config: {{ads: {{}}}}}}], {demands}}}}}}}, "
        );
        let chain = format!("{{name: {name}, {tls}filters: [{filters}{tcp}]}}");
        // The kernel chooses the number, so that each port has an address of its own.
        self.ports += 1;
        self.plane.listener(&listener(name, &format!("127.0.0.{}", self.ports), "", &[chain]));
    }

    fn open(&mut self) {
        let unbound = self.plane.install();
        assert!(unbound.is_empty(), "{unbound:?}");
    }

    fn address(&self, port: &str) -> SocketAddr {
        self.plane.plane.addresses()[port]
    }

    /// What a client hears at a port, or why it hears nothing.
    fn answer(&self, port: &str, client: Option<&Leaf>) -> Result<String, String> {
        call(self.address(port), &self.client(client))
    }

    fn client(&self, client: Option<&Leaf>) -> Arc<ClientConfig> {
        let client = client.map(|leaf| Certificate { chain_pem: leaf.chain.clone(), key_pem: Some(leaf.key.clone()) });
        pki::client_config(&self.own.pem, client.as_ref()).unwrap()
    }
}

fn shown(ca: &Ca) -> Leaf {
    ca.issue(None, |params| params.subject_alt_names = vec![SanType::DnsName(NAME.try_into().unwrap())])
}

fn call(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<String, String> {
    let connection = ClientConnection::new(config.clone(), NAME.try_into().unwrap()).unwrap();
    let mut stream: StreamOwned<_, TcpStream> = StreamOwned::new(connection, connect(address));
    let mut answer = [0; 8];
    let said = stream.write_all(b"!").and_then(|()| stream.flush()).and_then(|()| stream.read_exact(&mut answer));
    said.map(|()| String::from_utf8_lossy(&answer).into_owned()).map_err(|e| e.to_string())
}

/// Demands a certificate of `ca` with one of `names`.
fn demands(ca: &Ca, names: &[&str]) -> String {
    let names: Vec<String> =
        names.iter().map(|name| format!("{{san_type: URI, matcher: {{exact: {name:?}}}}}")).collect();
    let pem = &ca.pem;
    format!(
        "validation_context: {{trusted_ca: {{inline_string: {pem:?}}}, match_typed_subject_alt_names: [{}]}}",
        names.join(", ")
    )
}

/// Lets in nobody but `id`.
fn only(id: &str) -> String {
    format!(
        "{{name: rbac, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, \
         stat_prefix: tcp., rules: {{policies: {{peer: {{permissions: [{{any: true}}], principals: [{{authenticated: \
         {{principal_name: {{exact: {id:?}}}}}}}]}}}}}}}}}}, "
    )
}

#[test]
fn an_authority_vouches_for_its_own_identity_at_its_own_port_alone() {
    let authorities = ["c1", "c4", "mesh", "stranger"].map(|name| (name, Ca::new(name)));
    let [(_, ca1), (_, ca4), (_, mesh), _] = &authorities;
    let mut gateway = Gateway::new();
    gateway.port("for-c1", &demands(ca1, &[C1]), true, "");
    gateway.port("for-c4", &demands(ca4, &[C4]), true, "");
    gateway.port("for-mesh", &demands(mesh, &[LOCAL]), true, "");
    gateway.open();
    let allowed = [("c1", C1, "for-c1"), ("c4", C4, "for-c4"), ("mesh", LOCAL, "for-mesh")];
    let mut passed = Vec::new();
    for (signer, ca) in &authorities {
        for id in [C1, C2, C3, C4, LOCAL] {
            let leaf = ca.spiffe(id);
            for port in ["for-c1", "for-c4", "for-mesh"] {
                if gateway.answer(port, Some(&leaf)).is_ok() {
                    passed.push((*signer, id, port));
                }
            }
        }
        let common_name = ca.common_name("c1.example.com");
        assert!(gateway.answer("for-c1", Some(&common_name)).is_err(), "a common name is no identity");
    }
    assert_eq!(passed, allowed);
}

/// As in meshes whose gateways share an authority: the identity decides, never the common name.
#[test]
fn where_peers_share_an_authority_a_rule_tells_them_apart() {
    let ca = Ca::new("example.com");
    let mut gateway = Gateway::new();
    gateway.port("http", &demands(&ca, &[]), true, &only(C1));
    gateway.port("tcp", &demands(&ca, &[]), true, &only(C4));
    gateway.open();
    let mut passed = Vec::new();
    for id in [C1, C2, C3, C4] {
        let leaf = ca.issue(Some(id), |params| {
            params.distinguished_name.push(rcgen::DnType::CommonName, "c1.example.com");
        });
        for port in ["http", "tcp"] {
            if gateway.answer(port, Some(&leaf)).is_ok() {
                passed.push((id, port));
            }
        }
    }
    assert_eq!(passed, [(C1, "http"), (C4, "tcp")]);
    gateway.plane.logged(&format!("rbac_access_denied_matched_policy[none]; up: -; down: -; peer: {C4}"));
}

#[test]
fn a_port_for_several_peers_keeps_their_authorities_apart() {
    let (ca1, ca4) = (Ca::new("c1"), Ca::new("c4"));
    let domain = |name: &str, ca: &Ca| format!("{{name: {name}, trust_bundle: {{inline_string: {:?}}}}}", ca.pem);
    let validator = format!(
        "validation_context: {{custom_validator_config: {{name: spiffe, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig, trust_domains: [{}, \
         {}]}}}}}}",
        domain("c1.example.com", &ca1),
        domain("c4.example.com", &ca4)
    );
    let mut gateway = Gateway::new();
    gateway.port("both", &validator, true, "");
    gateway.open();
    let passes = |ca: &Ca, id| gateway.answer("both", Some(&ca.spiffe(id))).is_ok();
    assert!(passes(&ca1, C1) && passes(&ca4, C4));
    assert!(!passes(&ca1, C4) && !passes(&ca4, C1), "it vouches for its own domain alone");
    assert!(!passes(&ca1, C2) && !passes(&ca1, LOCAL));
}

#[test]
fn whoever_is_refused_is_told_why_as_tls_has_it() {
    let ca = Ca::new("example.com");
    let mut gateway = Gateway::new();
    gateway.port("in", &demands(&ca, &[C1]), true, "");
    gateway.open();
    let purpose = |purpose| ca.issue(Some(C1), |params| params.extended_key_usages = vec![purpose]);
    let refused = |client: Option<&Leaf>, alert: &str, logged: &str| {
        let error = gateway.answer("in", client).unwrap_err();
        assert!(error.ends_with(&format!("received fatal alert: {alert}")), "{error}");
        gateway.plane.logged(&format!("down: TLS_error:_{logged}"));
    };
    refused(None, "CertificateRequired", "the_peer_has_no_certificate");
    refused(Some(&ca.expired(C1)), "CertificateExpired", "the_peer's_certificate_has_expired");
    refused(Some(&Ca::new("other").spiffe(C1)), "UnknownCA", "the_peer's_certificate_is_from_an_unknown_authority");
    let server = purpose(ExtendedKeyUsagePurpose::ServerAuth);
    refused(Some(&server), "UnsupportedCertificate", "the_peer's_certificate_is_not_for_this_purpose");
    let other = ca.spiffe(C3);
    refused(Some(&other), "CertificateUnknown", &format!("the_peer's_identity_is_not_accepted:_{C3}"));
    assert_eq!(gateway.answer("in", Some(&purpose(ExtendedKeyUsagePurpose::ClientAuth))).as_deref(), Ok("welcome!"));
}

#[test]
fn a_certificate_that_is_optional_must_be_good_if_there_is_one() {
    let ca = Ca::new("example.com");
    let mut gateway = Gateway::new();
    gateway.port("in", &demands(&ca, &[]), false, "");
    gateway.open();
    assert_eq!(gateway.answer("in", None).as_deref(), Ok("welcome!"));
    gateway.plane.logged("down: -; peer: -;");
    assert_eq!(gateway.answer("in", Some(&ca.spiffe(C1))).as_deref(), Ok("welcome!"));
    gateway.plane.logged(&format!("peer: {C1}"));
    assert!(gateway.answer("in", Some(&Ca::new("other").spiffe(C1))).is_err());
}

#[test]
fn a_certificate_may_be_demanded_by_its_hash() {
    let ca = Ca::new("example.com");
    let leaves = [ca.spiffe(C1), ca.spiffe(C2), ca.spiffe(C3)];
    let der = |leaf: &Leaf| CertificateDer::from_pem_slice(leaf.chain.as_bytes()).unwrap();
    let whole: String = Sha256::digest(der(&leaves[0])).iter().map(|byte| format!("{byte:02X}:")).collect();
    let second = der(&leaves[1]);
    let (_, second) = X509Certificate::from_der(&second).unwrap();
    let key = BASE64_STANDARD.encode(Sha256::digest(second.public_key().raw));
    let pins =
        format!("verify_certificate_hash: ['{}'], verify_certificate_spki: ['{key}']", whole.trim_end_matches(':'));
    let mut gateway = Gateway::new();
    gateway.port("in", &demands(&ca, &[]).replace("match_typed", &format!("{pins}, match_typed")), true, "");
    gateway.open();
    let passes: Vec<bool> = leaves.iter().map(|leaf| gateway.answer("in", Some(leaf)).is_ok()).collect();
    assert_eq!(passes, [true, true, false]);
    gateway.plane.logged("the_peer's_certificate_is_none_of_those_that_are_demanded_by_hash");
}

#[test]
fn no_session_outlives_what_it_was_trusted_for() {
    let (ca1, ca4) = (Ca::new("c1"), Ca::new("c4"));
    let trust = "validation_context_sds_secret_config: {name: ROOTCA, sds_config: {ads: {}}}";
    let mut gateway = Gateway::new();
    gateway.plane.secret(&ca1.trust());
    gateway.port("in", trust, true, "");
    gateway.open();
    let address = gateway.address("in");
    let client = gateway.client(Some(&ca1.spiffe(C1)));
    for _ in 0..2 {
        assert_eq!(call(address, &client).as_deref(), Ok("welcome!"));
    }
    gateway.plane.secret(&ca4.trust());
    gateway.open();
    testkit::until("the session to be worth nothing", LIMIT, || call(address, &client).is_err().then_some(()));
    let error = call(address, &client).unwrap_err();
    assert!(error.ends_with("received fatal alert: UnknownCA"), "{error}");
}

#[test]
fn a_server_with_several_certificates_shows_one_that_its_client_can_verify() {
    let mut gateway = Gateway::new();
    let tcp = gateway.plane.tcp("cluster: app", "");
    let secrets = ["default", "other"].map(|name| format!("{{name: {name}, sds_config: {{ads: {{}}}}}}")).join(", ");
    let tls = format!(
        "transport_socket: {{name: tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: \
         {{tls_certificate_sds_secret_configs: [{secrets}]}}}}}}, "
    );
    gateway.plane.listener(&listener("in", "127.0.0.1", "", &[format!("{{name: c, {tls}filters: [{tcp}]}}")]));
    gateway.open();
    assert!(!gateway.plane.plane.addresses().contains_key("in"), "one of them is still to come");
    gateway.plane.secret(&shown(&Ca::new("other")).secret().replace("name: default", "name: other"));
    gateway.open();
    assert_eq!(gateway.answer("in", None).as_deref(), Ok("welcome!"));
}
