use std::path::Path;
use std::process::Command;

use rustls::pki_types::CertificateDer;

use super::*;
use crate::{OwnRequest, peer_identity};

fn sleep() -> SpiffeId {
    SpiffeId::new("cluster.local", "default", "sleep").unwrap()
}

fn sign(authority: &MeshAuthority, lifetime: Option<Duration>) -> Vec<String> {
    let own = OwnRequest::generate(&sleep()).unwrap();
    authority.sign(&SigningRequest::parse(own.request_pem()).unwrap(), &sleep(), lifetime).unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    tls::certificates(pem).unwrap().remove(0)
}

/// Seconds from now until the certificate ends.
fn remaining(pem: &str) -> u64 {
    let end = authority::not_after(&der(pem)).unwrap();
    end.duration_since(SystemTime::now()).unwrap().as_secs()
}

/// Runs openssl in `dir`; its output.
fn openssl(dir: &Path, arguments: &str) -> String {
    let words = arguments.split_whitespace();
    let output = Command::new("openssl").args(words).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_self_signed_authority_answers_with_the_certificate_and_the_root() {
    let authority = MeshAuthority::generate("cluster.local").unwrap();
    let chain = sign(&authority, None);
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[1], authority.root_bundle_pem());
    assert_eq!(peer_identity(&[der(&chain[0])]), Some(sleep()));
    let again = MeshAuthority::load(authority.certificate_pem(), &authority.key_pem()).unwrap();
    assert_eq!(again.root_bundle_pem(), authority.root_bundle_pem());
}

#[test]
fn a_lifetime_is_granted_up_to_the_authoritys_own_end() {
    let authority = MeshAuthority::generate("cluster.local").unwrap();
    let second = Duration::from_secs(1);
    let granted = |lifetime| remaining(&sign(&authority, lifetime)[0]);
    assert!((55..=60).contains(&granted(Some(second * 60))));
    assert!((86_000..=86_400).contains(&granted(None)));
    assert_eq!(granted(Some(second * 1_000_000_000)) / 86_400, 89);
    let short = MeshAuthority { not_after: SystemTime::now() + second * 30, ..authority };
    assert!(remaining(&sign(&short, None)[0]) <= 30);
    assert!(remaining(&short.issue_server(&["istiod.istio-system.svc"]).unwrap().chain_pem) <= 30);
}

#[test]
fn a_key_that_is_certified_twice_gets_two_serial_numbers() {
    let authority = MeshAuthority::generate("cluster.local").unwrap();
    let request = SigningRequest::parse(OwnRequest::generate(&sleep()).unwrap().request_pem()).unwrap();
    let serial = || {
        let leaf = der(&authority.sign(&request, &sleep(), None).unwrap()[0]);
        x509_parser::parse_x509_certificate(&leaf).unwrap().1.raw_serial().to_vec()
    };
    assert_ne!(serial(), serial());
}

