//! The access log, one line for each request, as gunicorn writes it.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{ORIGIN, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Body;
use jiff::Timestamp;

/// The part of a line that is known before the answer is.
pub(super) struct Line {
    peer: IpAddr,
    request: String,
    headers: HeaderMap,
}

impl Line {
    pub(super) fn begin<B>(request: &Request<B>, peer: IpAddr) -> Line {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let line = format!("{} {path} {:?}", request.method(), request.version());
        let kept = [ORIGIN, REFERER, USER_AGENT].into_iter();
        let headers = kept.filter_map(|name| Some((name.clone(), request.headers().get(name)?.clone()))).collect();
        Line { peer, request: line, headers }
    }

    /// The site on whose behalf a browser asks.
    pub(super) fn origin(&self) -> Option<&HeaderValue> {
        self.headers.get(ORIGIN)
    }

    pub(super) fn end(&self, response: &Response<Full<Bytes>>, head: bool) {
        let sent = if head { 0 } else { response.body().size_hint().lower() };
        let time = Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000");
        crate::serve::log(format_args!(
            "{} - - [{time}] \"{}\" {} {sent} \"{}\" \"{}\"",
            self.peer,
            self.request,
            response.status().as_u16(),
            self.header(&REFERER),
            self.header(&USER_AGENT),
        ));
    }

    fn header(&self, name: &HeaderName) -> String {
        self.headers.get(name).map_or_else(|| "-".into(), |value| value.as_bytes().escape_ascii().to_string())
    }
}
