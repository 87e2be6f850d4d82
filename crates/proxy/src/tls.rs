//! TLS contexts, ready for use: made once from configuration and secrets, and shared by all workers.

mod verify;

use std::fmt;
use std::sync::{Arc, LazyLock};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig, ServerSessionMemoryCache,
};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, ProtocolVersion, SignatureScheme, SupportedProtocolVersion,
};

use crate::Snapshot;
use crate::config::{DownstreamTls, Secret, SecretRef, TlsCertificate, TlsSettings, UpstreamTls, ValidationContext};
use crate::inspect::Hello;
use crate::stream::{Broken, Session};
use crate::upstream::Greeting;
use verify::{Refusal, Usage, Verifier};

/// How many TLS 1.2 sessions a server keeps for clients without tickets.
const KEPT_SESSIONS: usize = 256;

static PROVIDER: LazyLock<CryptoProvider> = LazyLock::new(aws_lc_rs::default_provider);

/// The secrets of a context, as they were when it was made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets {
    certificates: Box<[Option<Arc<Secret>>]>,
    validation: Option<Arc<Secret>>,
}

impl Secrets {
    pub(crate) fn of(settings: &TlsSettings, snapshot: &Snapshot) -> Secrets {
        let find = |secret: &SecretRef| snapshot.secret(&secret.name).cloned();
        Secrets {
            certificates: settings.certificates.secrets().iter().map(find).collect(),
            validation: settings.validation.secret.as_ref().and_then(find),
        }
    }

    fn certificates(&self, settings: &TlsSettings) -> Option<Box<[TlsCertificate]>> {
        let mine = self.certificates.iter().flatten();
        settings.certificates.with(|secret| mine.clone().find(|s| s.name == secret.name).map(AsRef::as_ref))
    }

    fn demands(&self, settings: &TlsSettings) -> Option<Arc<ValidationContext>> {
        settings.validation.with(self.validation.as_deref())
    }

    /// Whether they are still the same.
    pub(crate) fn are(&self, others: &Secrets) -> bool {
        let same = |a: &Option<Arc<Secret>>, b: &Option<Arc<Secret>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        self.certificates.len() == others.certificates.len()
            && self.certificates.iter().zip(&others.certificates).all(|(a, b)| same(a, b))
            && same(&self.validation, &others.validation)
    }
}

/// Why a context cannot be used, or a handshake failed.
#[derive(Debug, Clone)]
pub(crate) struct TlsFailure {
    pub(crate) reason: Arc<str>,
    pub(crate) kind: FailureKind,
}

/// Which statistics count a failed handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The peer has no certificate, though it needs one.
    NoCertificate,
    /// The peer's certificate is from nobody who is trusted, or does not hold.
    Untrusted,
    /// The peer's certificate has none of the demanded names.
    WrongName,
    /// The peer's certificate is none of those that are demanded by hash.
    WrongHash,
    /// Anything else.
    Other,
}

impl TlsFailure {
    pub(crate) fn other(reason: &str) -> TlsFailure {
        TlsFailure { reason: as_one_word(&format!("TLS error: {reason}")), kind: FailureKind::Other }
    }
}

/// A reason as Envoy's logs have it: where a log is split at spaces, it stays in one piece.
pub(crate) fn as_one_word(reason: &str) -> Arc<str> {
    reason.replace(' ', "_").into()
}

impl From<&Broken> for TlsFailure {
    fn from(broken: &Broken) -> TlsFailure {
        match broken {
            Broken::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                TlsFailure::other("the peer closed the connection during the handshake")
            }
            Broken::Io(e) => TlsFailure::other(&format!("the connection broke during the handshake: {}", e.kind())),
            Broken::Tls(e) => TlsFailure::from(e),
        }
    }
}

