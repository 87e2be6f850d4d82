//! A request to a resource, resolved.

use std::sync::Arc;

use api::ApiError;
use http::{HeaderMap, Response};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::negotiate::{Form, Format, Syntax};
use super::path::ResourcePath;
use super::query::Query;
use super::{Body, Server, answer, table};
use crate::extension::UserInfo;
use crate::kind::Kind;
use crate::store::{Key, Object};

/// An authenticated and authorized request to a resource that is served.
pub(super) struct Call {
    pub(super) server: Arc<Server>,
    pub(super) user: UserInfo,
    pub(super) path: ResourcePath,
    pub(super) kind: Arc<Kind>,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) format: Format,
    /// Ends watches when the server stops.
    pub(super) stop: CancellationToken,
}

/// What a request leads to.
pub(super) enum Outcome {
    /// A stored object.
    Stored(Arc<Object>),
    /// An object that is not stored as it is: a dry run, or a virtual one.
    Shown(Value),
}

impl Call {
    pub(super) fn key(&self) -> Key {
        self.kind.key(&self.path.namespace, &self.path.name)
    }

    pub(super) fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.path.group, &self.path.resource, &self.path.name)
    }

    pub(super) fn object(&self) -> Result<Arc<Object>, ApiError> {
        self.server.store.get(&self.key()).ok_or_else(|| self.not_found())
    }

    /// The answer that shows one object in the form that the client wants.
    pub(super) fn show(&self, code: u16, outcome: &Outcome) -> Response<Body> {
        let plain = self.format.syntax == Syntax::Json && !self.format.pretty && self.format.form == Form::Object;
        let value = match outcome {
            Outcome::Stored(object) if plain && self.kind.shows_as_stored() => {
                return answer::bytes(code, self.format.content_type(), object.json.clone());
            }
            Outcome::Stored(object) => self.kind.show(object),
            Outcome::Shown(value) => value.clone(),
        };
        let shown = match self.format.form {
            Form::Object => value,
            Form::Metadata => table::partial(&value),
            Form::Table => table::Table::new(self).with_rows([&value]).finish(&value["metadata"]),
        };
        answer::value(code, self.format, &shown)
    }

    /// The answer that shows a value as it is.
    pub(super) fn value(&self, code: u16, value: &Value) -> Response<Body> {
        answer::value(code, self.format, value)
    }
}

/// The time of now as Kubernetes writes it: RFC 3339, whole seconds.
pub(super) fn now() -> String {
    timestamp(jiff::Timestamp::now())
}

pub(super) fn timestamp(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
