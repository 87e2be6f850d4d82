//! Certificates for tests, good and bad.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SanType, string::Ia5String,
};

/// An authority.
pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) chain: String,
    pub(super) key: String,
}

impl Ca {
    pub(super) fn new(name: &str) -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Ca { issuer: Issuer::new(params, key), pem }
    }

    /// An identity as the mesh issues them.
    pub(super) fn spiffe(&self, id: &str) -> Leaf {
        self.issue(Some(id), |_| {})
    }

    /// A certificate with the identity `id`, if there is one, changed as the caller likes.
    pub(super) fn issue(&self, id: Option<&str>, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        self.issue_for(KeyPair::generate().unwrap(), id, change)
    }

    /// The same, for a key that is there.
    pub(super) fn issue_for(
        &self,
        key: KeyPair,
        id: Option<&str>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = id.iter().map(|id| SanType::URI(Ia5String::try_from(*id).unwrap())).collect();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { chain: certificate.pem(), key: key.serialize_pem() }
    }

    /// A certificate that ended an hour ago.
    pub(super) fn expired(&self, id: &str) -> Leaf {
        let hour = Duration::from_secs(3600);
        self.issue(Some(id), |params| {
            params.not_before = (SystemTime::now() - 2 * hour).into();
            params.not_after = (SystemTime::now() - hour).into();
        })
    }

    /// A certificate whose identity is only its common name.
    pub(super) fn common_name(&self, id: &str) -> Leaf {
        self.issue(None, |params| params.distinguished_name.push(DnType::CommonName, id))
    }

    /// An identity in a certificate with this number.
    pub(super) fn numbered(&self, id: &str, number: u64) -> Leaf {
        self.issue(Some(id), |params| params.serial_number = Some(number.into()))
    }

    /// The secret that makes others trust this authority, but not the certificate with this number.
    pub(super) fn trust_but_for(&self, number: u64) -> String {
        let now = SystemTime::now();
        let revoked = RevokedCertParams {
            serial_number: number.into(),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: (now - Duration::from_secs(60)).into(),
            next_update: (now + Duration::from_secs(3600)).into(),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap().pem().unwrap();
        let trusted = &self.pem;
        format!(
            "name: ROOTCA\nvalidation_context: {{trusted_ca: {{inline_string: {trusted:?}}}, crl: {{inline_string: \
             {list:?}}}}}\n"
        )
    }

    /// The authority's own key, PEM.
    pub(super) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The secret that makes others trust this authority.
    pub(super) fn trust(&self) -> String {
        format!("name: ROOTCA\nvalidation_context: {{trusted_ca: {{inline_string: {:?}}}}}\n", self.pem)
    }
}

impl Leaf {
    /// The secret with which a proxy shows this certificate.
    pub(super) fn secret(&self) -> String {
        let Leaf { chain, key } = self;
        format!(
            "name: default\ntls_certificate: {{certificate_chain: {{inline_string: {chain:?}}}, private_key: \
             {{inline_string: {key:?}}}}}\n"
        )
    }
}

const SDS: &str = "tls_certificate_sds_secret_configs: [{name: default, sds_config: {ads: {}}}]";

fn validation(names: &str) -> String {
    format!(
        "combined_validation_context: {{default_validation_context: {{match_typed_subject_alt_names: [{names}]}}, \
         validation_context_sds_secret_config: {{name: ROOTCA, sds_config: {{ads: {{}}}}}}}}"
    )
}

/// The server's side of mutual TLS, for clients of the trust domain `cluster.local`.
pub(super) fn downstream(alpn: &str) -> String {
    let validation = validation("{san_type: URI, matcher: {prefix: 'spiffe://cluster.local/'}}");
    format!(
        "transport_socket: {{name: tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, \
         require_client_certificate: true, common_tls_context: {{{SDS}, {validation}, alpn_protocols: [{alpn}]}}}}}}, "
    )
}

/// The client's side of mutual TLS, with a server that is called `name`.
pub(super) fn upstream(name: &str, alpn: &str, rest: &str) -> String {
    let validation = validation(&format!("{{san_type: URI, matcher: {{exact: {name:?}}}}}"));
    format!(
        "{{name: tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: \
         outbound_.9000_._.echo.foo.svc.cluster.local, common_tls_context: {{{SDS}, {validation}, alpn_protocols: \
         [{alpn}]{rest}}}}}}}"
    )
}