impl From<&Error> for TlsFailure {
    fn from(error: &Error) -> TlsFailure {
        let (kind, reason) = match error {
            Error::NoCertificatesPresented => (FailureKind::NoCertificate, "the peer has no certificate".to_owned()),
            Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<Refusal>() {
                Some(refusal) => (refusal.kind(), refusal.to_string()),
                None => (FailureKind::Untrusted, other.0.to_string()),
            },
            Error::InvalidCertificate(problem) => (FailureKind::Untrusted, certificate_problem(problem).to_owned()),
            Error::AlertReceived(alert) => {
                (FailureKind::Other, format!("the peer refused the handshake: {}", alert_name(*alert)))
            }
            other => (FailureKind::Other, other.to_string()),
        };
        TlsFailure { reason: as_one_word(&format!("TLS error: {reason}")), kind }
    }
}

fn certificate_problem(problem: &CertificateError) -> &'static str {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the peer's certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the peer's certificate is not valid yet"
        }
        CertificateError::UnknownIssuer => "the peer's certificate is from an unknown authority",
        CertificateError::Revoked => "the peer's certificate has been revoked",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the peer's certificate is not for this purpose"
        }
        CertificateError::BadSignature => "the signature of the peer's certificate is wrong",
        _ => "the peer's certificate cannot be verified",
    }
}

fn alert_name(alert: AlertDescription) -> String {
    alert.as_str().map_or_else(|| format!("{alert:?}"), str::to_owned)
}

/// A server's side of TLS.
#[derive(Debug)]
pub(crate) struct ServerTls {
    secrets: Secrets,
    require_sni: bool,
    ready: Result<Server, TlsFailure>,
}

#[derive(Debug)]
struct Server {
    /// For clients that offer one of the application protocols, or none at all.
    config: Arc<ServerConfig>,
    /// For clients that offer only others: the library would abort where Envoy agrees on none.
    without_protocols: Arc<ServerConfig>,
    verifier: Option<Arc<Verifier>>,
    identity: Option<Arc<str>>,
}

impl ServerTls {
    pub(crate) fn new(context: &DownstreamTls, snapshot: &Snapshot) -> ServerTls {
        let secrets = Secrets::of(&context.settings, snapshot);
        ServerTls { require_sni: context.require_sni, ready: Server::new(context, &secrets), secrets }
    }

    /// Whether it was made from the secrets that `context` has in `snapshot`.
    pub(crate) fn is_current(&self, context: &DownstreamTls, snapshot: &Snapshot) -> bool {
        self.secrets.are(&Secrets::of(&context.settings, snapshot))
    }

    /// A session for a client, whose ClientHello is known if it has sent one.
    pub(crate) fn session(&self, hello: Option<&Hello>) -> Result<Session, TlsFailure> {
        let server = self.ready.as_ref().map_err(Clone::clone)?;
        if self.require_sni && hello.is_some_and(|h| h.server_name.is_none()) {
            return Err(TlsFailure::other("the client names no server"));
        }
        let config = match hello {
            Some(hello) if !server.speaks_one_of(hello) => &server.without_protocols,
            _ => &server.config,
        };
        let session = rustls::server::UnbufferedServerConnection::new(config.clone());
        session.map(Session::Server).map_err(|e| TlsFailure::from(&e))
    }

    /// The identity that is shown to clients.
    pub(crate) fn identity(&self) -> Option<&Arc<str>> {
        self.ready.as_ref().ok()?.identity.as_ref()
    }

