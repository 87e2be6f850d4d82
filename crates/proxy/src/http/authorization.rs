//! The RBAC filter, asked about a request.

use std::borrow::Cow;

use http::StatusCode;
use http::request::Parts;

use super::exchange::Exchange;
use super::filter::BothRbacStats;
use super::reply::Reply;
use crate::config::http::HttpRbac;
use crate::rbac::{Asking, Peer};

/// Asks a filter whether a request may go on, and notes what its rules that are only counted say: by that, filters that
/// follow know whether they are meant.
pub(super) fn ask(
    exchange: &mut Exchange,
    parts: &Parts,
    rbac: &HttpRbac,
    (stats, shadow_stats): &BothRbacStats,
) -> Result<(), Reply> {
    if let Some(verdict) = rbac.shadow_verdict(&asking(exchange, parts)) {
        if verdict.allowed {
            shadow_stats.shadow_allowed.inc()
        } else {
            shadow_stats.shadow_denied.inc()
        }
        rbac.note(&verdict, &mut exchange.metadata);
    }
    match rbac.verdict(&asking(exchange, parts)) {
        Some(verdict) if !verdict.allowed => {
            stats.denied.inc();
            let details = Cow::Owned(verdict.to_string());
            Err(Reply::new(StatusCode::FORBIDDEN, details).body("RBAC: access denied"))
        }
        Some(_) => {
            stats.allowed.inc();
            Ok(())
        }
        None => Ok(()),
    }
}

fn asking<'a>(exchange: &'a Exchange, parts: &'a Parts) -> Asking<'a> {
    let connection = &exchange.connection;
    let peer = Peer {
        destination: connection.local,
        source: connection.remote.ip(),
        server_name: connection.server_name.as_deref().unwrap_or_default(),
        tls: connection.is_secure(),
        identities: &connection.identities,
    };
    Asking { peer, remote: exchange.remote.ip(), parts, metadata: &exchange.metadata }
}
