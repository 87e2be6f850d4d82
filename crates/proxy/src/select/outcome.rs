//! The ends that a connection can come to.

use std::fmt;
use std::sync::Arc;

use crate::access_log::Flag;
use crate::config::http::HttpConnectionManager;
use crate::config::{Cluster, EndpointAddress, Socket};
use crate::rbac::Verdict;

/// What comes of a connection.
#[derive(Debug, Clone)]
pub enum Outcome<'s> {
    /// No listener takes it.
    NoListener,
    /// No filter chain of the listener takes it: it is closed.
    NoChain,
    /// The TLS handshake fails.
    TlsRefused(TlsRefusal<'s>),
    /// It is not authorized: it is closed when its first bytes come.
    Denied(Verdict<'s>),
    /// Its cluster does not exist.
    NoCluster(&'s Arc<str>),
    /// Its cluster has no endpoint.
    NoEndpoint(&'s Arc<Cluster>),
    /// It carries requests of HTTP, each of which has a fate of its own.
    Http(&'s Arc<HttpConnectionManager>),
    /// It is proxied.
    Proxied {
        /// Its cluster.
        cluster: &'s Arc<Cluster>,
        /// The endpoints, of which the load balancer chooses one.
        targets: Vec<Target<'s>>,
    },
}

/// An endpoint that a connection may go to.
#[derive(Debug, Clone)]
pub struct Target<'s> {
    /// Where it is.
    pub address: EndpointAddress,
    /// How bytes travel there.
    pub socket: &'s Socket,
    /// The transport socket match that chose the socket; `None` for the cluster's own.
    pub chosen_by: Option<&'s Arc<str>>,
}

/// Why a TLS handshake fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsRefusal<'s> {
    /// The connection does not speak TLS.
    NotTls,
    /// The ClientHello has no server name, and one is required.
    NoServerName,
    /// A secret that the handshake needs is missing, or of the wrong kind.
    MissingSecret(&'s Arc<str>),
    /// The client has no certificate, and one is required.
    NoCertificate,
    /// The client's trust domain is none of those that are known.
    UnknownTrustDomain,
    /// The client's certificate has none of the demanded names.
    WrongName,
}

impl fmt::Display for TlsRefusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsRefusal::NotTls => f.write_str("the client speaks plaintext where TLS is required"),
            TlsRefusal::NoServerName => f.write_str("the client sends no server name"),
            TlsRefusal::MissingSecret(name) => write!(f, "the secret {name:?} is missing"),
            TlsRefusal::NoCertificate => f.write_str("the client has no certificate"),
            TlsRefusal::UnknownTrustDomain => f.write_str("the client's trust domain is not trusted"),
            TlsRefusal::WrongName => f.write_str("the client's certificate has none of the names that are demanded"),
        }
    }
}

impl Outcome<'_> {
    /// Whether the connection is proxied.
    pub fn is_proxied(&self) -> bool {
        matches!(self, Outcome::Proxied { .. })
    }

    /// The flag that the access log shows for it, if there is one.
    pub fn flag(&self) -> Option<Flag> {
        match self {
            Outcome::NoChain => Some(Flag::NoRouteFound),
            Outcome::NoCluster(_) => Some(Flag::NoClusterFound),
            Outcome::NoEndpoint(_) => Some(Flag::NoHealthyUpstream),
            Outcome::NoListener
            | Outcome::TlsRefused(_)
            | Outcome::Denied(_)
            | Outcome::Http(_)
            | Outcome::Proxied { .. } => None,
        }
    }
}
