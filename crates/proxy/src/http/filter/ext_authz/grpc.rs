//! Questions and answers over gRPC: `envoy.service.auth.v3.Authorization`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use envoy::envoy::config::core::v3 as core;
use envoy::envoy::config::core::v3::address::Address as AddressKind;
use envoy::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy::envoy::service::auth::v3 as wire;
use envoy::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request as AboutRequest};
use envoy::envoy::service::auth::v3::check_response::HttpResponse;
use envoy::envoy::r#type::v3::HttpStatus;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Bytes;
use prost::Message;
use prost_types::Struct;

use super::{Changes, Circumstances, Decision, denied};
use crate::config::http::{Append, BodyLimit, ExtAuthz, GrpcAuthz, HeaderAddition, HeaderMutations};
use crate::http::errand;
use crate::http::reply::Reply;
use crate::routing;

const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";
/// What goes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

pub(super) fn question(
    filter: &ExtAuthz,
    service: &GrpcAuthz,
    parts: &Parts,
    circumstances: &Circumstances<'_>,
    context: &BTreeMap<String, String>,
) -> Result<Request<Bytes>, http::Error> {
    let message = wire::CheckRequest { attributes: Some(attributes(filter, parts, circumstances, context)) };
    errand::grpc(service.authority.as_deref().unwrap_or(&service.cluster), METHOD, Some(service.timeout), &message)
}

fn attributes(
    filter: &ExtAuthz,
    parts: &Parts,
    circumstances: &Circumstances<'_>,
    context: &BTreeMap<String, String>,
) -> wire::AttributeContext {
    let Circumstances { source, destination, peer_identity, own_identity, time, metadata, .. } = circumstances;
    let service = text(parts, "x-envoy-downstream-service-cluster").unwrap_or_default();
    let told =
        filter.metadata_namespaces.iter().filter_map(|name| Some((name.to_string(), metadata.of(name)?.clone())));
    wire::AttributeContext {
        source: Some(Peer { service: service.to_owned(), ..peer(*source, *peer_identity) }),
        destination: Some(peer(*destination, *own_identity)),
        request: Some(AboutRequest {
            time: Some((*time).into()),
            http: Some(http_request(filter, parts, circumstances)),
        }),
        context_extensions: context.clone(),
        metadata_context: Some(core::Metadata { filter_metadata: told.collect(), ..core::Metadata::default() }),
        ..wire::AttributeContext::default()
    }
}

fn peer(address: SocketAddr, identity: Option<&str>) -> Peer {
    let socket = core::SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
        ..core::SocketAddress::default()
    };
    Peer {
        address: Some(core::Address { address: Some(AddressKind::SocketAddress(socket)) }),
        principal: identity.unwrap_or_default().to_owned(),
        ..Peer::default()
    }
}

fn text<'p>(parts: &'p Parts, name: &str) -> Option<&'p str> {
    parts.headers.get(name).and_then(|value| value.to_str().ok())
}

