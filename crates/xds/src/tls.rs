//! TLS contexts.

use api::istio::{ClientTls, ClientTlsMode, ClusterName, MeshConfig, ServerTls, ServerTlsMode, TlsVersion};
use envoy::envoy::config::core::v3::{DataSource, TransportSocket, data_source::Specifier};
use envoy::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, SubjectAltNameMatcher,
    TlsParameters, UpstreamTlsContext,
};
use envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use crate::{Resources, wire};

/// The secret that is the workload's own certificate.
const WORKLOAD: &str = "default";
/// The secret that is the authority of the mesh.
const AUTHORITY: &str = "ROOTCA";
/// What Istio's proxies offer to one another on TCP.
pub(crate) const MESH_ALPN: &[&str] = &["istio-peer-exchange", "istio"];
/// The same for HTTP/1.1.
pub(crate) const REQUEST_ALPN: &[&str] = &["istio-http/1.1", "istio", "http/1.1"];
/// The same for HTTP/2.
pub(crate) const STREAM_ALPN: &[&str] = &["istio-h2", "istio", "h2"];
/// The same where the version is known no sooner than when there is a request. The server finds it out.
pub(crate) const EITHER_ALPN: &[&str] = &["istio-http/1.1", "istio"];
/// What a proxy accepts on TCP.
const SERVER_ALPN: &[&str] = &["istio-peer-exchange", "h2", "http/1.1"];
/// The same for HTTP.
const HTTP_SERVER_ALPN: &[&str] = &["h2", "http/1.1"];
/// The application protocols by which requests of a proxy are told from its connections.
pub(crate) const ISTIO_HTTP_ALPN: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// The others, of connections.
pub(crate) const ISTIO_TCP_ALPN: [&str; 2] = ["istio-peer-exchange", "istio"];
/// The application protocols by which a proxy is known as one.
pub(crate) const ISTIO_ALPN: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// How long a certificate that is not the workload's own is waited for.
const PATIENCE: prost_types::Duration = prost_types::Duration { seconds: 5, nanos: 0 };
/// In bytes, as TLS has it.
pub(crate) const LONGEST_SERVER_NAME: usize = 255;
const CIPHERS: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];

/// The server's side of mutual TLS: a client must have an identity of the mesh's trust domains.
pub(crate) fn downstream(mesh: &MeshConfig, requests: bool, resources: &mut Resources) -> TransportSocket {
    let accepted = if requests { HTTP_SERVER_ALPN } else { SERVER_ALPN };
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                cipher_suites: CIPHERS.map(str::to_owned).to_vec(),
                ..TlsParameters::default()
            }),
            tls_certificate_sds_secret_configs: vec![secret(WORKLOAD, resources)],
            alpn_protocols: accepted.iter().map(|name| (*name).to_owned()).collect(),
            validation_context_type: Some(validation(of_the_mesh(mesh), secret(AUTHORITY, resources))),
            ..CommonTlsContext::default()
        }),
        require_client_certificate: Some(true),
        ..DownstreamTlsContext::default()
    };
    let config = wire::any("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", &context);
    wire::transport_socket("envoy.transport_sockets.tls", config)
}

/// The server's side of TLS at a gateway, for requests or for bytes, as its Gateway describes it; or why that cannot be.
/// What is trusted of clients' certificates is what this server names, and nothing else.
pub(crate) fn terminate(
    mesh: &MeshConfig,
    tls: &ServerTls,
    requests: bool,
    resources: &mut Resources,
) -> Result<TransportSocket, String> {
    // A client that is offered HTTP/2 speaks it, and nobody knows whether the server behind mere bytes does, too.
    let accepted: &[&str] = if requests { HTTP_SERVER_ALPN } else { &[] };
    let own = tls.mode == ServerTlsMode::IstioMutual;
    let certificates = if own { vec![WORKLOAD.to_owned()] } else { certificates_of(tls)? };
    let asks = own || matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    let authority = if own { AUTHORITY.to_owned() } else { authority_of(tls) };
    if asks && authority.is_empty() {
        return Err(
            "names no authorities for clients' certificates: it needs caCertificates or credentialName".to_owned()
        );
    }
    let mut names: Vec<_> = tls.subject_alt_names.iter().map(|name| of_any_type(name)).collect();
    if own && names.is_empty() {
        names.extend(of_the_mesh(mesh));
    }
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(parameters(tls)),
            tls_certificate_sds_secret_configs: certificates.iter().map(|name| secret(name, resources)).collect(),
            alpn_protocols: accepted.iter().map(|name| (*name).to_owned()).collect(),
            validation_context_type: asks.then(|| {
                let context = CertificateValidationContext {
                    match_typed_subject_alt_names: names,
                    verify_certificate_spki: tls.verify_certificate_spki.clone(),
                    verify_certificate_hash: tls.verify_certificate_hash.clone(),
                    crl: file(&tls.ca_crl).filter(|_| !authority.starts_with("file-root:")),
                    ..CertificateValidationContext::default()
                };
                combined(context, secret(&authority, resources))
            }),
            ..CommonTlsContext::default()
        }),
        require_client_certificate: Some(asks && tls.mode != ServerTlsMode::OptionalMutual),
        ..DownstreamTlsContext::default()
    };
    let config = wire::any("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", &context);
    Ok(wire::transport_socket("envoy.transport_sockets.tls", config))
}

