//! How a handshake with an endpoint begins.

use std::sync::Arc;

use crate::config::http::Protocols;

/// What is said in a handshake with an endpoint in place of what its transport says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Greeting {
    /// The application protocols that are offered.
    pub(crate) offer: Option<Protocols>,
    /// The application protocol that is offered if the transport has none either.
    pub(crate) otherwise: Option<&'static [u8]>,
    /// What the server is called.
    pub(crate) server_name: Option<Arc<str>>,
    /// The name that the certificate must have, beside what is demanded of it anyway.
    pub(crate) verified: Option<Arc<str>>,
}
