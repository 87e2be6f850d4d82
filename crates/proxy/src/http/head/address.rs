//! Who a request comes from, and what the next hop is told of that.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::names;
use crate::config::http::RemoteAddress;

/// Who a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The address that it is said to come from.
    pub(crate) remote: SocketAddr,
    /// Whether it comes from inside.
    pub(crate) internal: bool,
    /// Whether this proxy is the first that it meets.
    pub(crate) edge: bool,
}

/// Finds out who a request comes from, and says so in its headers, as Envoy does. `own` is the address of this proxy
/// among others.
pub(crate) fn origin(
    headers: &mut HeaderMap,
    peer: SocketAddr,
    own: Option<IpAddr>,
    secure: bool,
    config: &RemoteAddress,
) -> Origin {
    let RemoteAddress { use_peer, trusted_hops, skip_append, internal } = config;
    let single = is_single(headers);
    let forwarded = if *use_peer {
        trusted_hops.checked_sub(1).and_then(|hops| from_the_end(headers, hops))
    } else {
        from_the_end(headers, *trusted_hops)
    };
    let remote = forwarded.map_or(peer, |address| SocketAddr::new(address, 0));
    if *use_peer && !skip_append {
        let said = own.filter(|_| peer.ip().is_loopback()).unwrap_or(peer.ip());
        append(headers, names::X_FORWARDED_FOR, &said.to_string());
    }
    let scheme = HeaderValue::from_static(if secure { "https" } else { "http" });
    let trusted = if *use_peer { *trusted_hops > 0 } else { true };
    if !trusted || !headers.contains_key(names::X_FORWARDED_PROTO) {
        headers.insert(names::X_FORWARDED_PROTO, scheme);
    }
    let is_internal = |address: IpAddr| internal.iter().any(|range| range.contains(&address));
    let believed = if *use_peer { single.is_none() } else { single == Some(true) };
    let internal = believed && is_internal(remote.ip());
    let edge = !internal && *use_peer;
    clean(headers, internal, edge);
    if edge {
        insert(headers, names::X_ENVOY_EXTERNAL_ADDRESS, &remote.ip().to_string());
    }
    Origin { remote, internal, edge }
}

/// Whether there is exactly one address in `x-forwarded-for`; `None` if the header is not there.
fn is_single(headers: &HeaderMap) -> Option<bool> {
    let mut values = headers.get_all(names::X_FORWARDED_FOR).iter().peekable();
    values.peek()?;
    let addresses = values.flat_map(|v| v.to_str().unwrap_or_default().split(','));
    Some(addresses.count() == 1)
}

/// The address that has `hops` others behind it in `x-forwarded-for`.
fn from_the_end(headers: &HeaderMap, hops: u32) -> Option<IpAddr> {
    let values = headers.get_all(names::X_FORWARDED_FOR).iter();
    // A value that is not text hides those before it.
    let lists = values.rev().map_while(|value| value.to_str().ok());
    let mut addresses = lists.flat_map(|list| list.rsplit(','));
    addresses.nth(usize::try_from(hops).ok()?)?.trim().parse().ok()
}

