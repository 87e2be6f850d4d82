//! Questions and answers over plain HTTP.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Bytes;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::{Changes, Decision, denied};
use crate::config::StringMatch;
use crate::config::http::{Append, ExtAuthz, HeaderAddition, HeaderMutations, HttpAuthz};
use crate::routing;

/// By which an answer says what is to be removed from the request.
const REMOVE: &str = "x-envoy-auth-headers-to-remove";
/// What belongs to the answer itself, and not to what it says.
const OF_THE_ANSWER: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "date",
    "keep-alive",
    "server",
    "transfer-encoding",
    "x-envoy-upstream-service-time",
];

/// The request itself, with few of its headers: without anything said, what it is authorized by.
pub(super) fn question(
    filter: &ExtAuthz,
    service: &HttpAuthz,
    parts: &Parts,
    body: Option<&[u8]>,
) -> Result<Request<Bytes>, http::Error> {
    let path = routing::full_path(parts);
    let mut question = Request::builder().method(&parts.method).uri(format!("{}{path}", service.path_prefix));
    let host = HeaderValue::from_str(routing::authority(parts)).ok();
    if let Some(headers) = question.headers_mut() {
        for (name, value) in &parts.headers {
            let always = matches!(*name, header::AUTHORIZATION);
            let own = matches!(*name, header::HOST | header::CONTENT_LENGTH | header::TRANSFER_ENCODING);
            if !own && (always || filter.tells(name, false)) {
                headers.append(name, value.clone());
            }
        }
        headers.extend(host.map(|host| (header::HOST, host)));
        for (name, value) in &service.headers_to_add {
            headers.insert(name, value.clone());
        }
        headers.insert(header::CONTENT_LENGTH, body.map_or(0, <[u8]>::len).into());
    }
    question.body(body.map(Bytes::copy_from_slice).unwrap_or_default())
}

/// What an answer says; `None` if nothing.
pub(super) fn decision(service: &HttpAuthz, answer: Response<Bytes>) -> Option<Decision> {
    let (head, body) = answer.into_parts();
    if head.status.is_server_error() {
        return None;
    }
    let chosen = |choose: &dyn Fn(&HeaderName) -> bool| -> Vec<(HeaderName, HeaderValue)> {
        let told = head.headers.iter().filter(|(name, _)| choose(name));
        told.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    if head.status != StatusCode::OK {
        let own = [header::WWW_AUTHENTICATE, header::LOCATION];
        let headers = chosen(&|name| match service.client_headers.is_empty() {
            true => !matches!(name.as_str(), "connection" | "keep-alive" | "content-length" | "transfer-encoding"),
            false => among(&service.client_headers, name) || own.contains(name),
        });
        return Some(denied(head.status, body, headers));
    }
    let remove = head.headers.get_all(REMOVE).iter().filter_map(|value| value.to_str().ok());
    let remove = remove.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    let says = |name: &HeaderName| !OF_THE_ANSWER.contains(&name.as_str());
    let noted = chosen(&|name| says(name) && among(&service.metadata_headers, name)).into_iter().filter_map(|header| {
        let (name, value) = header;
        Some((name.to_string(), Value { kind: Some(Kind::StringValue(value.to_str().ok()?.to_owned())) }))
    });
    let told = chosen(&|name| says(name) && among(&service.client_headers_on_success, name));
    let told = told.into_iter().map(|(name, value)| HeaderAddition::fixed(name, value, Append::AppendOrAdd));
    Some(Decision::Allowed(Box::new(Changes {
        set: chosen(&|name| says(name) && among(&service.upstream_headers, name)),
        append: chosen(&|name| says(name) && among(&service.upstream_headers_to_append, name)),
        remove: remove.collect(),
        response: HeaderMutations { remove: Box::default(), add: told.collect() },
        facts: Struct { fields: noted.collect() },
        ..Changes::default()
    })))
}

fn among(list: &[StringMatch], name: &HeaderName) -> bool {
    list.iter().any(|m| m.matches(name.as_str()))
}