/// The secrets of a server's certificates.
fn certificates_of(tls: &ServerTls) -> Result<Vec<String>, String> {
    let named = tls.credential_names.iter().chain(Some(&tls.credential_name).filter(|name| !name.is_empty()));
    let named: Vec<String> = named.map(|name| format!("kubernetes://{name}")).collect();
    if !named.is_empty() {
        return Ok(named);
    }
    let own = [(&tls.server_certificate, &tls.private_key)];
    let several = tls.tls_certificates.iter().map(|c| (&c.server_certificate, &c.private_key));
    let files: Vec<_> = if tls.tls_certificates.is_empty() { own.to_vec() } else { several.collect() };
    if files.iter().any(|(chain, key)| chain.is_empty() || key.is_empty()) {
        return Err("has no certificate: it needs serverCertificate with privateKey, or credentialName".to_owned());
    }
    Ok(files.into_iter().map(|(chain, key)| in_files(chain, key)).collect())
}

/// The secret of the authorities for clients' certificates; empty if there is none.
fn authority_of(tls: &ServerTls) -> String {
    let of_secret = |name: &str| format!("kubernetes://{name}-cacert");
    match (tls.ca_cert_credential_name.as_str(), tls.ca_certificates.as_str(), tls.credential_name.as_str()) {
        ("", "", "") => tls.credential_names.first().map(|name| of_secret(name)).unwrap_or_default(),
        ("", "", name) | (name, _, _) if !name.is_empty() => of_secret(name),
        (_, file, _) => in_file(file, &tls.ca_crl),
    }
}

/// The secret of authorities in a file, less what another file says that they have revoked. The agent follows both.
fn in_file(authorities: &str, revoked: &str) -> String {
    match (authorities, revoked) {
        ("/etc/certs/root-cert.pem", "") => AUTHORITY.to_owned(),
        (authorities, "") => format!("file-root:{authorities}"),
        (authorities, revoked) => format!("file-root:{authorities}~{revoked}"),
    }
}

fn parameters(tls: &ServerTls) -> TlsParameters {
    let version = |version, usual: TlsProtocol| match version {
        TlsVersion::Auto => usual,
        TlsVersion::V1_0 => TlsProtocol::TlSv10,
        TlsVersion::V1_1 => TlsProtocol::TlSv11,
        TlsVersion::V1_2 => TlsProtocol::TlSv12,
        TlsVersion::V1_3 => TlsProtocol::TlSv13,
    };
    let usual = CIPHERS.map(str::to_owned).to_vec();
    TlsParameters {
        tls_minimum_protocol_version: version(tls.min_protocol_version, TlsProtocol::TlSv12).into(),
        tls_maximum_protocol_version: version(tls.max_protocol_version, TlsProtocol::TlSv13).into(),
        cipher_suites: if tls.cipher_suites.is_empty() { usual } else { tls.cipher_suites.clone() },
        ..TlsParameters::default()
    }
}

fn file(path: &str) -> Option<DataSource> {
    let specifier = Some(Specifier::Filename(path.to_owned()));
    (!path.is_empty()).then(|| DataSource { specifier, ..DataSource::default() })
}

/// The client's side of mutual TLS with the workload's own certificate. A server must have one of `names`; none are
/// known for servers without an account, and then the authority alone vouches. Both ends are told apart from others by
/// the protocols that are `offered`.
pub(crate) fn mutual(
    name: &ClusterName,
    sni: &str,
    names: &[String],
    offered: &[&str],
    resources: &mut Resources,
) -> TransportSocket {
    let sans = names.iter().map(|name| san(MatchPattern::Exact(name.clone()))).collect();
    upstream(UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![secret(WORKLOAD, resources)],
            alpn_protocols: offered.iter().map(|name| (*name).to_owned()).collect(),
            validation_context_type: Some(validation(sans, secret(AUTHORITY, resources))),
            ..versions()
        }),
        sni: server_name(if sni.is_empty() { name.server_name() } else { sni.to_owned() }),
        ..UpstreamTlsContext::default()
    })
}

