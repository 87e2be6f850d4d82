//! A request, taken apart the way httpbin shows it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use hyper::body::Body;
use serde::Serialize;
use serde_json::Value;

use crate::page::{self, Page};

/// A larger body is refused: it would have to be held, and sent back, in full.
const LARGEST_BODY: usize = 16 << 20;

/// Headers that proxies add; shown only when `show_env` is asked for.
const HIDDEN: &[&str] = &[
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-ssl",
    "x-real-ip",
    "x-request-start",
    "x-varnish",
];

pub(super) struct Received {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) peer: IpAddr,
    pub(super) body: Bytes,
}

/// A value that was given once, or each of those that were given.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Given {
    Once(String),
    Often(Vec<String>),
}

/// Values by name, in the order of names.
pub(super) type Fields = BTreeMap<String, Given>;

/// What a request's body holds, read as its content type says.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) data: String,
    pub(super) files: Fields,
    pub(super) form: Fields,
    pub(super) json: Value,
}

impl Received {
    /// Reads the whole request; the error is the answer to one that is too large or that broke off.
    pub(super) async fn read<B>(request: Request<B>, peer: IpAddr) -> Result<Received, Page>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let body = page::read_body(body, LARGEST_BODY).await?;
        Ok(Received { method: parts.method, uri: parts.uri, headers: parts.headers, peer, body })
    }

    /// The query's parameters.
    pub(super) fn args(&self) -> Fields {
        fields(form_urlencoded::parse(self.uri.query().unwrap_or_default().as_bytes()))
    }

    /// The first value of a query parameter.
    pub(super) fn arg(&self, name: &str) -> Option<String> {
        let query = self.uri.query().unwrap_or_default().as_bytes();
        form_urlencoded::parse(query).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The headers, with their names written as `User-Agent`.
    pub(super) fn shown_headers(&self) -> BTreeMap<String, String> {
        let everything = self.arg("show_env").is_some();
        let mut shown = BTreeMap::new();
        if let Some(host) = self.host() {
            shown.insert("Host".to_owned(), host);
        }
        for name in self.headers.keys().filter(|name| everything || !HIDDEN.contains(&name.as_str())) {
            let values: Vec<_> = self.headers.get_all(name).iter().map(text).collect();
            shown.insert(title_case(name), values.join(","));
        }
        shown
    }

    pub(super) fn header(&self, name: &HeaderName) -> Option<String> {
        self.headers.get(name).map(text)
    }

    /// Where the request came from: the client that a proxy names, otherwise the peer.
    pub(super) fn origin(&self) -> String {
        self.headers.get("x-forwarded-for").map_or_else(|| self.peer.to_string(), text)
    }

    /// The URL as the client wrote it.
    pub(super) fn url(&self) -> String {
        let scheme = self.headers.get("x-forwarded-proto").map_or_else(|| "http".to_owned(), text);
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        format!("{scheme}://{}{path}", self.host().unwrap_or_default())
    }

    /// HTTP/2 carries the host in the URI, HTTP/1 in a header.
    fn host(&self) -> Option<String> {
        self.header(&HOST).or_else(|| self.uri.authority().map(|authority| authority.to_string()))
    }

    /// The body, read as its content type says.
    pub(super) fn content(&self) -> Content {
        let kind = self.header(&CONTENT_TYPE).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence == "application/x-www-form-urlencoded" {
            return Content { form: fields(form_urlencoded::parse(&self.body)), ..Content::default() };
        }
        if essence == "multipart/form-data"
            && let Some(boundary) = parameter(&kind, "boundary")
        {
            return multipart(&self.body, &boundary);
        }
        let json = serde_json::from_slice(&self.body).unwrap_or_default();
        Content { data: readable(&self.body), json, ..Content::default() }
    }
}

/// `text/plain; a="b"` has the parameter `a` with the value `b`.
fn parameter(header: &str, name: &str) -> Option<String> {
    header.split(';').skip(1).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// The parts of `multipart/form-data` (RFC 7578). A part that makes no sense is left out.
fn multipart(body: &[u8], boundary: &str) -> Content {
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    // The first delimiter has no line end before it.
    let body = [b"\r\n", body].concat();
    let (mut files, mut form) = (Vec::new(), Vec::new());
    let mut rest = body.as_slice();
    while let Some((_, after)) = cut(rest, &delimiter) {
        let part = cut(after, &delimiter).map_or(after, |(part, _)| part);
        rest = after;
        let Some((head, value)) = cut(part, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(head);
        let Some(disposition) = head.lines().find(|line| {
            line.split_once(':').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
        }) else {
            continue;
        };
        let Some(name) = parameter(disposition, "name") else { continue };
        let is_file = parameter(disposition, "filename").is_some();
        if is_file { &mut files } else { &mut form }.push((name, readable(value)));
    }
    let collect = |pairs: Vec<(String, String)>| fields(pairs.into_iter().map(|(k, v)| (k.into(), v.into())));
    Content { files: collect(files), form: collect(form), ..Content::default() }
}

/// What is before and after the first `separator`.
fn cut<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + separator.len()..)?))
}

/// Text as it is, other bytes as a data URL.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("data:application/octet-stream;base64,{}", STANDARD.encode(bytes)),
    }
}

fn fields<'a>(pairs: impl Iterator<Item = (std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>)>) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in pairs {
        let value = value.into_owned();
        match fields.remove(name.as_ref()) {
            None => fields.insert(name.into_owned(), Given::Once(value)),
            Some(Given::Once(first)) => fields.insert(name.into_owned(), Given::Often(vec![first, value])),
            Some(Given::Often(mut values)) => {
                values.push(value);
                fields.insert(name.into_owned(), Given::Often(values))
            }
        };
    }
    fields
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// `user-agent` is shown as `User-Agent`.
fn title_case(name: &HeaderName) -> String {
    let mut start = true;
    let capital = |c: char| {
        let out = if start { c.to_ascii_uppercase() } else { c };
        start = c == '-';
        out
    };
    name.as_str().chars().map(capital).collect()
}