#[test]
fn certificates_have_the_profile_of_istios() {
    if !testkit::program("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = MeshAuthority::generate("example.org").unwrap();
    let chain = sign(&authority, None);
    std::fs::write(dir.path().join("leaf.pem"), &chain[0]).unwrap();
    std::fs::write(dir.path().join("root.pem"), &chain[1]).unwrap();
    let leaf = openssl(dir.path(), "x509 -noout -text -in leaf.pem");
    let lines: Vec<&str> = leaf.lines().map(str::trim).collect();
    let follows = |first: &str, second: &str| {
        assert!(lines.windows(2).any(|pair| pair == [first, second]), "{first} is not followed by {second}\n{leaf}");
    };
    assert!(lines.contains(&"Subject:") && lines.contains(&"Issuer: O = example.org"), "{leaf}");
    follows("X509v3 Subject Alternative Name: critical", "URI:spiffe://cluster.local/ns/default/sa/sleep");
    follows("X509v3 Key Usage: critical", "Digital Signature, Key Encipherment");
    follows("X509v3 Extended Key Usage:", "TLS Web Server Authentication, TLS Web Client Authentication");
    follows("X509v3 Basic Constraints: critical", "CA:FALSE");
    assert!(!leaf.contains("Key Identifier"), "{leaf}");
    let root = openssl(dir.path(), "x509 -noout -text -in root.pem");
    for line in ["Subject: O = example.org", "Issuer: O = example.org", "Certificate Sign", "CA:TRUE"] {
        assert!(root.lines().any(|found| found.trim() == line), "{line}\n{root}");
    }
    for purpose in ["sslserver", "sslclient"] {
        openssl(dir.path(), &format!("verify -purpose {purpose} -CAfile root.pem leaf.pem"));
    }
}

/// An RSA hierarchy as Istio's makefile makes it: a root, and an intermediate for the mesh.
fn hierarchy(dir: &Path) -> CaCerts {
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    write(
        "root.cnf",
        "[req]\ndistinguished_name=n\nx509_extensions=e\nprompt=no\n[n]\nO=Istio\nCN=Root CA\n\
        [e]\nbasicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n",
    );
    write("ca.cnf", "[req]\ndistinguished_name=n\nprompt=no\n[n]\nO=Istio\nCN=Intermediate CA\nL=cluster1\n");
    write(
        "ca.ext",
        "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n\
        authorityKeyIdentifier=keyid\nsubjectAltName=DNS:istiod.istio-system.svc\n",
    );
    openssl(dir, "req -x509 -newkey rsa:2048 -nodes -keyout root-key.pem -out root-cert.pem -days 30 -config root.cnf");
    openssl(dir, "genrsa -out ca-key.pem 2048");
    openssl(dir, "req -new -key ca-key.pem -out ca.csr -config ca.cnf");
    openssl(
        dir,
        "x509 -req -in ca.csr -CA root-cert.pem -CAkey root-key.pem -CAcreateserial -days 10 -extfile ca.ext -out ca-cert.pem",
    );
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let (ca_cert, root_cert) = (read("ca-cert.pem"), read("root-cert.pem"));
    CaCerts { cert_chain: ca_cert.clone() + &root_cert, ca_key: read("ca-key.pem"), ca_cert, root_cert }
}

#[test]
fn an_intermediate_signs_and_its_chain_leads_to_the_root() {
    if !testkit::program("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let given = hierarchy(dir.path());
    let authority = MeshAuthority::from_cacerts(&given).unwrap();
    let chain = sign(&authority, Some(Duration::from_secs(90 * 24 * 3600)));
    assert_eq!(tls::certificates(&chain.concat()).unwrap().len(), 4, "leaf, intermediate, root, root");
    assert!(remaining(&chain[0]) <= 10 * 24 * 3600, "no longer than its issuer");
    std::fs::write(dir.path().join("leaf.pem"), &chain[0]).unwrap();
    openssl(dir.path(), "verify -purpose sslserver -CAfile root-cert.pem -untrusted ca-cert.pem leaf.pem");
    let server = authority.issue_server(&["istiod.istio-system.svc"]).unwrap();
    std::fs::write(dir.path().join("server.pem"), &server.chain_pem).unwrap();
    openssl(
        dir.path(),
        "verify -purpose sslserver -verify_hostname istiod.istio-system.svc -CAfile root-cert.pem -untrusted server.pem server.pem",
    );
}

#[test]
fn a_bad_cacerts_is_refused_by_the_name_of_the_key() {
    if !testkit::program("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let good = hierarchy(dir.path());
    let other = MeshAuthority::generate("other").unwrap();
    let refusal = |given: CaCerts| MeshAuthority::from_cacerts(&given).err().unwrap().to_string();
    let text = refusal(CaCerts { ca_cert: "x".to_owned(), ..good.clone() });
    assert_eq!(text, "ca-cert.pem: there is no certificate in the PEM text");
    let text = refusal(CaCerts { ca_cert: good.cert_chain.clone(), ..good.clone() });
    assert!(text.starts_with("ca-cert.pem: there are several"), "{text}");
    let text = refusal(CaCerts { ca_key: String::new(), ..good.clone() });
    assert_eq!(text, "ca-key.pem: there is no usable private key in the PEM text");
    let text = refusal(CaCerts { ca_key: other.key_pem(), ..good.clone() });
    assert_eq!(text, "ca-cert.pem and ca-key.pem: the CA key does not belong to the CA certificate");
    let text = refusal(CaCerts { cert_chain: "-----BEGIN".to_owned(), ..good.clone() });
    assert!(text.starts_with("cert-chain.pem: "), "{text}");
    let text = refusal(CaCerts { root_cert: String::new(), ..good.clone() });
    assert_eq!(text, "root-cert.pem: there is no certificate in the PEM text");
    let text = refusal(CaCerts { root_cert: other.root_bundle_pem().to_owned(), ..good.clone() });
    assert!(text.starts_with("root-cert.pem does not lead to ca-cert.pem"), "{text}");
    let leaf = sign(&other, None).remove(0);
    assert!(refusal(CaCerts { ca_cert: leaf, ..good }).contains("not one of a certificate authority"));
}

#[test]
fn every_certificate_of_a_root_bundle_is_trusted() {
    let (old, new) = (MeshAuthority::generate("old").unwrap(), MeshAuthority::generate("new").unwrap());
    let both = old.root_bundle_pem().to_owned() + new.root_bundle_pem();
    let given = CaCerts {
        ca_cert: new.certificate_pem().to_owned(),
        ca_key: new.key_pem(),
        cert_chain: String::new(),
        root_cert: both.clone(),
    };
    let authority = MeshAuthority::from_cacerts(&given).unwrap();
    assert_eq!(authority.root_bundle_pem(), both);
    assert_eq!(tls::roots(authority.root_bundle_pem()).unwrap().len(), 2);
}