/// The client's side of TLS as a destination rule describes it in modes SIMPLE and MUTUAL.
pub(crate) fn originate(tls: &ClientTls, resources: &mut Resources) -> TransportSocket {
    let certificates = match (tls.mode, tls.credential_name.as_str()) {
        (Some(ClientTlsMode::Mutual), "") => {
            vec![secret(&in_files(&tls.client_certificate, &tls.private_key), resources)]
        }
        (Some(ClientTlsMode::Mutual), name) => vec![secret(&format!("kubernetes://{name}"), resources)],
        _ => Vec::new(),
    };
    let authority = match (tls.ca_certificates.as_str(), tls.credential_name.as_str()) {
        ("", "") => in_file("system", &tls.ca_crl),
        ("", name) => format!("kubernetes://{name}-cacert"),
        (file, _) => in_file(file, &tls.ca_crl),
    };
    let sans = || tls.subject_alt_names.iter().map(|name| of_any_type(name)).collect();
    let validation_context_type =
        (!tls.insecure_skip_verify).then(|| validation(sans(), secret(&authority, resources)));
    upstream(UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: certificates,
            validation_context_type,
            ..versions()
        }),
        sni: server_name(tls.sni.clone()),
        ..UpstreamTlsContext::default()
    })
}

/// A name that the handshake can carry, or none.
fn server_name(name: String) -> String {
    if name.len() > LONGEST_SERVER_NAME { String::new() } else { name }
}

/// The secret of a certificate in files. The path of old versions of Istio stands for the workload's certificate, whether
/// or not there is a file.
fn in_files(chain: &str, key: &str) -> String {
    match (chain, key) {
        ("/etc/certs/cert-chain.pem", "/etc/certs/key.pem") => WORKLOAD.to_owned(),
        (chain, key) => format!("file-cert:{chain}~{key}"),
    }
}

fn upstream(context: UpstreamTlsContext) -> TransportSocket {
    let config = wire::any("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", &context);
    wire::transport_socket("envoy.transport_sockets.tls", config)
}

fn versions() -> CommonTlsContext {
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
            tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
            ..TlsParameters::default()
        }),
        ..CommonTlsContext::default()
    }
}

fn secret(name: &str, resources: &mut Resources) -> SdsSecretConfig {
    resources.secrets.insert(name.to_owned());
    let mut source = if name.starts_with("kubernetes://") { wire::ads() } else { wire::agent() };
    if ![WORKLOAD, AUTHORITY].contains(&name) {
        // Everybody has an identity before long. What somebody names may never come, and holds up the servers beside it.
        source.initial_fetch_timeout = Some(PATIENCE);
    }
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(source) }
}

fn validation(sans: Vec<SubjectAltNameMatcher>, authority: SdsSecretConfig) -> ValidationContextType {
    let names =
        CertificateValidationContext { match_typed_subject_alt_names: sans, ..CertificateValidationContext::default() };
    combined(names, authority)
}

fn combined(own: CertificateValidationContext, authority: SdsSecretConfig) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(own),
        validation_context_sds_secret_config: Some(authority),
        ..CombinedCertificateValidationContext::default()
    })
}

/// The identities of the mesh's trust domains.
fn of_the_mesh(mesh: &MeshConfig) -> Vec<SubjectAltNameMatcher> {
    let domains = [&mesh.trust_domain].into_iter().chain(&mesh.trust_domain_aliases);
    domains.map(|domain| san(MatchPattern::Prefix(format!("spiffe://{domain}/")))).collect()
}

fn san(pattern: MatchPattern) -> SubjectAltNameMatcher {
    san_of(SanType::Uri, pattern)
}

fn san_of(kind: SanType, pattern: MatchPattern) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(wire::matcher(pattern)),
        ..SubjectAltNameMatcher::default()
    }
}

/// A name that a user writes is a URI if it looks like one, and else an address or a DNS name.
fn of_any_type(name: &str) -> SubjectAltNameMatcher {
    let kind = match name {
        name if name.contains("://") => SanType::Uri,
        name if name.parse::<std::net::IpAddr>().is_ok() => SanType::IpAddress,
        _ => SanType::Dns,
    };
    san_of(kind, MatchPattern::Exact(name.to_owned()))
}
