//! The request that a question is about.

use std::net::IpAddr;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Uri, Version};

use super::explanation::Request;
use super::path::Asked;
use super::question::NotFound;

/// What somebody sends, and to whom.
pub(super) struct Sent {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) asked: Asked,
}

/// Reads a request as curl has it: a method, a URL, and headers, each as `NAME: VALUE`.
///
/// # Errors
/// What cannot be read, and how it is written.
pub(super) fn read(method: &str, url: &str, headers: &[String]) -> Result<Sent, NotFound> {
    let wrong = |what: &str, text: &str, how: &str| NotFound(format!("{text:?} is no {what}: {how}"));
    let uri: Uri = url.parse().map_err(|_| wrong("URL", url, "write http://HOST:PORT/PATH"))?;
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong("URL", url, "it begins with http:// or https://")),
    };
    let authority = uri.authority().ok_or_else(|| wrong("URL", url, "it has no host"))?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| wrong("method", method, "write GET, POST, …"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let head = http::Request::builder().method(method.clone()).uri(path).version(Version::HTTP_11);
    let (mut parts, ()) = head.body(()).map_err(|error| NotFound(error.to_string()))?.into_parts();
    // As curl does, without the user that may be before it.
    let host = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
    let host = HeaderValue::from_str(host).map_err(|_| wrong("URL", url, "its host has odd characters"))?;
    parts.headers.insert(header::HOST, host);
    for text in headers {
        let (name, value) = parsed(text).ok_or_else(|| wrong("header", text, "write 'NAME: VALUE'"))?;
        match name {
            header::HOST => drop(parts.headers.insert(name, value)),
            name => drop(parts.headers.append(name, value)),
        }
    }
    let named = authority.host().parse::<IpAddr>().is_err();
    let told = Request { method: method.to_string(), url: url.to_owned(), headers: headers.to_vec() };
    let server_name = (secure && named).then(|| authority.host().to_owned());
    Ok(Sent {
        host: authority.host().to_owned(),
        port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
        asked: Asked { told, parts, secure, server_name },
    })
}

fn parsed(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((name.trim().parse().ok()?, HeaderValue::from_str(value.trim()).ok()?))
}
