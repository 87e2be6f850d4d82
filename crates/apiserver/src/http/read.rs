//! `get`.

use api::{ApiError, Cause};
use http::Response;

use super::Body;
use super::call::{Call, Outcome};
use super::query::Asked;
use crate::store::{Revision, Store};

/// Answers with one object; its status is the same object.
pub(super) fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    if let Asked::At(revision) = call.query.resource_version()? {
        check_reached(&call.server.store, revision)?;
    }
    Ok(call.show(200, &Outcome::Stored(call.object()?)))
}

/// Refuses to serve a revision that the store has not reached. There is one server, so waiting would not help.
pub(super) fn check_reached(store: &Store, asked: Revision) -> Result<(), ApiError> {
    let current = store.revision();
    if asked <= current {
        return Ok(());
    }
    let message = format!("Too large resource version: {}, current: {}", asked.0, current.0);
    let mut error = ApiError::new(504, "Timeout", format!("Timeout: {message}"));
    let reason = "ResourceVersionTooLarge";
    error.set_causes(&[Cause { reason, message: "Too large resource version".to_owned(), field: String::new() }]);
    if let Some(details) = error.details.as_mut() {
        details["retryAfterSeconds"] = 1.into();
    }
    Err(error)
}