fn http_request(filter: &ExtAuthz, parts: &Parts, circumstances: &Circumstances<'_>) -> HttpRequest {
    let (path, host, scheme) = (routing::full_path(parts), routing::authority(parts), routing::scheme(parts));
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    let pseudo = [(":method", parts.method.as_str()), (":path", path), (":authority", host), (":scheme", scheme)];
    if filter.allowed_headers.is_none() {
        headers.extend(pseudo.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let told = parts.headers.iter().filter(|(name, _)| *name != header::HOST && filter.tells(name, true));
    for (name, value) in told {
        let value = String::from_utf8_lossy(value.as_bytes());
        // Several values are one, with commas between.
        let known = headers.entry(name.to_string()).or_default();
        let comma = if known.is_empty() { "" } else { "," };
        *known = format!("{known}{comma}{value}");
    }
    let as_bytes = matches!(filter.body, Some(BodyLimit { as_bytes: true, .. }));
    let body = circumstances.body;
    let length = text(parts, "content-length").and_then(|length| length.parse().ok());
    HttpRequest {
        id: circumstances.id.to_string(),
        method: parts.method.to_string(),
        headers,
        path: path.to_owned(),
        host: host.to_owned(),
        scheme: scheme.to_owned(),
        size: length.unwrap_or(-1),
        protocol: protocol(parts.version).to_owned(),
        body: body.filter(|_| !as_bytes).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default(),
        raw_body: body.filter(|_| as_bytes).map(<[u8]>::to_vec).unwrap_or_default(),
        ..HttpRequest::default()
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// What an answer says; `None` if nothing.
pub(super) fn decision(filter: &ExtAuthz, answer: Response<Bytes>) -> Option<Decision> {
    let (head, body) = answer.into_parts();
    let failed = head.headers.get("grpc-status").is_none_or(|status| status != "0");
    if head.status != StatusCode::OK || failed || body.first() != Some(&0) {
        return None;
    }
    let message = wire::CheckResponse::decode(body.get(PREFIX..)?).ok()?;
    let wire::CheckResponse { status, dynamic_metadata, http_response } = message;
    let allowed = status.unwrap_or_default().code == 0;
    match http_response {
        Some(HttpResponse::OkResponse(ok)) if allowed => Some(permission(ok, dynamic_metadata)),
        _ if allowed => Some(permission(wire::OkHttpResponse::default(), dynamic_metadata)),
        Some(HttpResponse::DeniedResponse(answer)) => Some(refusal(answer)),
        Some(HttpResponse::ErrorResponse(answer)) => Some(failure(filter, answer)),
        _ => Some(denied(StatusCode::FORBIDDEN, Bytes::new(), Vec::new())),
    }
}

#[expect(deprecated, reason = "services still say things as they were said before")]
fn permission(answer: wire::OkHttpResponse, metadata: Option<Struct>) -> Decision {
    let wire::OkHttpResponse {
        headers,
        headers_to_remove,
        dynamic_metadata,
        response_headers_to_add,
        query_parameters_to_set,
        query_parameters_to_remove,
    } = answer;
    let response = response_headers_to_add.into_iter().filter_map(|option| {
        let append = append_of(&option);
        let (name, value) = header_of(option)?;
        Some(HeaderAddition::fixed(name, value, append))
    });
    let mut changes = Changes {
        remove: headers_to_remove.iter().filter_map(|name| name.parse().ok()).collect(),
        query_set: query_parameters_to_set.into_iter().map(|p| (p.key, p.value)).collect(),
        query_remove: query_parameters_to_remove,
        response: HeaderMutations { remove: Box::default(), add: response.collect() },
        facts: dynamic_metadata.or(metadata).unwrap_or_default(),
        ..Changes::default()
    };
    for option in headers {
        // Of requests Envoy 1.40 looks only at what is deprecated.
        let appended = option.append == Some(true);
        if let Some(header) = header_of(option) {
            if appended { &mut changes.append } else { &mut changes.set }.push(header);
        }
    }
    Decision::Allowed(Box::new(changes))
}

fn refusal(answer: wire::DeniedHttpResponse) -> Decision {
    let wire::DeniedHttpResponse { status, headers, body } = answer;
    let headers = headers.into_iter().filter_map(header_of);
    denied(status_of(status).unwrap_or(StatusCode::FORBIDDEN), body.into(), headers.collect())
}

/// Whoever was asked says that it cannot decide, and what the client shall be told if nobody else does.
fn failure(filter: &ExtAuthz, answer: wire::DeniedHttpResponse) -> Decision {
    let wire::DeniedHttpResponse { status, headers, body } = answer;
    let reply = filter.failure().body(body);
    let headers = headers.into_iter().filter_map(header_of).collect();
    Decision::Failed(Reply { status: status_of(status).unwrap_or(reply.status), headers, ..reply })
}

fn status_of(status: Option<HttpStatus>) -> Option<StatusCode> {
    status.and_then(|s| StatusCode::from_u16(u16::try_from(s.code).ok()?).ok())
}

/// What becomes of a header of the response that is there already.
#[expect(deprecated, reason = "services still say it as it was said before")]
fn append_of(option: &core::HeaderValueOption) -> Append {
    match (option.append, HeaderAppendAction::try_from(option.append_action)) {
        (Some(true), _) | (None, Ok(HeaderAppendAction::AppendIfExistsOrAdd)) => Append::AppendOrAdd,
        (None, Ok(HeaderAppendAction::AddIfAbsent)) => Append::AddIfAbsent,
        (None, Ok(HeaderAppendAction::OverwriteIfExists)) => Append::OverwriteIfPresent,
        (Some(false), _) | (None, Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) | Err(_)) => Append::OverwriteOrAdd,
    }
}

/// A header; one that no message can have is left out.
fn header_of(option: core::HeaderValueOption) -> Option<(HeaderName, HeaderValue)> {
    let core::HeaderValue { key, value, raw_value } = option.header?;
    let value = if raw_value.is_empty() { value.into_bytes() } else { raw_value };
    Some((key.to_ascii_lowercase().parse().ok()?, HeaderValue::from_bytes(&value).ok()?))
}
