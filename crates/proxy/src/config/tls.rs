//! TLS contexts: what each end shows, speaks and accepts.

use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::core::v3::api_config_source::ApiType;
use envoy::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy::envoy::config::core::v3::grpc_service::TargetSpecifier;
use envoy::envoy::config::core::v3::{ApiVersion, ConfigSource};
use envoy::envoy::extensions::transport_sockets::tls::v3;
use envoy::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::{
    OcspStaplePolicy, SessionTicketKeysType,
};
use envoy::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use prost_types::Any;
use rustls::{CipherSuite, NamedGroup, ProtocolVersion};

use super::field::{Checked, Path, fields};
use super::secret::{self, Secret, SecretValue, TlsCertificate};
use super::validation::{self, Validation};

/// How long a session may be resumed if the context does not say (Envoy 1.40).
const SESSION_TIMEOUT: Duration = Duration::from_secs(7200);

/// How long a secret is waited for if its source does not say (Envoy 1.40).
const PATIENCE: Duration = Duration::from_secs(15);

/// How TLS is originated towards an endpoint.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    /// What both directions have.
    pub settings: TlsSettings,
    /// The server name that is sent; `None` sends none.
    pub sni: Option<Arc<str>>,
    /// How many sessions are kept to be resumed, for each context; 0 resumes none.
    pub max_session_keys: u32,
}

/// How TLS is terminated.
#[derive(Debug, Clone)]
pub struct DownstreamTls {
    /// What both directions have.
    pub settings: TlsSettings,
    /// Whether a client without a certificate is refused.
    pub require_client_certificate: bool,
    /// Whether a ClientHello without a server name is refused.
    pub require_sni: bool,
    /// Whether sessions are resumed by identifiers that the server keeps (TLS 1.2).
    pub stateful_resumption: bool,
    /// Whether sessions are resumed by tickets that the client keeps.
    pub tickets: bool,
    /// How long a session may be resumed.
    pub session_timeout: Duration,
    /// The message that it was made from: contexts of equal messages are one, and share their sessions.
    pub message: Arc<[u8]>,
}

/// What TLS contexts of both directions have.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// What is shown to the peer.
    pub certificates: Certificates,
    /// What is demanded of the peer's certificate.
    pub validation: Validation,
    /// Application protocols, the preferred first.
    pub alpn: Box<[Arc<str>]>,
    /// The versions that may be spoken: TLS 1.2, TLS 1.3 or both.
    pub versions: Box<[ProtocolVersion]>,
    /// The TLS 1.2 cipher suites that may be used, the preferred first; empty for the library's own.
    pub ciphers: Box<[CipherSuite]>,
    /// The groups for key exchange, the preferred first; empty for the library's own.
    pub groups: Box<[NamedGroup]>,
}

/// Where certificates come from.
#[derive(Debug, Clone)]
pub enum Certificates {
    /// There are none.
    None,
    /// The context has them.
    Inline(Arc<[TlsCertificate]>),
    /// Secrets have them, each has one.
    Secrets(Box<[SecretRef]>),
}

/// The name of a secret, and who serves it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretRef {
    /// Its name.
    pub name: Arc<str>,
    /// Who serves it.
    pub source: SecretSource,
    /// How long what refers to it waits for it before it is used without; `None` is for ever.
    pub patience: Option<Duration>,
}

/// Who serves a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretSource {
    /// The control plane, over ADS.
    Ads,
    /// A gRPC service behind this cluster: the pod's own agent, which holds the key.
    Cluster(Arc<str>),
}

impl Certificates {
    /// The certificates themselves, where `find` finds secrets; `None` if one is missing or is something else.
    pub fn with<'a>(&self, find: impl Fn(&SecretRef) -> Option<&'a Secret>) -> Option<Box<[TlsCertificate]>> {
        let of_secret = |secret: &SecretRef| match &find(secret)?.value {
            SecretValue::Certificate(certificate) => Some(certificate.clone()),
            SecretValue::Validation(_) => None,
        };
        match self {
            Certificates::None => Some(Box::default()),
            Certificates::Inline(certificates) => Some(certificates.iter().cloned().collect()),
            Certificates::Secrets(secrets) => secrets.iter().map(of_secret).collect(),
        }
    }

    /// The secrets that have them.
    pub fn secrets(&self) -> &[SecretRef] {
        match self {
            Certificates::Secrets(secrets) => secrets,
            Certificates::None | Certificates::Inline(_) => &[],
        }
    }
}

