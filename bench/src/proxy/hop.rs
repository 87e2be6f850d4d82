//! What a proxy is to do, for every program alike.

use std::net::SocketAddr;

use super::certificates::{Certificates, Hosts};

/// One hop: a listener and the endpoint that it leads to.
pub(crate) struct Hop<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) endpoint: SocketAddr,
    /// Terminates TLS, as the server.
    pub(crate) terminate: Option<Terminate<'a>>,
    /// Originates TLS, as the client.
    pub(crate) originate: Option<&'a Certificates>,
    pub(crate) work: Work,
}

/// How TLS ends.
#[derive(Clone, Copy)]
pub(crate) enum Terminate<'a> {
    /// As in a sidecar: both sides show who they are.
    Mutual(&'a Certificates),
    /// As at a gateway: each name has a certificate.
    Hosts(&'a Hosts),
}

/// What is done with what comes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Bytes,
    /// Bytes of TLS that ends elsewhere, by the name that the client asks for.
    Passthrough,
    Requests(Requests),
}

/// What is done with requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requests {
    /// How many routes there are; requests take the last.
    pub(crate) routes: u32,
    /// Whether there is what a sidecar does to each: a policy, limits of time, retries, an access log.
    pub(crate) features: bool,
    /// Whether the endpoint speaks HTTP/2.
    pub(crate) http2: bool,
}

impl Requests {
    /// By one route, with what a sidecar does.
    pub(crate) const USUAL: Requests = Requests { routes: 1, features: true, http2: false };
}

/// What clients ask for the passthrough by.
pub(crate) const PASSED: &str = "passed.bench.example";

/// What a client asks for where there are so many routes.
pub(crate) fn path(routes: u32) -> String {
    format!("/service-{}/items/7?page=2", routes - 1)
}
