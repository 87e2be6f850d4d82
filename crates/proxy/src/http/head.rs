//! The heads of requests: what is refused, and what is changed before anything reads them.
//!
//! Afterwards the authority is always in `host`, and the URI has only the path and the query.

pub(crate) mod address;
pub(crate) mod client_certificate;
pub(crate) mod names;
pub(crate) mod path;
pub(crate) mod request_id;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{Method, StatusCode, Version};

use super::connection::Connection;
use super::reply::Reply;
use crate::access_log::Flag;
use crate::config::http::{HttpConnectionManager, StripPort, Underscores};
use address::Origin;
use path::{Normalized, Refusal};

/// How many headers `connection` may name.
const MOST_NOMINATED: usize = 10;

/// Makes a head ready to be read by filters and routes.
pub(crate) fn prepare(parts: &mut Parts, connection: &Connection) -> Result<Origin, Reply> {
    let config = &*connection.manager.config;
    check(parts, config)?;
    let upgrade = is_upgrade(parts);
    hop_by_hop(&mut parts.headers, upgrade);
    let secure = connection.is_secure();
    let own = connection.worker.own_address();
    let origin = address::origin(&mut parts.headers, connection.remote, own, secure, &config.remote_address);
    request_id::identify(&mut parts.headers, origin.edge, config.request_id);
    client_certificate::forward(&mut parts.headers, connection.certificate.as_ref(), &config.client_certificate);
    if let Some(via) = &config.via {
        address::append(&mut parts.headers, header::VIA, via.to_str().unwrap_or_default());
    }
    if config.append_forwarded_port && !parts.headers.contains_key(names::X_FORWARDED_PORT) {
        parts.headers.insert(names::X_FORWARDED_PORT, connection.local.port().into());
    }
    Ok(origin)
}

/// Refuses a head that may not be, and brings target, authority and path into the form that everything reads.
pub(crate) fn check(parts: &mut Parts, config: &HttpConnectionManager) -> Result<(), Reply> {
    check_version(parts, config)?;
    check_method(parts, config)?;
    nominated(&mut parts.headers)?;
    target(parts, config)?;
    underscores(&mut parts.headers, config.connections.underscores)?;
    if parts.headers.len() > config.connections.max_headers {
        let reply = Reply::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "http1.too_many_headers");
        return Err(reply.standard_body().flag(Flag::DownstreamProtocolError).closing());
    }
    normalize(parts, config)
}

/// A request that is malformed: the answer is its status in words, and ends the connection.
fn malformed(details: &'static str) -> Reply {
    Reply::new(StatusCode::BAD_REQUEST, details).standard_body().flag(Flag::DownstreamProtocolError).closing()
}

fn check_version(parts: &Parts, config: &HttpConnectionManager) -> Result<(), Reply> {
    match parts.version {
        Version::HTTP_11 | Version::HTTP_2 => Ok(()),
        Version::HTTP_10 if config.http1.accept_http_10 => Ok(()),
        _ => Err(Reply::new(StatusCode::UPGRADE_REQUIRED, "low_version")
            .standard_body()
            .flag(Flag::DownstreamProtocolError)
            .closing()),
    }
}

/// Of several authorities a list is made, as Envoy does; no virtual host has such a name.
fn join_hosts(parts: &mut Parts) {
    if parts.headers.get_all(header::HOST).iter().nth(1).is_none() {
        return;
    }
    let hosts: Vec<&[u8]> = parts.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(hosts) = HeaderValue::from_bytes(&hosts.join(&b","[..])) {
        parts.headers.insert(header::HOST, hosts);
    }
}

/// The methods that HTTP/1 has in Envoy unless others are allowed.
const METHODS: [&str; 34] = [
    "ACL",
    "BIND",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "M-SEARCH",
    "NOTIFY",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

fn check_method(parts: &Parts, config: &HttpConnectionManager) -> Result<(), Reply> {
    let common = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS, Method::PATCH];
    let known = parts.version == Version::HTTP_2
        || config.http1.custom_methods
        || common.contains(&parts.method)
        || METHODS.contains(&parts.method.as_str());
    if known { Ok(()) } else { Err(malformed("http1.codec_error")) }
}

