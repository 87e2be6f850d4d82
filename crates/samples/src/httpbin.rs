//! `httpbin`: answers with what it was sent, in the JSON shapes of <https://httpbin.org>.

mod answer;
mod arguments;
mod log;
mod received;
mod status;

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::Failure;
use crate::serve::{listen_on, log, serve_http, until_signalled};
use received::Received;

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let address = arguments::parse(args)?;
    until_signalled(async {
        let listener = listen_on(address).await?;
        log(format_args!("httpbin is listening on {address}"));
        serve_http(listener, respond).await;
        Ok(())
    })
}

async fn respond(request: Request<Incoming>, peer: IpAddr) -> Response<Full<Bytes>> {
    let line = log::Line::begin(&request, peer);
    let head = request.method() == Method::HEAD;
    let mut response = match Received::read(request, peer).await {
        Ok(received) => answer::answer(&received).await,
        Err(too_large) => too_large,
    };
    let headers = response.headers_mut();
    let origin = line.origin().cloned().unwrap_or(HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    line.end(&response, head);
    response
}

#[cfg(test)]
mod tests;