    /// The identities of a client. A session that was taken up again is refused once its certificate has expired.
    pub(crate) fn peer_identities(
        &self,
        certificates: &[CertificateDer<'_>],
        resumed: bool,
    ) -> Result<Box<[Arc<str>]>, TlsFailure> {
        let verifier = self.ready.as_ref().ok().and_then(|s| s.verifier.as_ref());
        match verifier {
            Some(verifier) => verifier.identities(certificates, resumed).map_err(|e| TlsFailure::from(&e)),
            None => Ok(Box::default()),
        }
    }
}

impl Server {
    fn new(context: &DownstreamTls, secrets: &Secrets) -> Result<Server, TlsFailure> {
        let settings = &context.settings;
        let certificates = OwnCertificates::of(settings, secrets)?;
        let provider = provider(settings);
        let verifier = match settings.validation.is_set() {
            true => {
                let demands = secrets.demands(settings).ok_or_else(|| missing(settings))?;
                Some(Arc::new(Verifier::new(Usage::Client, demands, context.require_client_certificate)?))
            }
            false => None,
        };
        let failed = |e: Error| TlsFailure::from(&e);
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions(settings))
            .map_err(failed)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let identity = certificates.identity();
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.session_storage = match context.stateful_resumption {
            true => ServerSessionMemoryCache::new(KEPT_SESSIONS),
            false => Arc::new(NoServerSessionStorage {}),
        };
        // A client that wants to resume needs one ticket for the next connection, and gets the next one there.
        config.send_tls13_tickets = usize::from(context.tickets);
        if context.tickets {
            let lifetime = u32::try_from(context.session_timeout.as_secs()).unwrap_or(u32::MAX);
            let tickets = aws_lc_rs::Ticketer::new().map_err(failed)?;
            config.ticketer = Arc::new(Tickets { tickets, lifetime });
        }
        let without_protocols = Arc::new(config.clone());
        config.alpn_protocols = settings.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Ok(Server { config: Arc::new(config), without_protocols, verifier, identity })
    }

    fn speaks_one_of(&self, hello: &Hello) -> bool {
        let offered = &hello.application_protocols;
        let spoken = &self.config.alpn_protocols;
        offered.is_empty() || offered.iter().any(|o| spoken.iter().any(|s| s == o.as_bytes()))
    }
}

/// Tickets that say how long they are good for.
#[derive(Debug)]
struct Tickets {
    tickets: Arc<dyn ProducesTickets>,
    lifetime: u32,
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime().min(self.lifetime)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.tickets.decrypt(cipher)
    }
}

/// A client's side of TLS.
#[derive(Debug)]
pub(crate) struct ClientTls {
    ready: Result<Client, TlsFailure>,
}

#[derive(Debug)]
struct Client {
    config: Arc<ClientConfig>,
    /// The same for servers whose names only requests say.
    naming: Arc<ClientConfig>,
    /// What the server is called; without a name its address takes the place, which is not sent.
    server_name: Option<ServerName<'static>>,
    verifier: Arc<Verifier>,
    identity: Option<Arc<str>>,
}

impl ClientTls {
    pub(crate) fn new(context: &UpstreamTls, secrets: &Secrets) -> ClientTls {
        ClientTls { ready: Client::new(context, secrets) }
    }

    /// A session with the server at `address`. What is in the greeting replaces what the context says.
    pub(crate) fn session(&self, address: std::net::IpAddr, greeting: &Greeting) -> Result<Session, TlsFailure> {
        let client = self.ready.as_ref().map_err(Clone::clone)?;
        let (name, config) = match &greeting.server_name {
            Some(name) => (Some(server_name(name)?), &client.naming),
            None => (client.server_name.clone(), &client.config),
        };
        let name = name.unwrap_or_else(|| ServerName::IpAddress(address.into()));
        let offer = match &greeting.offer {
            Some(offer) => offer.iter().map(|protocol| protocol.to_vec()).collect(),
            None if config.alpn_protocols.is_empty() => {
                greeting.otherwise.iter().map(|protocol| protocol.to_vec()).collect()
            }
            None => config.alpn_protocols.clone(),
        };
        let session = rustls::client::UnbufferedClientConnection::new_with_alpn(config.clone(), name, offer);
        session.map(Session::Client).map_err(|e| TlsFailure::from(&e))
    }

    /// The identity that is shown to servers.
    pub(crate) fn identity(&self) -> Option<&Arc<str>> {
        self.ready.as_ref().ok()?.identity.as_ref()
    }