/// Removes what `connection` says is for this hop only. Who came from where is not, and not too much may be said.
fn nominated(headers: &mut HeaderMap) -> Result<(), Reply> {
    let lists = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    let names = lists.flat_map(|list| list.split(',')).map(str::trim);
    let known = |name: &str| ["", "close", "keep-alive", "upgrade", "te"].iter().any(|k| k.eq_ignore_ascii_case(name));
    let own = |name: &str| [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().any(|own| *own == *name);
    let names: Vec<String> = names.filter(|name| !known(name)).map(str::to_ascii_lowercase).collect();
    let kept = [names::X_FORWARDED_FOR, names::X_FORWARDED_HOST, names::X_FORWARDED_PROTO];
    let forbidden = |name: &String| name.starts_with(':') || kept.iter().any(|kept| *kept == **name);
    if names.len() > MOST_NOMINATED || names.iter().any(forbidden) {
        return Err(malformed("http1.connection_header_rejected"));
    }
    for name in names.iter().filter(|name| !own(name)) {
        headers.remove(name.as_str());
    }
    Ok(())
}

/// Moves the authority into `host`, and leaves path and query in the URI.
fn target(parts: &mut Parts, config: &HttpConnectionManager) -> Result<(), Reply> {
    join_hosts(parts);
    let named = parts.uri.authority().is_some();
    if let Some(authority) = parts.uri.authority() {
        if parts.version != Version::HTTP_2 && parts.method != Method::CONNECT && !config.http1.allow_absolute_url {
            return Err(Reply::new(StatusCode::NOT_FOUND, "route_not_found").flag(Flag::NoRouteFound));
        }
        if parts.version != Version::HTTP_2 && !is_target(parts) {
            return Err(malformed("http1.codec_error"));
        }
        let name = match authority.as_str().rsplit_once('@') {
            // Who asks is not part of what is asked for.
            Some((_, name)) if parts.version != Version::HTTP_2 => name,
            Some(_) => return Err(malformed("http2.invalid.header.field")),
            None => authority.as_str(),
        };
        let host = HeaderValue::from_str(name).map_err(|_| malformed("http.invalid_authority"))?;
        parts.headers.insert(header::HOST, host);
    }
    if parts.method != Method::OPTIONS && parts.uri.path() == "*" {
        return Err(malformed("http1.codec_error"));
    }
    if named {
        let uri = std::mem::take(&mut parts.uri).into_parts();
        // CONNECT without a protocol has no path.
        parts.uri = uri.path_and_query.map(Uri::from).unwrap_or_default();
    }
    if parts.version != Version::HTTP_2 && parts.method == Method::CONNECT && !named {
        return Err(malformed("http1.codec_error"));
    }
    let Some(host) = parts.headers.get(header::HOST) else {
        if parts.version == Version::HTTP_10 && !config.http1.default_host.is_empty() {
            let host = HeaderValue::from_str(&config.http1.default_host);
            parts.headers.insert(header::HOST, host.map_err(|_| malformed("http.invalid_authority"))?);
            return Ok(());
        }
        return Err(Reply::new(StatusCode::BAD_REQUEST, "missing_host_header").closing());
    };
    let Some(host) = host.to_str().ok().filter(|host| is_authority(host)) else {
        return Err(malformed("http.invalid_authority"));
    };
    let stripped = strip_port(host, config.strip_port, config.strip_trailing_dot);
    if stripped != host {
        let host = HeaderValue::from_str(&stripped).map_err(|_| malformed("http.invalid_authority"))?;
        parts.headers.insert(header::HOST, host);
    }
    Ok(())
}

/// Whether a target that names an authority is one: a URL of HTTP, or for CONNECT an authority with its port.
fn is_target(parts: &Parts) -> bool {
    match parts.uri.scheme_str() {
        None => parts.method == Method::CONNECT && parts.uri.port().is_some(),
        Some(scheme) => parts.method != Method::CONNECT && matches!(scheme, "http" | "https"),
    }
}

fn is_authority(host: &str) -> bool {
    host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@[]%".contains(&b))
}

/// The authority without its port and without the dot at the end of the name, as far as is wanted.
fn strip_port(host: &str, strip: StripPort, dot: bool) -> std::borrow::Cow<'_, str> {
    let port = host.rfind(':').filter(|colon| {
        let digits = host.get(colon + 1..).unwrap_or_default();
        let name = host.get(..*colon).unwrap_or_default();
        digits.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']'))
    });
    let (name, port) = host.split_at(port.unwrap_or(host.len()));
    let port = match strip {
        StripPort::Any => "",
        _ => port,
    };
    match name.strip_suffix('.').filter(|_| dot) {
        Some(name) => format!("{name}{port}").into(),
        None if port.is_empty() => name.into(),
        None => host.into(),
    }
}

fn underscores(headers: &mut HeaderMap, rule: Underscores) -> Result<(), Reply> {
    if rule == Underscores::Allow {
        return Ok(());
    }
    let found: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    if rule == Underscores::Reject && !found.is_empty() {
        return Err(malformed("http1.unexpected_underscore"));
    }
    for name in found {
        headers.remove(name);
    }
    Ok(())
}

fn normalize(parts: &mut Parts, config: &HttpConnectionManager) -> Result<(), Reply> {
    let whole = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if parts.method == Method::CONNECT || whole == "*" {
        return Ok(());
    }
    match path::normalized(whole, config.path) {
        Normalized::Path(std::borrow::Cow::Borrowed(_)) => Ok(()),
        Normalized::Path(std::borrow::Cow::Owned(path)) => {
            parts.uri = Uri::try_from(path).map_err(|_| malformed("http.invalid_path"))?;
            Ok(())
        }
        Normalized::Redirect(path) => {
            let location = HeaderValue::from_str(&path).map_err(|_| malformed("http.invalid_path"))?;
            let reply = Reply::new(StatusCode::TEMPORARY_REDIRECT, "path_normalization_failed");
            Err(reply.header(header::LOCATION, location))
        }
        Normalized::Refused(Refusal::Malformed) => Err(malformed("http.invalid_path")),
        Normalized::Refused(Refusal::Rejected) => {
            Err(Reply::new(StatusCode::BAD_REQUEST, "path_normalization_failed").closing())
        }
    }
}

/// Whether a request asks to change its protocol.
pub(crate) fn is_upgrade(parts: &Parts) -> bool {
    let asked = parts.headers.get(header::UPGRADE);
    // HTTP/2 in clear is not changed to; who asks for it is content with HTTP/1.
    asked.is_some_and(|asked| !asked.as_bytes().eq_ignore_ascii_case(b"h2c"))
        && names_token(&parts.headers, header::CONNECTION, "upgrade")
}

/// Whether a list in a header has this word in it.
fn names_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let lists = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}

/// Removes what concerns only the connection that a message came over.
pub(crate) fn hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    if !upgrade {
        headers.remove(header::CONNECTION);
        headers.remove(header::UPGRADE);
    }
    headers.remove(names::KEEP_ALIVE);
    headers.remove(names::PROXY_CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    if headers.contains_key(header::TE) {
        if names_token(headers, header::TE, "trailers") {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(header::TE);
        }
    }
}
