//! Which answer each path gives.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, SET_COOKIE, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::received::{Content, Fields, Given, Received};
use super::status::status;
use crate::page::{self, Page};

const LONGEST_DELAY: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 100 << 10;
const MOST_LINES: usize = 100;

/// A page with a heading and a paragraph, for whoever reads HTML.
const STORY: &str = "<!doctype html>\n<html>\n<head></head>\n<body>\n<h1>Herman Melville - Moby-Dick</h1>\n<div>\n<p>\nCall me \
    Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and nothing particular to \
    interest me on shore, I thought I would sail about a little and see the watery part of the world.\n</p>\n</div>\n</body>\n\
    </html>\n";

const GET: &str = "GET, HEAD, OPTIONS";
const ANY: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, TRACE";

/// Everything httpbin tells about a request; each path shows some of it, in the order of names.
#[derive(Serialize, Default)]
struct Shown {
    args: Fields,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Fields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    form: Option<Fields>,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    origin: String,
    url: String,
}

impl Shown {
    fn without_body(request: &Received) -> Shown {
        Shown {
            args: request.args(),
            headers: request.shown_headers(),
            origin: request.origin(),
            url: request.url(),
            ..Shown::default()
        }
    }

    fn with_body(request: &Received) -> Shown {
        let Content { data, files, form, json } = request.content();
        Shown {
            data: Some(data),
            files: Some(files),
            form: Some(form),
            json: Some(json),
            ..Shown::without_body(request)
        }
    }
}

/// Answers any request; what there is not is answered 404, what may not be done 405.
pub(super) async fn answer(request: &Received) -> Page {
    let path = decode(request.uri.path());
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let Some(allowed) = allowed(&segments) else {
        return page::error(StatusCode::NOT_FOUND, "The requested URL was not found on the server.");
    };
    if !allowed.split(", ").any(|method| method == request.method.as_str()) {
        return page::method_not_allowed(allowed);
    }
    if request.method == Method::OPTIONS {
        let mut page = page::html("");
        page.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return page;
    }
    route(request, &segments).await
}

/// The methods of a path, or nothing where there is no such path.
fn allowed(segments: &[&str]) -> Option<&'static str> {
    match segments {
        ["" | "get" | "headers" | "html" | "ip" | "user-agent" | "uuid" | "json" | "cookies"] => Some(GET),
        ["bytes" | "stream" | "redirect" | "relative-redirect" | "base64", _] => Some(GET),
        ["cookies", "set" | "delete"] | ["basic-auth", _, _] | ["bearer"] => Some(GET),
        ["response-headers"] => Some("GET, HEAD, OPTIONS, POST"),
        ["post"] => Some("OPTIONS, POST"),
        ["put"] => Some("OPTIONS, PUT"),
        ["patch"] => Some("OPTIONS, PATCH"),
        ["delete"] => Some("DELETE, OPTIONS"),
        ["anything", ..] | ["status" | "delay", _] | ["redirect-to"] => Some(ANY),
        _ => None,
    }
}

async fn route(request: &Received, segments: &[&str]) -> Page {
    match segments {
        [""] => page::html("<!doctype html>\n<title>httpbin</title>\n<h1>httpbin</h1>\n<p>Try /get or /headers.</p>\n"),
        ["get"] => page::json(&Shown::without_body(request)),
        ["post" | "put" | "patch" | "delete"] => page::json(&Shown::with_body(request)),
        ["anything", ..] => {
            page::json(&Shown { method: Some(request.method.to_string()), ..Shown::with_body(request) })
        }
        ["html"] => page::html(STORY),
        ["headers"] => page::json(&json!({ "headers": request.shown_headers() })),
        ["ip"] => page::json(&json!({ "origin": request.origin() })),
        ["user-agent"] => page::json(&json!({ "user-agent": request.header(&USER_AGENT) })),
        ["uuid"] => page::json(&json!({ "uuid": Uuid::new_v4().to_string() })),
        ["json"] => page::json(&slideshow()),
        ["status", codes] => status(codes, fraction()),
        ["delay", seconds] => delay(request, seconds).await,
        ["bytes", count] => bytes(request, count),
        ["stream", count] => stream(request, count),
        ["base64", text] => base64(text),
        ["redirect" | "relative-redirect", times] => redirect(times),
        ["redirect-to"] => redirect_to(request),
        ["response-headers"] => response_headers(request),
        ["cookies"] => page::json(&json!({ "cookies": cookies(request) })),
        ["cookies", verb] => change_cookies(request, *verb == "delete"),
        ["basic-auth", user, password] => basic_auth(request, user, password),
        ["bearer"] => bearer(request),
        _ => page::error(StatusCode::NOT_FOUND, "The requested URL was not found on the server."),
    }
}

/// The path with its percent-encoding undone.
fn decode(path: &str) -> String {
    // A plus sign is itself in a path, although not in a query.
    let escaped = path.replace('+', "%2B");
    form_urlencoded::parse(escaped.replace('&', "%26").replace('=', "%3D").as_bytes())
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

/// A number from 0 up to, not including, 1.
fn fraction() -> f64 {
    (Uuid::new_v4().as_u128() as u32) as f64 / (u32::MAX as f64 + 1.0)
}

async fn delay(request: &Received, seconds: &str) -> Page {
    let Some(seconds) = seconds.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0) else {
        return page::error(StatusCode::BAD_REQUEST, "The delay is not a number of seconds.");
    };
    tokio::time::sleep(Duration::from_secs_f64(seconds.min(LONGEST_DELAY.as_secs_f64()))).await;
    page::json(&Shown::with_body(request))
}

