//! Responses.

use api::ApiError;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::Body;
use super::body;
use super::negotiate::{Format, Syntax};

/// A response of these bytes.
pub(super) fn bytes(code: u16, content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(bytes));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A response of this value, as the client wants it written.
pub(super) fn value(code: u16, format: Format, value: &Value) -> Response<Body> {
    match encode(format, value) {
        Ok(encoded) => bytes(code, format.content_type(), encoded),
        Err(e) => error(&ApiError::internal(format!("the answer cannot be written: {e}"))),
    }
}

/// A plain text response.
pub(super) fn text(code: u16, text: impl Into<String>) -> Response<Body> {
    bytes(code, "text/plain; charset=utf-8", text.into())
}

/// A refusal.
pub(super) fn error(error: &ApiError) -> Response<Body> {
    let mut response = value(error.code, Format::JSON, &error.to_status());
    if error.code == 429 || error.code == 503 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Adds a `Warning:` header for each warning, as kubectl prints them.
pub(super) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        match HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            Ok(header) => {
                response.headers_mut().append(WARNING, header);
            }
            Err(e) => tracing::warn!(%warning, error = %e, "a warning cannot be sent"),
        }
    }
}

/// What a delete or another action without a result answers.
pub(super) fn success(details: Value) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}

fn encode(format: Format, value: &Value) -> Result<Bytes, Box<dyn std::error::Error>> {
    Ok(match format.syntax {
        Syntax::Yaml => serde_saphyr::to_string(value)?.into(),
        Syntax::Json if format.pretty => {
            let mut text = serde_json::to_vec_pretty(value)?;
            text.push(b'\n');
            text.into()
        }
        Syntax::Json => serde_json::to_vec(value)?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_headers() {
        let mut response = text(200, "ok");
        warn(&mut response, &["unknown field \"spec.x\"".to_owned(), "two\nlines".to_owned()]);
        let headers: Vec<_> = response.headers().get_all(WARNING).iter().collect();
        assert_eq!(headers, ["299 - \"unknown field \\\"spec.x\\\"\"", "299 - \"two lines\""]);
    }
}
