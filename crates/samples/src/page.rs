//! Responses and the bodies they have.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use serde::Serialize;

pub(crate) type Page = Response<Full<Bytes>>;

const HTML: &str = "text/html; charset=utf-8";

pub(crate) fn json(value: &impl Serialize) -> Page {
    let mut body = serde_json::to_vec_pretty(value).expect("the shapes are made of strings and JSON values");
    body.push(b'\n');
    with_type("application/json", body)
}

/// On one line, without spaces.
pub(crate) fn compact_json(value: &impl Serialize) -> Page {
    with_type("application/json", serde_json::to_vec(value).expect("the shapes are made of strings and JSON values"))
}

pub(crate) fn html(body: impl Into<Bytes>) -> Page {
    with_type(HTML, body)
}

pub(crate) fn with_type(content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page
}

/// A page for a person that says what went wrong.
pub(crate) fn error(status: StatusCode, message: &str) -> Page {
    let reason = status.canonical_reason().unwrap_or_default();
    let message = escape(message);
    let body =
        format!("<!doctype html>\n<title>{} {reason}</title>\n<h1>{reason}</h1>\n<p>{message}</p>\n", status.as_u16());
    with_status(status, html(body))
}

/// `text` as HTML shows it, between tags as well as in a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// The method is not one of `allowed`.
pub(crate) fn method_not_allowed(allowed: &str) -> Page {
    let mut page = error(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL.");
    if let Ok(value) = HeaderValue::from_str(allowed) {
        page.headers_mut().insert(ALLOW, value);
    }
    page
}

pub(crate) fn redirect(status: StatusCode, location: &str) -> Page {
    match HeaderValue::from_str(location) {
        Ok(value) => {
            let mut page = error(status, &format!("You should be redirected to {location}."));
            page.headers_mut().insert(LOCATION, value);
            page
        }
        Err(_) => error(StatusCode::BAD_REQUEST, "The location cannot be sent in a header."),
    }
}

pub(crate) fn with_status(status: StatusCode, mut page: Page) -> Page {
    *page.status_mut() = status;
    page
}

/// Reads a request's body to its end; the error is the answer to one that is too large or that broke off.
pub(crate) async fn read_body<B>(body: B, largest: usize) -> Result<Bytes, Page>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, largest).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(self::error(StatusCode::PAYLOAD_TOO_LARGE, &format!("The body may have {largest} bytes.")))
        }
        Err(error) => Err(self::error(StatusCode::BAD_REQUEST, &error.to_string())),
    }
}