impl TlsSettings {
    /// The secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        self.certificates.secrets().iter().chain(&self.validation.secret)
    }
}

pub(super) fn upstream(at: &Path<'_>, message: v3::UpstreamTlsContext) -> Checked<UpstreamTls> {
    // rustls never renegotiates, and always heeds the key usage of RSA certificates.
    fields!(at, message => v3::UpstreamTlsContext { common_tls_context, sni, allow_renegotiation, max_session_keys,
            enforce_rsa_key_usage }
        refuse { auto_host_sni, auto_sni_san_validation });
    at.field("allow_renegotiation").off(Some(allow_renegotiation))?;
    if enforce_rsa_key_usage == Some(false) {
        return Err(at.field("enforce_rsa_key_usage").reject("cannot be turned off"));
    }
    if sni.len() > 255 {
        return Err(at.field("sni").reject("must be at most 255 bytes long"));
    }
    let common_at = at.field("common_tls_context");
    let settings = settings(&common_at, common_tls_context.unwrap_or_default())?;
    if settings.certificates.secrets().len() > 1 {
        let certificates_at = common_at.field("tls_certificate_sds_secret_configs");
        return Err(certificates_at.index(1).reject("a client has only one certificate"));
    }
    Ok(UpstreamTls {
        settings,
        sni: if sni.is_empty() { None } else { Some(sni.into()) },
        max_session_keys: max_session_keys.unwrap_or(1),
    })
}

pub(super) fn downstream(at: &Path<'_>, any: &Any) -> Checked<DownstreamTls> {
    let message: v3::DownstreamTlsContext = at.decode(any)?;
    // A server has one certificate here, so there is nothing to scan; rustls prefers the server's cipher suites.
    fields!(at, message => v3::DownstreamTlsContext { common_tls_context, require_client_certificate, require_sni,
            disable_stateful_session_resumption, session_timeout, ocsp_staple_policy, session_ticket_keys_type }
        refuse { prefer_client_ciphers } ignore { full_scan_certs_on_sni_mismatch });
    if at.field("ocsp_staple_policy").enumeration::<OcspStaplePolicy>(ocsp_staple_policy)?
        != OcspStaplePolicy::LenientStapling
    {
        return Err(at.field("ocsp_staple_policy").reject("only LENIENT_STAPLING is supported"));
    }
    let tickets = match session_ticket_keys_type {
        None => true,
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(disabled)) => !disabled,
        Some(SessionTicketKeysType::SessionTicketKeys(_)) => {
            return Err(at.field("session_ticket_keys").reject("is not supported"));
        }
        Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(_)) => {
            return Err(at.field("session_ticket_keys_sds_secret_config").reject("is not supported"));
        }
    };
    let common_at = at.field("common_tls_context");
    let settings = settings(&common_at, common_at.required(common_tls_context)?)?;
    if matches!(settings.certificates, Certificates::None) {
        return Err(common_at.field("tls_certificates").reject("a server needs a certificate"));
    }
    let require_client_certificate = require_client_certificate.unwrap_or(false);
    if require_client_certificate && !settings.validation.is_set() {
        let reason = "without a validation context no client certificate can be verified";
        return Err(at.field("require_client_certificate").reject(reason));
    }
    if require_client_certificate && settings.validation.takes_anybody() {
        let reason = "without trusted_ca any certificate would do";
        return Err(common_at.field("validation_context").reject(reason));
    }
    Ok(DownstreamTls {
        settings,
        require_client_certificate,
        require_sni: require_sni.unwrap_or(false),
        stateful_resumption: !disable_stateful_session_resumption,
        tickets,
        session_timeout: at.field("session_timeout").duration(session_timeout)?.unwrap_or(SESSION_TIMEOUT),
        message: any.value.as_slice().into(),
    })
}

