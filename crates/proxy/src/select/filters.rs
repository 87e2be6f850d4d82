//! What filters say of a request, as far as it follows from the configuration, the request and the time.

use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;

use super::request::{Call, DENIED, Found, LocalReply, RequestSelection, in_force};
use crate::DynamicMetadata;
use crate::access_log::Flag;
use crate::config::http::{
    ExtAuthz, Fault, HttpFilter, HttpRbac, JwksSource, JwtAuthn, JwtProvider, NamedFilter, Override,
};
use crate::http::filter::{ext_authz, jwt_authn};
use crate::rbac::{Asking, Peer};
use crate::routing::{Request, TlsFacts};

/// A request that filters are asked about.
pub(super) struct Asked<'a, 's> {
    pub(super) call: &'a Call<'a>,
    pub(super) tls: Option<TlsFacts>,
    pub(super) found: Found<'s>,
    /// What filters have noted.
    pub(super) metadata: DynamicMetadata,
}

/// Asks filters, in order, until one answers in place of upstream.
pub(super) fn ask<'s>(
    filters: &'s [NamedFilter],
    asked: &mut Asked<'_, 's>,
    parts: &mut Parts,
    selection: &mut RequestSelection<'s>,
) -> Option<LocalReply> {
    for named in filters {
        let change = asked.found.change(&named.name);
        let off = named.is_off(change);
        let reply = match (&named.filter, change) {
            (HttpFilter::Rbac(own), change) => {
                in_force(own, named.disabled, change).and_then(|rbac| asked.authorize(rbac, parts, selection))
            }
            _ if off => None,
            (HttpFilter::JwtAuthn(config), _) => asked.authenticate(config, (named, change), parts, selection),
            (HttpFilter::ExtAuthz(config), _) => asked.refer(config, (named, change), selection),
            (HttpFilter::Fault(_), Some(Override::Fault(fault))) | (HttpFilter::Fault(fault), _) => {
                selection.faults.extend(fault.headers.iter().all(|header| header.holds(parts)).then_some(fault));
                certain(fault, parts)
            }
            (HttpFilter::Offer(protocols), _) => {
                selection.offer = Some(protocols);
                None
            }
            (HttpFilter::Cors | HttpFilter::GrpcStats, _) => None,
        };
        if reply.is_some() {
            return reply;
        }
    }
    None
}

impl<'s> Asked<'_, 's> {
    fn authorize(
        &mut self,
        rbac: &'s Arc<HttpRbac>,
        parts: &Parts,
        selection: &mut RequestSelection<'s>,
    ) -> Option<LocalReply> {
        let connection = &self.call.connection;
        let tls = self.tls.is_some();
        let peer = Peer {
            destination: connection.destination,
            source: connection.source.ip(),
            server_name: connection.hello.and_then(|h| h.server_name.as_deref()).unwrap_or_default(),
            tls,
            identities: if tls { connection.identities } else { &[] },
        };
        let asking = Asking { peer, remote: self.call.remote, parts, metadata: &self.metadata };
        let shadow = rbac.shadow_verdict(&asking);
        let verdict = rbac.verdict(&asking);
        if let Some(shadow) = shadow {
            rbac.note(&shadow, &mut self.metadata);
        }
        let verdict = verdict?;
        selection.verdicts.push(verdict);
        if verdict.allowed {
            return None;
        }
        selection.refused_by = Some(rbac);
        let reply = LocalReply::new(StatusCode::FORBIDDEN, DENIED, None, "");
        Some(LocalReply { details: verdict.to_string().into(), ..reply })
    }

    fn authenticate(
        &mut self,
        config: &'s JwtAuthn,
        (named, change): (&'s NamedFilter, Option<&Override>),
        parts: &mut Parts,
        selection: &mut RequestSelection<'s>,
    ) -> Option<LocalReply> {
        let change = match change {
            Some(Override::JwtAuthn(change)) => Some(&**change),
            _ => None,
        };
        if config.bypasses(parts) {
            return None;
        }
        let request = Request { parts, tls: self.tls, random: self.call.connection.random };
        let requirement = match config.requirement(&request, change) {
            Ok(requirement) => requirement?,
            Err(reply) => return Some(LocalReply::of(reply)),
        };
        if !config.wanted(requirement, parts).is_empty() {
            selection.undecided.push(named);
            return None;
        }
        let keys = |provider: &JwtProvider| match &provider.keys {
            JwksSource::Local(keys) => Some(keys.clone()),
            JwksSource::Remote(_) => None,
        };
        let (learnt, result) = config.authenticate(requirement, parts, self.call.time, &keys);
        if !learnt.facts.fields.is_empty() {
            self.metadata.add(jwt_authn::NAME, learnt.facts);
        }
        if let Err(reply) = result {
            return Some(LocalReply::of(reply));
        }
        if learnt.clear_route_cache {
            let request = Request { parts, tls: self.tls, random: self.call.connection.random };
            self.found = Found::of(self.found.table, &request);
        }
        None
    }

    /// Whoever else is to be asked is not asked here.
    fn refer(
        &self,
        config: &ExtAuthz,
        (named, change): (&'s NamedFilter, Option<&Override>),
        selection: &mut RequestSelection<'s>,
    ) -> Option<LocalReply> {
        let change = match change {
            Some(Override::ExtAuthz(change)) => Some(&**change),
            _ => None,
        };
        match config.asks(change, &self.metadata, self.call.connection.random) {
            ext_authz::Asked::No => None,
            ext_authz::Asked::Disabled(reply) => reply.map(LocalReply::of),
            ext_authz::Asked::Yes { .. } => {
                selection.undecided.push(named);
                None
            }
        }
    }
}

/// The answer to every request like this one, if a fault gives it.
fn certain(fault: &Fault, parts: &Parts) -> Option<LocalReply> {
    let all = fault.abort.is_some_and(|abort| abort.share.percent() >= 100.0);
    // Of a share that is everything, any number is a part.
    let reply = fault.inject(parts, || 0).reply().filter(|_| all)?;
    Some(LocalReply { flag: Some(Flag::FaultInjected), ..LocalReply::of(reply) })
}
