//! TLS with other implementations, as servers and as clients of this proxy: every version, suite and application protocol
//! that it claims, both kinds of keys, resumption, client certificates, and the alerts that a refusal is told with.

mod clients;
mod program;
mod servers;

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize, SanType};
use tempfile::TempDir;

use super::authority::{Ca, Leaf};

/// What each suite of TLS 1.2 is called by OpenSSL, and by GnuTLS with the priorities that leave only it.
struct Suite {
    openssl: &'static str,
    priority: &'static str,
    gnutls: &'static str,
}

const fn suite(openssl: &'static str, priority: &'static str, gnutls: &'static str) -> Suite {
    Suite { openssl, priority, gnutls }
}

const ECDSA: [Suite; 3] = [
    suite("ECDHE-ECDSA-AES128-GCM-SHA256", "+ECDHE-ECDSA:+AES-128-GCM", "(AES-128-GCM)"),
    suite("ECDHE-ECDSA-AES256-GCM-SHA384", "+ECDHE-ECDSA:+AES-256-GCM", "(AES-256-GCM)"),
    suite("ECDHE-ECDSA-CHACHA20-POLY1305", "+ECDHE-ECDSA:+CHACHA20-POLY1305", "(CHACHA20-POLY1305)"),
];
const RSA: [Suite; 3] = [
    suite("ECDHE-RSA-AES128-GCM-SHA256", "+ECDHE-RSA:+AES-128-GCM", "(AES-128-GCM)"),
    suite("ECDHE-RSA-AES256-GCM-SHA384", "+ECDHE-RSA:+AES-256-GCM", "(AES-256-GCM)"),
    suite("ECDHE-RSA-CHACHA20-POLY1305", "+ECDHE-RSA:+CHACHA20-POLY1305", "(CHACHA20-POLY1305)"),
];
/// Those of TLS 1.3, which know nothing of the kind of key.
const NEWER: [Suite; 3] = [
    suite("TLS_AES_128_GCM_SHA256", "+AES-128-GCM", "(AES-128-GCM)"),
    suite("TLS_AES_256_GCM_SHA384", "+AES-256-GCM", "(AES-256-GCM)"),
    suite("TLS_CHACHA20_POLY1305_SHA256", "+CHACHA20-POLY1305", "(CHACHA20-POLY1305)"),
];

const NAME: &str = "server.example";

/// The certificates, as files, for programs.
struct Files {
    folder: TempDir,
    ca: Ca,
    ecdsa: Leaf,
    rsa: Leaf,
}

impl Files {
    fn new() -> Files {
        let ca = Ca::new("interop");
        let ecdsa =
            ca.issue(None, |params| params.subject_alt_names = vec![SanType::DnsName(NAME.try_into().unwrap())]);
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let rsa = ca.issue_for(key, None, |params| {
            params.subject_alt_names = vec![SanType::DnsName(NAME.try_into().unwrap())];
        });
        let files = Files { folder: tempfile::tempdir().unwrap(), ca, ecdsa, rsa };
        files.write("ca.pem", &files.ca.pem);
        for (name, leaf) in [("ecdsa", &files.ecdsa), ("rsa", &files.rsa)] {
            files.write_leaf(name, leaf);
        }
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn write_leaf(&self, name: &str, leaf: &Leaf) {
        self.write(&format!("{name}.pem"), &leaf.chain);
        self.write(&format!("{name}.key"), &leaf.key);
    }

    fn leaf(&self, key: &str) -> &Leaf {
        if key == "rsa" { &self.rsa } else { &self.ecdsa }
    }
}
