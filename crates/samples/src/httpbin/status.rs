//! `/status/CODES`: a status on request, some with what belongs to them.

use http::header::{HeaderName, LOCATION, PROXY_AUTHENTICATE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::page::{Page, error, html, json, with_status};

const TEAPOT: &str = r#"
    -=[ teapot ]=-

       _...._
     .'  _ _ `.
    | ."` ^ `". _,
    \_;`"---"`|//
      |       ;/
      \_     _/
        `"""`
"#;

/// `codes` is one code, or several of which one is drawn: `200,500`, or with weights `200:0.9,500:0.1`.
/// `draw` is a number from 0 up to, not including, 1.
pub(super) fn status(codes: &str, draw: f64) -> Page {
    match parse(codes).and_then(|choices| choose(&choices, draw)) {
        Some(code) => page(code),
        None => error(StatusCode::BAD_REQUEST, "Invalid status code"),
    }
}

fn parse(codes: &str) -> Option<Vec<(StatusCode, f64)>> {
    let choice = |part: &str| {
        let (code, weight) = part.split_once(':').unwrap_or((part, "1"));
        let code = StatusCode::from_u16(code.trim().parse().ok()?).ok()?;
        let weight: f64 = weight.trim().parse().ok()?;
        // hyper ends a connection rather than send an interim status as the last one.
        (weight.is_finite() && weight >= 0.0 && !code.is_informational()).then_some((code, weight))
    };
    codes.split(',').map(choice).collect()
}

fn choose(choices: &[(StatusCode, f64)], draw: f64) -> Option<StatusCode> {
    let mut left = draw * choices.iter().map(|(_, weight)| weight).sum::<f64>();
    for (code, weight) in choices {
        if left < *weight {
            return Some(*code);
        }
        left -= weight;
    }
    choices.last().map(|(code, _)| *code)
}

fn page(code: StatusCode) -> Page {
    let page = match code.as_u16() {
        301 | 302 | 303 | 305 | 307 => with_header(html(""), LOCATION, "/redirect/1"),
        401 => with_header(html(""), WWW_AUTHENTICATE, r#"Basic realm="Fake Realm""#),
        406 => json(&json!({
            "message": "Client did not request a supported media type.",
            "accept": ["image/webp", "image/svg+xml", "image/jpeg", "image/png", "image/*"],
        })),
        407 => with_header(html(""), PROXY_AUTHENTICATE, r#"Basic realm="Fake Realm""#),
        418 => with_header(html(TEAPOT), HeaderName::from_static("x-more-info"), "http://tools.ietf.org/html/rfc2324"),
        _ => html(""),
    };
    with_status(code, page)
}

fn with_header(mut page: Page, name: HeaderName, value: &'static str) -> Page {
    page.headers_mut().insert(name, HeaderValue::from_static(value));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_teapot_has_the_bytes_it_is_known_for() {
        assert_eq!(TEAPOT.len(), 135);
        assert_eq!(status("418", 0.0).headers()["x-more-info"], "http://tools.ietf.org/html/rfc2324");
    }

    #[test]
    fn one_of_several_codes_is_drawn_by_weight() {
        assert_eq!(status("200,500", 0.49).status(), 200);
        assert_eq!(status("200,500", 0.51).status(), 500);
        assert_eq!(status("200:0.9,503:0.1", 0.89).status(), 200);
        assert_eq!(status("200:0.9,503:0.1", 0.91).status(), 503);
        assert_eq!(status("200:0", 0.5).status(), 200);
    }

    #[test]
    fn what_is_not_a_status_is_refused() {
        for codes in ["", "abc", "99", "1000", "100", "200,", "200:x", "200:-1", "200:inf"] {
            assert_eq!(status(codes, 0.5).status(), 400, "{codes}");
        }
    }
}
