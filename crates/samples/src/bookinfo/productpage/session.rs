//! Who has signed in: a cookie says so, and nobody checks it, since there is no password to check either.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use http::header::{COOKIE, HeaderMap};
use serde_json::{Value, json};

/// The cookie of newer bookinfos, in the form of Flask's sessions: JSON in base64, and behind a point what nobody reads.
const SESSION: &str = "session";
/// The cookie of older bookinfos: a name.
const USER: &str = "user";

/// Who has signed in.
pub(super) fn user(headers: &HeaderMap) -> Option<String> {
    let of_session = || {
        let cookie = cookie(headers, SESSION)?;
        let session = URL_SAFE_NO_PAD.decode(cookie.split('.').next()?).ok()?;
        let session: Value = serde_json::from_slice(&session).ok()?;
        Some(session.get("user")?.as_str()?.to_owned())
    };
    of_session().or_else(|| cookie(headers, USER)).filter(|user| !user.is_empty())
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"').to_owned())
}

/// The cookies of somebody who signs in.
pub(super) fn signed_in(user: &str) -> Vec<HeaderValue> {
    let session = URL_SAFE_NO_PAD.encode(json!({ "user": user }).to_string());
    // Base64 has no character that a header may not have.
    HeaderValue::from_str(&format!("{SESSION}={session}; HttpOnly; Path=/")).into_iter().collect()
}

/// The cookies of somebody who signs out.
pub(super) fn signed_out() -> Vec<HeaderValue> {
    let gone = |name| format!("{name}=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/");
    [SESSION, USER].map(gone).iter().filter_map(|cookie| HeaderValue::from_str(cookie).ok()).collect()
}
