//! What requests say of their trace: W3C Trace Context (`traceparent`) and B3.

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// A trace, and the part of it that a request is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) trace: u128,
    pub(crate) span: u64,
    pub(crate) parent: Option<u64>,
    /// Whether it is recorded.
    pub(crate) sampled: bool,
    /// What vendors say, as it came.
    pub(crate) state: Option<HeaderValue>,
    /// Whether the request spoke B3.
    b3: bool,
}

impl TraceContext {
    /// A trace that begins here.
    pub(super) fn root(sampled: bool) -> TraceContext {
        let (trace, span) = (fastrand::u128(1..), fastrand::u64(1..));
        TraceContext { trace, span, parent: None, sampled, state: None, b3: false }
    }

    /// The trace that a request brings.
    pub(super) fn continued(headers: &HeaderMap) -> Option<TraceContext> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let b3 = b3(headers);
        let spoke_b3 = b3.is_some();
        let (trace, parent, sampled) = match text(TRACEPARENT).and_then(traceparent) {
            Some(known) => known,
            None => b3?,
        };
        Some(TraceContext {
            trace,
            span: fastrand::u64(1..),
            parent: Some(parent),
            sampled,
            state: headers.get(TRACESTATE).cloned(),
            b3: spoke_b3,
        })
    }

    /// Tells the next hop.
    pub(super) fn inject(&self, headers: &mut HeaderMap) {
        let TraceContext { trace, span, parent, sampled, .. } = self;
        let mut set = |name, text: String| {
            let value = HeaderValue::try_from(text).expect("hexadecimal digits may be in a header");
            headers.insert(name, value);
        };
        set(TRACEPARENT, format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(*sampled)));
        if !self.b3 {
            return;
        }
        set(B3_TRACE, format!("{trace:032x}"));
        set(B3_SPAN, format!("{span:016x}"));
        set(B3_SAMPLED, u8::from(*sampled).to_string());
        if let Some(parent) = parent {
            set(B3_PARENT, format!("{parent:016x}"));
        }
        headers.remove(B3);
    }
}

/// Says that a trace is not to be recorded from here on.
pub(crate) fn forget(headers: &mut HeaderMap) {
    let known = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(traceparent);
    if let Some((trace, parent, _)) = known
        && let Ok(value) = HeaderValue::try_from(format!("00-{trace:032x}-{parent:016x}-00"))
    {
        headers.insert(TRACEPARENT, value);
    }
    if headers.contains_key(B3_TRACE) {
        headers.insert(B3_SAMPLED, HeaderValue::from_static("0"));
    }
}

type Said = (u128, u64, bool);

/// `00-TRACE-SPAN-FLAGS` (W3C Trace Context, 3.2); later versions may say more.
fn traceparent(text: &str) -> Option<Said> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known = version == "00" && parts.next().is_none() || version != "00" && version != "ff" && version.len() == 2;
    let flags = u8::from_str_radix(flags, 16).ok().filter(|_| flags.len() == 2)?;
    let ids = (identifier::<32>(trace)?, u64::try_from(identifier::<16>(span)?).ok()?);
    known.then_some((ids.0, ids.1, flags & 1 == 1))
}

/// B3 in one header, or in several (openzipkin/b3-propagation).
fn b3(headers: &HeaderMap) -> Option<Said> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let trace = |id: &str| identifier::<32>(id).or_else(|| identifier::<16>(id));
    let span = |id: &str| u64::try_from(identifier::<16>(id)?).ok();
    let sampled = |said: Option<&str>| matches!(said, Some("1" | "d" | "true"));
    if let Some(single) = text(B3) {
        let mut parts = single.split('-');
        return Some((trace(parts.next()?)?, span(parts.next()?)?, sampled(parts.next())));
    }
    let debug = text(B3_FLAGS) == Some("1");
    Some((trace(text(B3_TRACE)?)?, span(text(B3_SPAN)?)?, debug || sampled(text(B3_SAMPLED))))
}

/// So many hexadecimal digits that are not all zero.
fn identifier<const DIGITS: usize>(text: &str) -> Option<u128> {
    let plain = text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|id| plain && *id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_trace_is_continued_in_what_it_speaks() {
        let came = headers(&[
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", "a=b"),
        ]);
        let context = TraceContext::continued(&came).unwrap();
        assert_eq!((context.parent, context.sampled), (Some(0xb7ad_6b71_6920_3331), true));
        let mut goes = came.clone();
        context.inject(&mut goes);
        assert_eq!(goes["traceparent"], format!("00-{TRACE}-{:016x}-01", context.span));
        assert_eq!((goes.len(), &goes["tracestate"]), (2, &came["tracestate"]));
        forget(&mut goes);
        assert_eq!(goes["traceparent"], format!("00-{TRACE}-{:016x}-00", context.span));
        let came = headers(&[("x-b3-traceid", TRACE), ("x-b3-spanid", "b7ad6b7169203331"), ("x-b3-sampled", "0")]);
        let context = TraceContext::continued(&came).unwrap();
        let mut goes = came.clone();
        context.inject(&mut goes);
        assert_eq!((&goes["x-b3-traceid"], &goes["x-b3-parentspanid"]), (&came["x-b3-traceid"], &came["x-b3-spanid"]));
        assert_eq!((goes["x-b3-sampled"].as_bytes(), context.sampled), (&b"0"[..], false));
        assert_eq!(goes["traceparent"], format!("00-{TRACE}-{:016x}-00", context.span));
        let single = headers(&[("b3", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1")]);
        assert!(TraceContext::continued(&single).unwrap().sampled);
    }

    #[test]
    fn what_is_malformed_begins_another_trace() {
        for bad in [
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "",
        ] {
            assert_eq!(TraceContext::continued(&headers(&[("traceparent", bad)])), None, "{bad}");
        }
    }
}