/// Removes what only a proxy that is trusted may say.
fn clean(headers: &mut HeaderMap, internal: bool, edge: bool) {
    if internal {
        headers.insert(names::X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
        return;
    }
    headers.remove(names::X_ENVOY_INTERNAL);
    let mut remove = |list: &[HeaderName]| {
        for name in list {
            headers.remove(name);
        }
    };
    remove(&names::ONLY_FROM_INSIDE);
    if edge {
        remove(&names::NOT_FROM_THE_EDGE);
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// Adds to a list in a header, with a comma before.
pub(crate) fn append(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    let mut all = Vec::new();
    for value in headers.get_all(&name) {
        all.extend_from_slice(value.as_bytes());
        all.push(b',');
    }
    all.extend_from_slice(text.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&all) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "127.0.0.1:4000";
    const BOTH: &str = "10.0.0.1, 8.8.8.8";

    fn config(use_peer: bool, trusted_hops: u32, internal: &[&str]) -> RemoteAddress {
        let internal = internal.iter().map(|range| range.parse().unwrap()).collect();
        RemoteAddress { use_peer, trusted_hops, skip_append: false, internal }
    }

    /// What is found, and what the next hop is told: remote; for|proto|internal|external.
    fn told(config: &RemoteAddress, forwarded_for: Option<&str>) -> String {
        let mut headers = HeaderMap::new();
        if let Some(list) = forwarded_for {
            headers.insert(names::X_FORWARDED_FOR, list.parse().unwrap());
            headers.insert(names::X_FORWARDED_PROTO, "https".parse().unwrap());
            headers.insert(names::X_ENVOY_INTERNAL, "true".parse().unwrap());
            headers.insert(names::X_ENVOY_EXTERNAL_ADDRESS, "1.1.1.1".parse().unwrap());
        }
        let own = Some("192.0.2.2".parse().unwrap());
        let origin = origin(&mut headers, PEER.parse().unwrap(), own, false, config);
        let text = |name: HeaderName| headers.get(name).map_or(String::new(), |v| v.to_str().unwrap().to_owned());
        format!(
            "{}; {}|{}|{}|{}",
            origin.remote.ip(),
            text(names::X_FORWARDED_FOR),
            text(names::X_FORWARDED_PROTO),
            text(names::X_ENVOY_INTERNAL),
            text(names::X_ENVOY_EXTERNAL_ADDRESS)
        )
    }

    /// Each line is what Envoy 1.40 was seen to do.
    #[test]
    fn the_next_hop_is_told_what_envoy_tells_it() {
        let loopback = &["127.0.0.0/8"][..];
        let private = &["10.0.0.0/8"][..];
        for (config, forwarded_for, expected) in [
            (config(false, 0, &[]), None, "127.0.0.1; |http||"),
            (config(false, 0, &[]), Some(BOTH), "8.8.8.8; 10.0.0.1, 8.8.8.8|https||1.1.1.1"),
            (config(false, 0, &[]), Some("10.0.0.1"), "10.0.0.1; 10.0.0.1|https||1.1.1.1"),
            (config(false, 1, &[]), Some(BOTH), "10.0.0.1; 10.0.0.1, 8.8.8.8|https||1.1.1.1"),
            (config(false, 1, &[]), Some("10.0.0.1"), "127.0.0.1; 10.0.0.1|https||1.1.1.1"),
            (config(false, 0, private), Some("10.0.0.1"), "10.0.0.1; 10.0.0.1|https|true|1.1.1.1"),
            (config(false, 0, private), Some("8.8.8.8,10.0.0.1"), "10.0.0.1; 8.8.8.8,10.0.0.1|https||1.1.1.1"),
            (config(true, 0, &[]), None, "127.0.0.1; 192.0.2.2|http||127.0.0.1"),
            (config(true, 0, &[]), Some(BOTH), "127.0.0.1; 10.0.0.1, 8.8.8.8,192.0.2.2|http||127.0.0.1"),
            (config(true, 1, &[]), Some(BOTH), "8.8.8.8; 10.0.0.1, 8.8.8.8,192.0.2.2|https||8.8.8.8"),
            (config(true, 1, &[]), Some("10.0.0.1"), "10.0.0.1; 10.0.0.1,192.0.2.2|https||10.0.0.1"),
            (config(true, 0, loopback), None, "127.0.0.1; 192.0.2.2|http|true|"),
            (config(true, 0, loopback), Some(BOTH), "127.0.0.1; 10.0.0.1, 8.8.8.8,192.0.2.2|http||127.0.0.1"),
        ] {
            assert_eq!(told(&config, forwarded_for), expected, "{config:?} {forwarded_for:?}");
        }
    }
}
