//! Whether a connection begins with a request of HTTP, and of which version.

use std::sync::LazyLock;

/// The version of HTTP in which a connection's client speaks in plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spoken {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// What is known of HTTP after some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// More bytes are needed.
    NeedMore,
    /// It is not HTTP.
    NotHttp,
    /// It is.
    Http(Spoken),
}

/// How every connection of HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The methods that a request may begin with, as Envoy has them: what begins otherwise is known not to be HTTP early.
const METHODS: [&[u8]; 34] = [
    b"ACL",
    b"BIND",
    b"CHECKOUT",
    b"CONNECT",
    b"COPY",
    b"DELETE",
    b"GET",
    b"HEAD",
    b"LINK",
    b"LOCK",
    b"M-SEARCH",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MOVE",
    b"NOTIFY",
    b"OPTIONS",
    b"PATCH",
    b"POST",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"PUT",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"SOURCE",
    b"SUBSCRIBE",
    b"TRACE",
    b"UNBIND",
    b"UNLINK",
    b"UNLOCK",
    b"UNSUBSCRIBE",
];

impl Spoken {
    /// The names by which chains ask for it.
    pub fn application_protocols(self) -> &'static [Box<str>] {
        static NAMES: LazyLock<[Box<str>; 3]> = LazyLock::new(|| ["http/1.0", "http/1.1", "h2c"].map(Box::from));
        let position = match self {
            Spoken::Http10 => 0,
            Spoken::Http11 => 1,
            Spoken::Http2 => 2,
        };
        std::slice::from_ref(&NAMES[position])
    }
}

/// Looks for the first line of a request, of at most `limit` bytes, or HTTP/2's preface, at the start of `bytes`.
pub fn beginning(bytes: &[u8], limit: usize) -> Beginning {
    if bytes.starts_with(PREFACE) {
        return Beginning::Http(Spoken::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return Beginning::NeedMore;
    }
    // Empty lines before a request are passed over (RFC 9112, section 2.2).
    let start = bytes.iter().position(|b| !b"\r\n".contains(b)).unwrap_or(bytes.len());
    let line = bytes.get(start..).unwrap_or_default();
    let word = line.iter().position(|b| *b == b' ').map_or(line, |end| line.get(..end).unwrap_or_default());
    let ended = word.len() < line.len();
    if !METHODS.iter().any(|method| if ended { *method == word } else { method.starts_with(word) }) {
        return Beginning::NotHttp;
    }
    match line.iter().position(|b| *b == b'\n') {
        Some(end) => version(line.get(..end).unwrap_or_default()),
        None if bytes.len() >= limit => Beginning::NotHttp,
        None => Beginning::NeedMore,
    }
}

/// What a first line says at its end.
fn version(line: &[u8]) -> Beginning {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.rsplit(|b| *b == b' ').next() {
        Some(b"HTTP/1.1") => Beginning::Http(Spoken::Http11),
        Some(b"HTTP/1.0") => Beginning::Http(Spoken::Http10),
        _ => Beginning::NotHttp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_known_by_their_first_line() {
        let of = |text: &str| beginning(text.as_bytes(), 100);
        assert_eq!(of("GET / HTTP/1.1\r\nHost"), Beginning::Http(Spoken::Http11));
        assert_eq!(of("\r\nPOST /a HTTP/1.0\n"), Beginning::Http(Spoken::Http10));
        assert_eq!(of("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n...."), Beginning::Http(Spoken::Http2));
        for part in ["", "P", "PRI * HTTP/2.0\r\n\r\nS", "PO", "GET", "GET / HTT", "\r\n", "PURGE /"] {
            assert_eq!(of(part), Beginning::NeedMore, "{part:?}");
        }
        for other in ["hello", "HELLO", "EHLO x\r\n", "GET /\r\n", "GETS", "PRI * HTTP/2.1", "GET / HTTP/1.2\n", "\0"] {
            assert_eq!(of(other), Beginning::NotHttp, "{other:?}");
        }
        assert_eq!(beginning("GET /".repeat(30).as_bytes(), 100), Beginning::NotHttp, "a line is too long");
    }

    #[test]
    fn what_is_known_does_not_change_with_more() {
        for text in ["GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "EHLO x\r\n", "*1\r\n"] {
            let bytes = text.as_bytes();
            let steps: Vec<_> = (0..=bytes.len()).map(|n| beginning(&bytes[..n], 100)).collect();
            let known: Vec<_> = steps.iter().skip_while(|s| **s == Beginning::NeedMore).collect();
            assert!(!known.is_empty() && known.windows(2).all(|pair| pair[0] == pair[1]), "{text:?}: {steps:?}");
        }
    }
}
