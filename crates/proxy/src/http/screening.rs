//! The filters of a connection manager, asked about a request one after the other.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::header;
use http::request::Parts;

use super::authorization;
use super::exchange::Exchange;
use super::filter::ext_authz::{self, Asked, Circumstances};
use super::filter::{LocalReply, cors::Cors, fault, jwt_authn};
use super::reply::Reply;
use super::request;
use crate::config::http::{
    AuthzOverride, AuthzService, BodyLimit, ExtAuthz, Fault, HttpFilter, JwtAuthn, JwtOverride, NamedFilter, Override,
};
use crate::upstream::Establish;
use crate::worker::Current;

impl From<LocalReply> for Reply {
    fn from(local: LocalReply) -> Reply {
        let LocalReply { status, body, headers, grpc_status, flag, details } = local;
        let reply = Reply::new(status, details).body(body).grpc_status(grpc_status);
        let reply = headers.into_iter().fold(reply, |reply, (name, value)| reply.header(name, value));
        match flag {
            Some(flag) => reply.flag(flag),
            None => reply,
        }
    }
}

/// Asks the filters, in order, until one answers in place of upstream.
pub(super) async fn screen(exchange: &mut Exchange, parts: &mut Parts, current: &Current) -> Result<(), Reply> {
    let manager = exchange.connection.manager.clone();
    for (position, named) in manager.config.filters.iter().enumerate() {
        let found = exchange.found.clone();
        let change = found.as_ref().and_then(|found| found.override_of(&named.name));
        if is_disabled(named, change) {
            continue;
        }
        match (&named.filter, change) {
            (HttpFilter::Rbac(rbac), change) => {
                let rules = match change {
                    Some(Override::Rbac(rules)) => rules.as_ref(),
                    _ => Some(rbac),
                };
                if let (Some(rules), Some(Some(stats))) = (rules, manager.rbac.get(position)) {
                    authorization::ask(exchange, parts, rules, stats)?;
                }
            }
            (HttpFilter::Cors, Some(Override::Cors(policy))) => match policy.look_at(parts, fastrand::u64(..)) {
                Cors::Nothing => {}
                Cors::Call(origin) => exchange.cors = Some((policy.clone(), origin)),
                Cors::Preflight(reply) => return Err(reply.into()),
            },
            (HttpFilter::Fault(config), change) => {
                let config: &Fault = match change {
                    Some(Override::Fault(other)) => other,
                    _ => config,
                };
                if let Some(suffering) = manager.suffering.get(position) {
                    // What few requests meet is boxed, so that the others are small.
                    Box::pin(fault::suffer(config, suffering, parts, &mut exchange.flags)).await?;
                }
            }
            (HttpFilter::JwtAuthn(config), change) => {
                let change = match change {
                    Some(Override::JwtAuthn(change)) => Some(&**change),
                    _ => None,
                };
                Box::pin(authenticate(exchange, parts, config, change, current)).await?;
            }
            (HttpFilter::ExtAuthz(config), change) => {
                let change = match change {
                    Some(Override::ExtAuthz(change)) => Some(&**change),
                    _ => None,
                };
                Box::pin(authorize(exchange, parts, config, change, current)).await?;
            }
            (HttpFilter::Cors | HttpFilter::GrpcStats, _) => {}
        }
    }
    Ok(())
}

fn is_disabled(named: &NamedFilter, change: Option<&Override>) -> bool {
    match change {
        Some(Override::Disabled) => true,
        Some(_) => false,
        None => named.disabled,
    }
}

async fn authenticate(
    exchange: &mut Exchange,
    parts: &mut Parts,
    config: &JwtAuthn,
    change: Option<&JwtOverride>,
    current: &Current,
) -> Result<(), Reply> {
    let worker = exchange.connection.worker.clone();
    let Some(requirement) = config.requirement(&exchange.asked(parts), change)? else { return Ok(()) };
    let cluster = |name: &Arc<str>| current.cluster(&worker, name);
    let asked = jwt_authn::ask(config, requirement, parts, &mut exchange.metadata, (&worker.keys, cluster));
    if asked.await? {
        request::find(exchange, parts, current)?;
    }
    Ok(())
}

async fn authorize(
    exchange: &mut Exchange,
    parts: &mut Parts,
    config: &ExtAuthz,
    change: Option<&AuthzOverride>,
    current: &Current,
) -> Result<(), Reply> {
    let body = match config.asks(change, &exchange.metadata, fastrand::u64(..)) {
        Asked::No => return Ok(()),
        Asked::Refused(reply) => return Err(reply.into()),
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
    let name = match &config.service {
        AuthzService::Http(service) => &service.cluster,
        AuthzService::Grpc(service) => &service.cluster,
    };
    let cluster: Option<Rc<Establish>> = current.cluster(&connection.worker, name);
    let (changes, again) = ext_authz::ask(config, change, parts, &circumstances, cluster).await?;
    if !changes.facts.fields.is_empty() {
        exchange.metadata.add(ext_authz::NAME, changes.facts.clone());
    }
    exchange.authorized.push(changes);
    if again {
        request::find(exchange, parts, current)?;
    }
    Ok(())
}

/// Reads the beginning of a body to tell it; upstream gets it, too.
async fn read_body(exchange: &mut Exchange, limit: &BodyLimit) -> Result<Option<Vec<u8>>, Reply> {
    let most = usize::try_from(limit.most).unwrap_or(usize::MAX);
    let Some(upload) = exchange.upload(Some(most)) else { return Ok(None) };
    let (read, whole) = upload.beginning(most).await;
    if !whole && !limit.partial {
        let reply = Reply::new(http::StatusCode::PAYLOAD_TOO_LARGE, "request_payload_too_large");
        return Err(reply.standard_body().header(header::CONNECTION, header::HeaderValue::from_static("close")));
    }
    Ok(Some(read))
}
