//! The filters of a connection manager, asked about a request one after the other.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use http::request::Parts;

use super::authorization;
use super::exchange::Exchange;
use super::filter::cors::Cors;
use super::filter::ext_authz::{self, Asked, Circumstances};
use super::filter::{LocalFilter, OnResponse, fault, jwt_authn};
use super::reply::Reply;
use super::request;
use crate::config::http::{AuthzOverride, BodyLimit, ExtAuthz, Fault, JwtAuthn, JwtOverride, Override};
use crate::metrics::{ExtAuthzStats, JwtAuthnStats};
use crate::worker::Current;

/// Asks the filters, in order, until one answers in place of upstream. The route is chosen again only where a filter is
/// configured to want that, whatever it changes in the request.
pub(super) async fn screen(exchange: &mut Exchange, parts: &mut Parts, current: &Current) -> Result<(), Reply> {
    let manager = exchange.connection.manager.clone();
    for (named, filter) in manager.config.filters.iter().zip(&manager.filters) {
        let found = exchange.found.clone();
        let change = found.as_ref().and_then(|found| found.override_of(&named.name));
        if named.is_off(change) {
            continue;
        }
        match (filter, change) {
            (LocalFilter::Rbac(rbac, stats), change) => {
                let rules = match change {
                    Some(Override::Rbac(rules)) => rules.as_ref(),
                    _ => Some(rbac),
                };
                if let Some(rules) = rules {
                    authorization::ask(exchange, parts, rules, stats)?;
                }
            }
            (LocalFilter::Cors(stats), Some(Override::Cors(policy))) => {
                match policy.look_at(parts, fastrand::u64(..), stats) {
                    Cors::Nothing => {}
                    Cors::Call(origin) => exchange.on_response.push(OnResponse::Cors(policy.clone(), origin)),
                    Cors::Preflight(reply) => return Err(reply),
                }
            }
            (LocalFilter::Fault(config, stats), change) => {
                let config: &Fault = match change {
                    Some(Override::Fault(other)) => other,
                    _ => config,
                };
                // What few requests meet is boxed, so that the others are small.
                let suffers = Box::pin(fault::suffer(config, stats, parts, &mut exchange.flags)).await?;
                exchange.suffers.extend(suffers);
            }
            (LocalFilter::JwtAuthn(config, stats), change) => {
                let change = match change {
                    Some(Override::JwtAuthn(change)) => Some(&**change),
                    _ => None,
                };
                let answer = Box::pin(authenticate(exchange, parts, (config, change, stats), current)).await;
                if answer.is_ok() {
                    stats.allowed.inc()
                } else {
                    stats.denied.inc()
                }
                if answer? {
                    request::find(exchange, parts, current)?;
                }
            }
            (LocalFilter::ExtAuthz(config, stats), change) => {
                let change = match change {
                    Some(Override::ExtAuthz(change)) => Some(&**change),
                    _ => None,
                };
                if Box::pin(authorize(exchange, parts, (config, change, stats), current)).await? {
                    request::find(exchange, parts, current)?;
                }
            }
            (LocalFilter::Offer(protocols), _) => exchange.offer = Some(protocols.clone()),
            (LocalFilter::Cors(_) | LocalFilter::GrpcStats, _) => {}
        }
    }
    Ok(())
}

/// Returns whether the route is to be chosen again.
async fn authenticate(
    exchange: &mut Exchange,
    parts: &mut Parts,
    (config, change, stats): (&JwtAuthn, Option<&JwtOverride>, &JwtAuthnStats),
    current: &Current,
) -> Result<bool, Reply> {
    if config.bypasses(parts) {
        stats.cors_preflight_bypassed.inc();
        return Ok(false);
    }
    let worker = exchange.connection.worker.clone();
    let Some(requirement) = config.requirement(&exchange.asked(parts), change)? else { return Ok(false) };
    let cluster = |name: &Arc<str>| current.cluster(&worker, name);
    jwt_authn::ask(config, requirement, parts, &mut exchange.metadata, stats, (&worker.setup.keys, cluster)).await
}

/// Returns whether the route is to be chosen again.
async fn authorize(
    exchange: &mut Exchange,
    parts: &mut Parts,
    (config, change, stats): (&ExtAuthz, Option<&AuthzOverride>, &ExtAuthzStats),
    current: &Current,
) -> Result<bool, Reply> {
    let body = match config.asks(change, &exchange.metadata, fastrand::u64(..)) {
        Asked::No => return Ok(false),
        Asked::Disabled(reply) => {
            stats.disabled.inc();
            return reply.map_or(Ok(false), Err);
        }
        Asked::Yes { body } => body,
    };
    let body = match config.body.as_ref().filter(|_| body) {
        Some(limit) => read_body(exchange, limit).await?,
        None => None,
    };
    let connection = exchange.connection.clone();
    let circumstances = Circumstances {
        source: exchange.remote,
        destination: connection.local,
        peer_identity: connection.identities.first().map(|i| &**i),
        own_identity: connection.own_identity.as_deref(),
        id: exchange.random,
        time: SystemTime::now(),
        body: body.as_deref(),
        metadata: &exchange.metadata,
    };
    let cluster = current.cluster(&connection.worker, config.cluster());
    let (changes, again) = ext_authz::ask(config, change, parts, &circumstances, cluster, stats).await?;
    if !changes.facts.fields.is_empty() {
        exchange.metadata.add(ext_authz::NAME, changes.facts);
    }
    if !changes.response.is_empty() {
        exchange.on_response.push(OnResponse::Change(changes.response));
    }
    Ok(again)
}

/// Reads the beginning of a body to tell it; upstream gets it, too.
async fn read_body(exchange: &mut Exchange, limit: &BodyLimit) -> Result<Option<Vec<u8>>, Reply> {
    let most = usize::try_from(limit.most).unwrap_or(usize::MAX);
    let Some(upload) = exchange.upload(Some(most)) else { return Ok(None) };
    let (read, whole) = upload.beginning(most).await;
    if !whole && !limit.partial {
        let reply = Reply::new(StatusCode::PAYLOAD_TOO_LARGE, "request_payload_too_large");
        return Err(reply.standard_body().closing());
    }
    Ok(Some(read))
}
