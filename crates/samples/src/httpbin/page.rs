//! Responses and the bodies they have.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

pub(super) type Page = Response<Full<Bytes>>;

const HTML: &str = "text/html; charset=utf-8";

pub(super) fn json(value: &impl Serialize) -> Page {
    let mut body = serde_json::to_vec_pretty(value).expect("the shapes are made of strings and JSON values");
    body.push(b'\n');
    with_type("application/json", body)
}

pub(super) fn html(body: impl Into<Bytes>) -> Page {
    with_type(HTML, body)
}

pub(super) fn with_type(content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page
}

/// A page for a person that says what went wrong.
pub(super) fn error(status: StatusCode, message: &str) -> Page {
    let reason = status.canonical_reason().unwrap_or_default();
    let message = message.replace('&', "&amp;").replace('<', "&lt;");
    let body =
        format!("<!doctype html>\n<title>{} {reason}</title>\n<h1>{reason}</h1>\n<p>{message}</p>\n", status.as_u16());
    with_status(status, html(body))
}

/// The method is not one of `allowed`.
pub(super) fn method_not_allowed(allowed: &str) -> Page {
    let mut page = error(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL.");
    if let Ok(value) = HeaderValue::from_str(allowed) {
        page.headers_mut().insert(ALLOW, value);
    }
    page
}

pub(super) fn redirect(status: StatusCode, location: &str) -> Page {
    match HeaderValue::from_str(location) {
        Ok(value) => {
            let mut page = error(status, &format!("You should be redirected to {location}."));
            page.headers_mut().insert(LOCATION, value);
            page
        }
        Err(_) => error(StatusCode::BAD_REQUEST, "The location cannot be sent in a header."),
    }
}

pub(super) fn with_status(status: StatusCode, mut page: Page) -> Page {
    *page.status_mut() = status;
    page
}