fn settings(at: &Path<'_>, message: v3::CommonTlsContext) -> Checked<TlsSettings> {
    fields!(at, message => v3::CommonTlsContext { tls_params, tls_certificates, tls_certificate_sds_secret_configs,
            alpn_protocols, validation_context_type }
        refuse { tls_certificate_provider_instance, custom_tls_certificate_selector,
            tls_certificate_certificate_provider, tls_certificate_certificate_provider_instance,
            custom_handshaker, key_log });
    let alpn_at = at.field("alpn_protocols");
    for (i, protocol) in alpn_protocols.iter().enumerate() {
        if !(1..=255).contains(&protocol.len()) {
            return Err(alpn_at.index(i).reject("must be from 1 to 255 bytes long"));
        }
    }
    let parameters = tls_params.unwrap_or_default();
    let at_parameters = at.field("tls_params");
    fields!(at_parameters, parameters => v3::TlsParameters { tls_minimum_protocol_version,
            tls_maximum_protocol_version, cipher_suites, ecdh_curves }
        refuse { signature_algorithms, compliance_policies });
    Ok(TlsSettings {
        certificates: certificates(at, tls_certificates, tls_certificate_sds_secret_configs)?,
        validation: validation::from_message(at, validation_context_type)?,
        alpn: alpn_protocols.into_iter().map(Into::into).collect(),
        versions: versions(&at_parameters, tls_minimum_protocol_version, tls_maximum_protocol_version)?,
        ciphers: ciphers(&at_parameters.field("cipher_suites"), &cipher_suites)?,
        groups: groups(&at_parameters.field("ecdh_curves"), &ecdh_curves)?,
    })
}

fn certificates(
    at: &Path<'_>,
    inline: Vec<v3::TlsCertificate>,
    secrets: Vec<v3::SdsSecretConfig>,
) -> Checked<Certificates> {
    let (inline_at, secrets_at) = (at.field("tls_certificates"), at.field("tls_certificate_sds_secret_configs"));
    match (inline.is_empty(), secrets.is_empty()) {
        (true, true) => Ok(Certificates::None),
        (true, false) => {
            let secrets = secrets.into_iter().enumerate();
            let convert = |(i, secret)| secret_ref(&secrets_at.index(i), secret);
            secrets.map(convert).collect::<Checked<_>>().map(Certificates::Secrets)
        }
        (false, true) => {
            let certificates = inline.into_iter().enumerate();
            let convert = |(i, message)| secret::certificate(&inline_at.index(i), message);
            certificates.map(convert).collect::<Checked<_>>().map(Certificates::Inline)
        }
        (false, false) => Err(secrets_at.reject("must not be set beside tls_certificates")),
    }
}

pub(super) fn secret_ref(at: &Path<'_>, message: v3::SdsSecretConfig) -> Checked<SecretRef> {
    let v3::SdsSecretConfig { name, sds_config } = message;
    let source_at = at.field("sds_config");
    let config = source_at.required(sds_config)?;
    let patience = source_at.field("initial_fetch_timeout").timeout(config.initial_fetch_timeout, Some(PATIENCE))?;
    let source = source(&source_at, config)?;
    Ok(SecretRef { name: at.field("name").named(&name)?.into(), source, patience })
}

/// Refuses every source of configuration but ADS.
pub(super) fn ads(at: &Path<'_>, message: ConfigSource) -> Checked<()> {
    match source(at, message)? {
        SecretSource::Ads => Ok(()),
        SecretSource::Cluster(_) => Err(at.field("api_config_source").reject("only ads is supported")),
    }
}

fn source(at: &Path<'_>, message: ConfigSource) -> Checked<SecretSource> {
    // How long a first answer is waited for is the same for all resources of this proxy but secrets, for which it was read.
    fields!(at, message => ConfigSource { resource_api_version, config_source_specifier } refuse { authorities }
        ignore { initial_fetch_timeout });
    if at.field("resource_api_version").enumeration::<ApiVersion>(resource_api_version)? == ApiVersion::V2 {
        return Err(at.field("resource_api_version").reject("must be V3"));
    }
    match at.required(config_source_specifier)? {
        ConfigSourceSpecifier::Ads(_) => Ok(SecretSource::Ads),
        ConfigSourceSpecifier::ApiConfigSource(api) => {
            let at = at.field("api_config_source");
            if !matches!(at.field("api_type").enumeration(api.api_type)?, ApiType::Grpc | ApiType::DeltaGrpc) {
                return Err(at.field("api_type").reject("only GRPC and DELTA_GRPC are supported"));
            }
            let services_at = at.field("grpc_services");
            match api.grpc_services.into_iter().next().and_then(|s| s.target_specifier) {
                Some(TargetSpecifier::EnvoyGrpc(service)) => Ok(SecretSource::Cluster(service.cluster_name.into())),
                Some(TargetSpecifier::GoogleGrpc(_)) => Err(services_at.index(0).reject("must be envoy_grpc")),
                None => Err(services_at.reject("is required")),
            }
        }
        ConfigSourceSpecifier::Path(_) => Err(at.field("path").reject("is not supported")),
        ConfigSourceSpecifier::PathConfigSource(_) => Err(at.field("path_config_source").reject("is not supported")),
        ConfigSourceSpecifier::Self_(_) => Err(at.field("self").reject("is not supported")),
    }
}