    /// The identities of a server. A session that was taken up again is refused once its certificate has expired.
    pub(crate) fn peer_identities(
        &self,
        certificates: &[CertificateDer<'_>],
        resumed: bool,
    ) -> Result<Box<[Arc<str>]>, TlsFailure> {
        match &self.ready {
            Ok(client) => client.verifier.identities(certificates, resumed).map_err(|e| TlsFailure::from(&e)),
            Err(_) => Ok(Box::default()),
        }
    }
}

impl ClientTls {
    /// Whether a server's certificate has a name, where certificates are verified at all.
    pub(crate) fn check_name(&self, certificates: &[CertificateDer<'_>], name: &str) -> Result<(), TlsFailure> {
        match &self.ready {
            Ok(client) => client.verifier.check_name(certificates, name).map_err(|e| TlsFailure::from(&e)),
            Err(_) => Ok(()),
        }
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsFailure> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsFailure::other(&format!("{name:?} is not a server name")))
}

impl Client {
    fn new(context: &UpstreamTls, secrets: &Secrets) -> Result<Client, TlsFailure> {
        let settings = &context.settings;
        let certificates = OwnCertificates::of(settings, secrets)?;
        let demands = secrets.demands(settings).ok_or_else(|| missing(settings))?;
        let verifier = Arc::new(Verifier::new(Usage::Server, demands, true)?);
        let identity = certificates.identity();
        let mut config = ClientConfig::builder_with_provider(provider(settings))
            .with_protocol_versions(&versions(settings))
            .map_err(|e| TlsFailure::from(&e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = settings.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        config.resumption = match context.max_session_keys {
            0 => Resumption::disabled(),
            keys => Resumption::in_memory_sessions(usize::try_from(keys).unwrap_or(usize::MAX).min(KEPT_SESSIONS)),
        };
        let server_name = context.sni.as_deref().map(server_name).transpose()?;
        config.enable_sni = server_name.is_some();
        let mut naming = config.clone();
        naming.enable_sni = true;
        let naming = Arc::new(naming);
        Ok(Client { config: Arc::new(config), naming, server_name, verifier, identity })
    }
}

/// The certificates that are shown to peers: the first that the peer can verify.
struct OwnCertificates(Box<[Arc<CertifiedKey>]>);

impl OwnCertificates {
    fn of(settings: &TlsSettings, secrets: &Secrets) -> Result<OwnCertificates, TlsFailure> {
        let certificates = secrets.certificates(settings).ok_or_else(|| missing(settings))?;
        Ok(OwnCertificates(certificates.iter().map(|c: &TlsCertificate| c.certified.clone()).collect()))
    }

    fn choose(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|c| c.key.choose_scheme(schemes).is_some()).cloned()
    }

    /// The first URI name of the first certificate.
    fn identity(&self) -> Option<Arc<str>> {
        self.0.first().and_then(|c| c.cert.first()).and_then(|leaf| verify::uri_names(leaf).into_iter().next())
    }
}

impl fmt::Debug for OwnCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnCertificates({})", self.0.len())
    }
}

impl ResolvesServerCert for OwnCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // With one that the client cannot verify nothing is agreed on, and it is told that; with none, that it may not enter.
        self.choose(hello.signature_schemes()).or_else(|| self.0.first().cloned())
    }
}

impl ResolvesClientCert for OwnCertificates {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.choose(schemes)
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

fn missing(settings: &TlsSettings) -> TlsFailure {
    let names: Vec<&str> = settings.secrets().map(|s| &*s.name).collect();
    TlsFailure::other(&format!("the secrets {} have not been supplied", names.join(" and ")))
}

/// The library's algorithms, limited to those of the context.
fn provider(settings: &TlsSettings) -> Arc<CryptoProvider> {
    let mut provider = PROVIDER.clone();
    if !settings.ciphers.is_empty() {
        let known = &PROVIDER.cipher_suites;
        let wanted = settings.ciphers.iter().filter_map(|c| known.iter().find(|k| k.suite() == *c));
        let newer = known.iter().filter(|k| k.version().version == ProtocolVersion::TLSv1_3);
        provider.cipher_suites = newer.chain(wanted).copied().collect();
    }
    if !settings.groups.is_empty() {
        let known = &PROVIDER.kx_groups;
        let wanted = settings.groups.iter().filter_map(|g| known.iter().find(|k| k.name() == *g));
        provider.kx_groups = wanted.copied().collect();
    }
    Arc::new(provider)
}

fn versions(settings: &TlsSettings) -> Vec<&'static SupportedProtocolVersion> {
    let known = [&rustls::version::TLS13, &rustls::version::TLS12];
    known.into_iter().filter(|k| settings.versions.contains(&k.version)).collect()
}
