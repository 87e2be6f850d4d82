//! Heads of requests, as hyper's own parser reads them.

use std::mem::MaybeUninit;

use http::Uri;
use httparse::{Error, Header, Request, Status};

use super::{Limits, Malformed, Place};
use crate::http::gate::body::Chunks;

/// How many headers are read without an allocation.
const FEW: usize = 100;

/// The largest body that hyper takes for one, in bytes.
const LARGEST: u64 = u64::MAX - 2;

/// What comes next.
pub(super) enum Head {
    /// It is not whole yet.
    Incomplete,
    /// It must not pass.
    Malformed(Malformed),
    /// It is whole.
    Whole {
        length: usize,
        /// Whether it asks for another protocol.
        changing: bool,
        /// Where its body is, if it has one.
        body: Option<Place>,
    },
}

/// Reads a head at the beginning of `bytes`. The first `known` of them were looked at before, and had no mistake.
pub(super) fn read(bytes: &[u8], known: usize, limits: &Limits) -> Head {
    // Reading is begun anew only for lines that have come, of which there are not many.
    if known > 0 && !bytes.get(known..).unwrap_or_default().contains(&b'\n') {
        return Head::Incomplete;
    }
    if limits.headers <= FEW {
        let mut headers = [MaybeUninit::<Header<'_>>::uninit(); FEW];
        return parse(bytes, headers.get_mut(..limits.headers).unwrap_or_default(), limits);
    }
    parse(bytes, &mut vec![MaybeUninit::uninit(); limits.headers], limits)
}

fn parse<'b>(bytes: &'b [u8], headers: &mut [MaybeUninit<Header<'b>>], limits: &Limits) -> Head {
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, headers) {
        Ok(Status::Partial) => Head::Incomplete,
        Ok(Status::Complete(length)) if length > limits.head => Head::Malformed(Malformed::TooLarge),
        Ok(Status::Complete(length)) => match judge(&request) {
            Ok((changing, body)) => Head::Whole { length, changing, body },
            Err(why) => Head::Malformed(why),
        },
        Err(Error::TooManyHeaders) => Head::Malformed(Malformed::TooManyHeaders),
        Err(_) if is_of_another_version(bytes) => Head::Malformed(Malformed::Version),
        Err(_) => Head::Malformed(Malformed::Syntax),
    }
}

/// Whether a first line is of a version of HTTP that is not spoken, or of none at all, as the first one had it.
fn is_of_another_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    match words.as_slice() {
        [_, [b'/', ..]] => true,
        [_, [b'/', ..], [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]] => {
            major.is_ascii_digit() && minor.is_ascii_digit() && !matches!((major, minor), (b'1', b'0' | b'1'))
        }
        _ => false,
    }
}

/// Whether a head may pass; if so, whether it asks for another protocol, and its body.
fn judge(request: &Request<'_, '_>) -> Result<(bool, Option<Place>), Malformed> {
    check_target(request.path.unwrap_or_default())?;
    let (mut length, mut encoding, mut upgrade, mut named) = (None, None, None, false);
    for Header { name, value } in request.headers.iter() {
        match name.len() {
            14 if name.eq_ignore_ascii_case("content-length") => {
                if length.is_some() {
                    return Err(Malformed::Syntax);
                }
                length = Some(decimal(value).ok_or(Malformed::Syntax)?);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                // More than one is more than chunks.
                let chunked = encoding.is_none() && value.eq_ignore_ascii_case(b"chunked");
                encoding = Some(chunked);
            }
            7 if name.eq_ignore_ascii_case("upgrade") => {
                // Of several the first counts, as everywhere.
                upgrade = upgrade.or(Some(!value.eq_ignore_ascii_case(b"h2c")));
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                let words = value.split(|b| *b == b',');
                named |= words.into_iter().any(|word| word.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
            }
            _ => {}
        }
    }
    let connect = request.method == Some("CONNECT");
    let changing = connect || named && upgrade == Some(true);
    match (encoding, length) {
        (Some(_), Some(_)) => Err(Malformed::Lengths),
        (Some(false), _) => Err(Malformed::Encoding),
        _ if connect && (length.is_some() || encoding.is_some()) => Err(Malformed::Syntax),
        (Some(_), _) if request.version == Some(0) => Err(Malformed::Syntax),
        (Some(true), _) => Ok((changing, Some(Place::Chunks(Chunks::default())))),
        (None, Some(0) | None) => Ok((changing, None)),
        (None, Some(length)) => Ok((changing, Some(Place::Body(length)))),
    }
}

/// Digits, and nothing else.
fn decimal(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok().filter(|length| *length <= LARGEST)
}

fn check_target(target: &str) -> Result<(), Malformed> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%?=&:;,+!$'()*@".contains(&b);
    if target.starts_with('/') && target.bytes().all(plain) {
        return Ok(());
    }
    if target.contains('#') {
        return Err(Malformed::Fragment);
    }
    // hyper would answer by itself. What CONNECT names is no URI.
    Uri::try_from(target).map(drop).map_err(|_| Malformed::Syntax)
}