/// The versions from the first to the last. The library speaks 1.2 and 1.3; what is left open begins and ends there.
fn versions(at: &Path<'_>, first: i32, last: i32) -> Checked<Box<[ProtocolVersion]>> {
    let first = at.field("tls_minimum_protocol_version").enumeration(first)?;
    let last_at = at.field("tls_maximum_protocol_version");
    let last = last_at.enumeration(last)?;
    if matches!(first, TlsProtocol::TlSv10 | TlsProtocol::TlSv11) {
        return Err(at.field("tls_minimum_protocol_version").reject("must be at least TLSv1_2"));
    }
    let twelve = first != TlsProtocol::TlSv13;
    let thirteen = matches!(last, TlsProtocol::TlsAuto | TlsProtocol::TlSv13);
    let twelve = twelve && (thirteen || last == TlsProtocol::TlSv12);
    let spoken = [(twelve, ProtocolVersion::TLSv1_2), (thirteen, ProtocolVersion::TLSv1_3)];
    let versions: Box<[ProtocolVersion]> = spoken.into_iter().filter_map(|(on, v)| on.then_some(v)).collect();
    if versions.is_empty() { Err(last_at.reject("leaves no version that may be spoken")) } else { Ok(versions) }
}

/// Cipher suites by BoringSSL's names. Those without forward secrecy are known but never offered.
fn ciphers(at: &Path<'_>, names: &[String]) -> Checked<Box<[CipherSuite]>> {
    let mut suites = Vec::new();
    for (i, names) in names.iter().enumerate() {
        let group = names.trim_start_matches('[').trim_end_matches(']');
        for name in group.split('|') {
            suites.extend(match name {
                "ECDHE-ECDSA-AES128-GCM-SHA256" => Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
                "ECDHE-ECDSA-AES256-GCM-SHA384" => Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
                "ECDHE-ECDSA-CHACHA20-POLY1305" => Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
                "ECDHE-RSA-AES128-GCM-SHA256" => Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
                "ECDHE-RSA-AES256-GCM-SHA384" => Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
                "ECDHE-RSA-CHACHA20-POLY1305" => Some(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
                "AES128-GCM-SHA256"
                | "AES256-GCM-SHA384"
                | "AES128-SHA"
                | "AES256-SHA"
                | "ECDHE-ECDSA-AES128-SHA"
                | "ECDHE-ECDSA-AES256-SHA"
                | "ECDHE-RSA-AES128-SHA"
                | "ECDHE-RSA-AES256-SHA" => None,
                _ => return Err(at.index(i).reject(format_args!("{name:?} is not a known cipher suite"))),
            });
        }
    }
    if suites.is_empty() && !names.is_empty() {
        return Err(at.reject("none of these cipher suites is supported"));
    }
    Ok(suites.into())
}

fn groups(at: &Path<'_>, names: &[String]) -> Checked<Box<[NamedGroup]>> {
    let group = |(i, name): (usize, &String)| match name.as_str() {
        "X25519" => Ok(NamedGroup::X25519),
        "P-256" => Ok(NamedGroup::secp256r1),
        "P-384" => Ok(NamedGroup::secp384r1),
        "X25519MLKEM768" => Ok(NamedGroup::X25519MLKEM768),
        _ => Err(at.index(i).reject(format_args!("{name:?} is not supported"))),
    };
    names.iter().enumerate().map(group).collect()
}