/// Random bytes; the same for the same `seed`.
fn bytes(request: &Received, count: &str) -> Page {
    let Ok(count) = count.parse::<usize>() else {
        return page::error(StatusCode::BAD_REQUEST, "The number of bytes is not a number.");
    };
    let seed = request.arg("seed").and_then(|seed| seed.parse().ok());
    let mut state: u64 = seed.unwrap_or_else(|| Uuid::new_v4().as_u128() as u64);
    let mut body = Vec::with_capacity(count.min(MOST_BYTES) + 8);
    while body.len() < count.min(MOST_BYTES) {
        // SplitMix64: cheap, and every seed gives another sequence.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        body.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    body.truncate(count);
    page::with_type("application/octet-stream", body)
}

fn stream(request: &Received, count: &str) -> Page {
    let Ok(count) = count.parse::<usize>() else {
        return page::error(StatusCode::BAD_REQUEST, "The number of lines is not a number.");
    };
    let mut body = String::new();
    for id in 0..count.min(MOST_LINES) {
        let line = Shown { id: Some(id), ..Shown::without_body(request) };
        body.push_str(&serde_json::to_string(&line).expect("the shape is made of strings"));
        body.push('\n');
    }
    page::with_type("application/json", body)
}

fn base64(text: &str) -> Page {
    match STANDARD.decode(text) {
        Ok(decoded) => page::html(decoded),
        Err(error) => page::error(StatusCode::BAD_REQUEST, &format!("Incorrect Base64 data: {error}")),
    }
}

fn redirect(times: &str) -> Page {
    match times.parse::<u32>() {
        Ok(0) | Err(_) => page::error(StatusCode::BAD_REQUEST, "The number of redirects is not a positive number."),
        Ok(1) => page::redirect(StatusCode::FOUND, "/get"),
        Ok(times) => page::redirect(StatusCode::FOUND, &format!("/relative-redirect/{}", times - 1)),
    }
}

fn redirect_to(request: &Received) -> Page {
    let Some(url) = request.arg("url") else {
        return page::error(StatusCode::BAD_REQUEST, "The parameter url is missing.");
    };
    let status = request.arg("status_code").and_then(|code| code.parse().ok());
    let status = status.filter(|code| (300..400).contains(code)).and_then(|code| StatusCode::from_u16(code).ok());
    page::redirect(status.unwrap_or(StatusCode::FOUND), &url)
}

/// Sends the query's parameters as headers, and shows the headers that it sends.
fn response_headers(request: &Received) -> Page {
    let mut extra = HeaderMap::new();
    let mut shown = request.args();
    for (name, value) in form_urlencoded::parse(request.uri.query().unwrap_or_default().as_bytes()) {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) else {
            return page::error(StatusCode::BAD_REQUEST, &format!("{name:?} cannot be sent as a header."));
        };
        extra.append(name, value);
    }
    // The length of the body is part of the body.
    shown.entry("Content-Type".into()).or_insert(Given::Once("application/json".into()));
    let body = |length: usize, mut shown: Fields| {
        shown.insert("Content-Length".into(), Given::Once(length.to_string()));
        page::json(&shown)
    };
    let mut length = 0;
    let mut page = body(length, shown.clone());
    while let Some(actual) = hyper::body::Body::size_hint(page.body()).exact().map(|n| n as usize)
        && actual != length
    {
        length = actual;
        page = body(length, shown.clone());
    }
    extra.remove(CONTENT_LENGTH);
    if extra.contains_key(CONTENT_TYPE) {
        page.headers_mut().remove(CONTENT_TYPE);
    }
    page.headers_mut().extend(extra);
    page
}

fn cookies(request: &Received) -> BTreeMap<String, String> {
    let header = request.header(&COOKIE).unwrap_or_default();
    let pair = |part: &str| part.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    header.split(';').filter_map(pair).collect()
}

fn change_cookies(request: &Received, delete: bool) -> Page {
    let mut page = page::redirect(StatusCode::FOUND, "/cookies");
    for (name, value) in form_urlencoded::parse(request.uri.query().unwrap_or_default().as_bytes()) {
        let cookie = match delete {
            true => format!("{name}=; Max-Age=0; Path=/"),
            false => format!("{name}={value}; Path=/"),
        };
        match HeaderValue::from_str(&cookie) {
            Ok(cookie) => drop(page.headers_mut().append(SET_COOKIE, cookie)),
            Err(_) => return page::error(StatusCode::BAD_REQUEST, &format!("{name:?} cannot be sent as a cookie.")),
        }
    }
    page
}

fn basic_auth(request: &Received, user: &str, password: &str) -> Page {
    let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    if request.header(&AUTHORIZATION) == Some(expected) {
        page::json(&json!({ "authenticated": true, "user": user }))
    } else {
        unauthorized(r#"Basic realm="Fake Realm""#)
    }
}

fn bearer(request: &Received) -> Page {
    match request.header(&AUTHORIZATION).as_deref().and_then(|value| value.strip_prefix("Bearer ")) {
        Some(token) => page::json(&json!({ "authenticated": true, "token": token })),
        None => unauthorized("Bearer"),
    }
}

fn unauthorized(challenge: &'static str) -> Page {
    let mut page = page::with_status(StatusCode::UNAUTHORIZED, page::html(""));
    page.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    page
}

fn slideshow() -> Value {
    json!({
        "slideshow": {
            "author": "Yours Truly",
            "date": "date of publication",
            "slides": [
                { "title": "Wake up to WonderWidgets!", "type": "all" },
                {
                    "items": ["Why <em>WonderWidgets</em> are great", "Who <em>buys</em> WonderWidgets"],
                    "title": "Overview",
                    "type": "all",
                },
            ],
            "title": "Sample Slide Show",
        }
    })
}
