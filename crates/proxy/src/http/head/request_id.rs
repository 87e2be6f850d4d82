//! The identifier of a request.

use http::{HeaderMap, HeaderValue};

use super::names;
use crate::config::http::RequestId;

/// Gives a request an identifier, if it needs one: a random UUID.
pub(crate) fn identify(headers: &mut HeaderMap, edge: bool, config: RequestId) {
    let RequestId { generate, preserve_external, .. } = config;
    if generate && ((edge && !preserve_external) || !headers.contains_key(names::X_REQUEST_ID)) {
        headers.insert(names::X_REQUEST_ID, uuid(fastrand::u128(..)));
    }
}

/// Why a request is traced, as its identifier says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is not.
    Not,
    /// By chance.
    Sampled,
    /// The client wants it.
    Client,
    /// A service wants it.
    Service,
}

/// Where in an identifier it stands why a request is traced: the digit that is the version of a UUID.
const REASON: usize = 14;
/// How many characters a UUID has.
const LENGTH: usize = 36;

/// A number that is made of the identifier of a request, and why it is traced; `None` if the identifier is no UUID.
pub(crate) fn number(headers: &HeaderMap) -> Option<(u64, Reason)> {
    let id = headers.get(names::X_REQUEST_ID)?.to_str().ok()?;
    let number = u64::from_str_radix(id.get(..8)?, 16).ok()?;
    let reason = match id.as_bytes().get(REASON).filter(|_| id.len() == LENGTH) {
        Some(b'9') => Reason::Sampled,
        Some(b'a') => Reason::Service,
        Some(b'b') => Reason::Client,
        _ => Reason::Not,
    };
    Some((number, reason))
}

/// Writes into the identifier of a request why it is traced.
pub(crate) fn pack(headers: &mut HeaderMap, reason: Reason) {
    let Some(id) = headers.get(names::X_REQUEST_ID).filter(|id| id.len() == LENGTH) else { return };
    let mut id = id.as_bytes().to_vec();
    if let Some(digit) = id.get_mut(REASON) {
        *digit = match reason {
            Reason::Not => b'4',
            Reason::Sampled => b'9',
            Reason::Service => b'a',
            Reason::Client => b'b',
        };
    }
    if let Ok(id) = HeaderValue::from_bytes(&id) {
        headers.insert(names::X_REQUEST_ID, id);
    }
}

/// A UUID of version 4 from random bits.
fn uuid(random: u128) -> HeaderValue {
    let version = 0x4 << 76;
    let variant = 0x8 << 60;
    let bits = random & !(0xf << 76) & !(0xc << 60) | version | variant;
    let mut text = [b'-'; 36];
    let places = text.iter_mut().enumerate().filter(|(i, _)| !matches!(i, 8 | 13 | 18 | 23));
    for (digit, (_, place)) in places.enumerate() {
        let value = (bits >> (124 - 4 * digit)) & 0xf;
        *place = b"0123456789abcdef"[value as usize];
    }
    HeaderValue::from_bytes(&text).expect("hexadecimal digits and hyphens may be in a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_a_uuid_of_version_4() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn an_identifier_remembers_why_a_request_is_traced() {
        let mut headers = HeaderMap::new();
        assert_eq!(number(&headers), None);
        headers.insert(names::X_REQUEST_ID, HeaderValue::from_static("000000ff-0000-4000-8000-000000000000"));
        assert_eq!(number(&headers), Some((255, Reason::Not)));
        pack(&mut headers, Reason::Client);
        assert_eq!(headers[names::X_REQUEST_ID], "000000ff-0000-b000-8000-000000000000");
        assert_eq!(number(&headers), Some((255, Reason::Client)));
    }

    #[test]
    fn an_identifier_is_kept_inside_and_replaced_at_the_edge() {
        let config = |preserve_external| RequestId {
            generate: true,
            preserve_external,
            in_response: false,
            pack_trace_reason: true,
            for_sampling: true,
        };
        for (edge, preserve, kept) in [(false, false, true), (true, false, false), (true, true, true)] {
            let mut headers = HeaderMap::new();
            headers.insert(names::X_REQUEST_ID, HeaderValue::from_static("mine"));
            identify(&mut headers, edge, config(preserve));
            assert_eq!(headers[names::X_REQUEST_ID] == "mine", kept, "{edge} {preserve}");
        }
        let mut headers = HeaderMap::new();
        identify(&mut headers, false, RequestId { generate: false, ..config(false) });
        assert!(headers.is_empty());
    }
}
