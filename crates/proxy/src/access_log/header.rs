//! Headers in access logs.

use std::fmt::{self, Write};

use http::{HeaderMap, HeaderName, HeaderValue};

/// A header that an operator names, another one if that is not there, and how much of it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderOperator {
    first: Name,
    second: Option<Name>,
    limit: Option<usize>,
}

/// What a request has in place of headers in HTTP/1, or a header.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Method,
    Path,
    Authority,
    Scheme,
    Status,
    Header(HeaderName),
}

/// The headers of a request or a response, as far as they are still known.
#[derive(Debug, Clone, Copy)]
pub enum Headers<'a> {
    /// All of them.
    All(&'a HeaderMap),
    /// Those that [`Format::headers`](super::Format::headers) names.
    Kept(&'a [(HeaderName, HeaderValue)]),
}

impl Default for Headers<'_> {
    fn default() -> Self {
        Headers::Kept(&[])
    }
}

impl<'a> Headers<'a> {
    fn get(self, name: &HeaderName) -> Option<&'a [u8]> {
        match self {
            Headers::All(map) => map.get(name).map(HeaderValue::as_bytes),
            Headers::Kept(kept) => kept.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_bytes()),
        }
    }
}

/// The head of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestHead<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path, with its query.
    pub path: &'a str,
    /// Its authority.
    pub authority: &'a str,
    /// Its scheme.
    pub scheme: &'a str,
    /// Its headers.
    pub headers: Headers<'a>,
}

impl HeaderOperator {
    /// What stands between the parentheses, such as `X-A?:PATH`, and the limit that follows. The error is a clause.
    pub(super) fn parse(argument: &str, limit: Option<usize>) -> Result<HeaderOperator, String> {
        let (first, second) = match argument.split_once('?') {
            Some((first, second)) => (first, Some(second)),
            None => (argument, None),
        };
        Ok(HeaderOperator { first: Name::parse(first)?, second: second.map(Name::parse).transpose()?, limit })
    }

    /// The headers that it may show.
    pub(super) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        let names = std::iter::once(&self.first).chain(&self.second);
        names.filter_map(|name| match name {
            Name::Header(name) => Some(name),
            _ => None,
        })
    }

    /// Writes what a request has; returns whether it has it.
    pub(super) fn write_request(&self, head: &RequestHead<'_>, out: &mut impl Write) -> Result<bool, fmt::Error> {
        self.write(out, |name| {
            let text = match name {
                Name::Method => head.method,
                Name::Path => head.path,
                Name::Authority => head.authority,
                Name::Scheme => head.scheme,
                Name::Status => return None,
                Name::Header(name) => return head.headers.get(name),
            };
            (!text.is_empty()).then_some(text.as_bytes())
        })
    }

    /// Writes what a request has, up to its query.
    pub(super) fn write_without_query(&self, head: &RequestHead<'_>, out: &mut impl Write) -> Result<bool, fmt::Error> {
        let path = head.path.split('?').next().unwrap_or_default();
        self.write_request(&RequestHead { path, ..*head }, out)
    }

    /// Writes what a response has; returns whether it has it.
    pub(super) fn write_response(&self, headers: Headers<'_>, out: &mut impl Write) -> Result<bool, fmt::Error> {
        self.write(out, |name| match name {
            Name::Header(name) => headers.get(name),
            _ => None,
        })
    }

    fn write<'a>(&self, out: &mut impl Write, get: impl Fn(&Name) -> Option<&'a [u8]>) -> Result<bool, fmt::Error> {
        let found = get(&self.first).or_else(|| self.second.as_ref().and_then(get));
        let Some(value) = found else { return Ok(false) };
        let text = String::from_utf8_lossy(value);
        match self.limit.and_then(|limit| text.char_indices().nth(limit)) {
            Some((end, _)) => out.write_str(text.get(..end).unwrap_or_default())?,
            None => out.write_str(&text)?,
        }
        Ok(true)
    }
}

impl Name {
    fn parse(text: &str) -> Result<Name, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            ":method" => Name::Method,
            ":path" => Name::Path,
            ":authority" | "host" => Name::Authority,
            ":scheme" => Name::Scheme,
            ":status" => Name::Status,
            name => {
                let name = HeaderName::try_from(name);
                Name::Header(name.map_err(|_| format!("names {text:?}, which is not a header"))?)
            }
        })
    }
}
