//! The hash by which a load balancer that hashes chooses the endpoint of a request.

use std::net::IpAddr;

use http::header;
use http::request::Parts;
use xxhash_rust::xxh64::xxh64;

use super::head;
use crate::config::http::{HashCookie, HashOn, HashPolicy};

/// The hash of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed<'a> {
    /// The hash; `None` if nothing of the request is hashed.
    pub hash: Option<u64>,
    /// A cookie that the request did not have, and that its response must set: its value is [`Hashed::cookie_value`].
    pub cookie: Option<(&'a HashCookie, u64)>,
}

impl Hashed<'_> {
    /// The value of the cookie that the response must set.
    pub fn cookie_value(&self) -> Option<String> {
        self.cookie.map(|(_, value)| format!("{value:016x}"))
    }
}

/// The hash of a request after the policies of its route. A cookie that is made for it gets the number `fresh`.
pub fn hash<'a>(policies: &'a [HashPolicy], parts: &Parts, source: IpAddr, fresh: u64) -> Hashed<'a> {
    let mut hashed = Hashed { hash: None, cookie: None };
    for HashPolicy { on, terminal } in policies {
        let value = match on {
            HashOn::Header(name, rewrite) => {
                let values = parts.headers.get_all(name).iter().map(|value| value.as_bytes());
                let rewritten = values.map(|value| match (rewrite, std::str::from_utf8(value)) {
                    (Some(rewrite), Ok(text)) => rewrite.apply(text).into_bytes(),
                    _ => value.to_owned(),
                });
                // The order of several values is not part of what they say.
                let mut values: Vec<Vec<u8>> = rewritten.collect();
                values.sort();
                if values.is_empty() { None } else { Some(values.iter().fold(0, |seed, value| xxh64(value, seed))) }
            }
            HashOn::Cookie(cookie) => match cookie_value(parts, &cookie.name) {
                Some(value) => Some(xxh64(value.as_bytes(), 0)),
                None if cookie.ttl.is_some() => {
                    hashed.cookie = Some((cookie, fresh));
                    Some(xxh64(format!("{fresh:016x}").as_bytes(), 0))
                }
                None => None,
            },
            HashOn::SourceIp => Some(xxh64(source.to_string().as_bytes(), 0)),
            HashOn::QueryParameter(name) => head::query_parameter(parts, name).map(|value| xxh64(value.as_bytes(), 0)),
        };
        if let Some(value) = value {
            // Turning the old one keeps two equal values from cancelling out.
            hashed.hash = Some(hashed.hash.map_or(0, |old| old.rotate_left(1)) ^ value);
        }
        if *terminal && hashed.hash.is_some() {
            break;
        }
    }
    hashed
}

/// The value of a cookie of the request, without its quotes.
pub fn cookie_value<'p>(parts: &'p Parts, name: &str) -> Option<&'p str> {
    let headers = parts.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = headers.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    (!bare.is_empty()).then_some(bare)
}
