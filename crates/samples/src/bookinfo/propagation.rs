//! The headers that a service hands on with the requests that it makes for one that it was sent: without them nobody could
//! tell which calls belong together, or for whom they are made.

use http::{HeaderMap, HeaderName};

/// What `productpage` hands on. It sets `end-user` itself, from who has signed in.
const BY_PAGE: &[&str] = &[
    "x-request-id",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "traceparent",
    "tracestate",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "sw8",
    "user-agent",
    "cookie",
    "authorization",
    "jwt",
];

/// Who has signed in.
pub(super) const END_USER: HeaderName = HeaderName::from_static("end-user");

/// Of a request to `productpage`, what its own requests carry on.
pub(super) fn by_page(received: &HeaderMap) -> HeaderMap {
    BY_PAGE.iter().flat_map(|name| take(received, HeaderName::from_static(name))).collect()
}

/// Of a request to `reviews`, what its own requests carry on.
pub(super) fn by_reviews(received: &HeaderMap) -> HeaderMap {
    let mut headers = by_page(received);
    headers.extend(take(received, END_USER));
    headers
}

fn take(received: &HeaderMap, name: HeaderName) -> impl Iterator<Item = (HeaderName, http::HeaderValue)> + use<'_> {
    let values: Vec<_> = received.get_all(&name).iter().cloned().collect();
    values.into_iter().map(move |value| (name.clone(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn traces_and_credentials_are_handed_on_and_nothing_else() {
        let request = Request::get("/")
            .header("x-request-id", "1")
            .header("traceparent", "00-1-2-01")
            .header("end-user", "jason")
            .header("accept", "text/html")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        let page = by_page(request.headers());
        assert_eq!((page["x-request-id"].as_bytes(), page.get_all("cookie").iter().count()), (&b"1"[..], 2));
        assert_eq!(page.keys_len(), 3);
        assert_eq!(by_reviews(request.headers())["end-user"], "jason");
    }
}
