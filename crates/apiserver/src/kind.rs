//! Kinds as data, and the registry of those that are served.
//! CONTRACT STUB: signatures are what the others build on.

use std::sync::Arc;

use api::{GroupResource, GroupVersion};
use serde_json::Value;

use crate::schema::Schema;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    pub kind: String,
    pub list_kind: String,
    pub plural: String,
    pub singular: String,
    pub short: Vec<String>,
    pub categories: Vec<String>,
}

/// A column of the `Table` that `kubectl get` prints.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    /// `string`, `integer`, `date`, ….
    pub kind: String,
    pub format: String,
    pub description: String,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

/// Where the `scale` subresource finds its fields (dotted paths without a leading dot).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: String,
    pub status_replicas: String,
    pub selector: Option<String>,
}

/// What may be done with a kind. Review kinds (`TokenReview`, `SubjectAccessReview`) are only created, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbs {
    All,
    CreateOnly,
}

/// One kind in one version.
pub struct Kind {
    pub version: GroupVersion,
    pub names: Names,
    pub namespaced: bool,
    pub verbs: Verbs,
    /// The `apiVersion` objects are stored with; differs from `version` for further versions of a CRD.
    pub storage_version: GroupVersion,
    pub has_status: bool,
    pub scale: Option<ScalePaths>,
    /// Built-in kinds accept strategic merge patches; custom resources answer 415.
    pub builtin: bool,
    pub schema: Arc<Schema>,
    pub columns: Vec<Column>,
    /// The cells of one row, in the order of `columns`; `now` is for ages (seconds since the epoch).
    pub row: Arc<dyn Fn(&Value, i64) -> Vec<Value> + Send + Sync>,
    /// Field selectors beyond `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<String>,
}

impl Kind {
    pub fn resource(&self) -> GroupResource {
        GroupResource::new(&self.version.group, &self.names.plural)
    }
}

/// The kinds that are served. Cheap to clone; readers never wait.
#[derive(Clone)]
pub struct Registry {}

impl Registry {
    /// The built-in kinds.
    pub fn builtin() -> Registry {
        unimplemented!()
    }

    /// The kind served at `/apis/{group}/{version}/…/{plural}`.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let _ = (group, version, plural);
        unimplemented!()
    }

    pub fn find_kind(&self, version: &GroupVersion, kind: &str) -> Option<Arc<Kind>> {
        let _ = (version, kind);
        unimplemented!()
    }

    /// Every kind, ordered by group, version, plural.
    pub fn all(&self) -> Vec<Arc<Kind>> {
        unimplemented!()
    }

    /// Validates a CustomResourceDefinition and, for `Ok`, what its status becomes (names accepted, established).
    pub fn install(&self, crd: &Value) -> Result<Value, Vec<api::Cause>> {
        let _ = crd;
        unimplemented!()
    }

    pub fn uninstall(&self, crd: &Value) {
        let _ = crd;
        unimplemented!()
    }

    /// `/api`, `/apis` …: the discovery document for a path; `aggregated` chooses the v2 form.
    /// `None` if there is no such group or version.
    pub fn discovery(&self, path: &str, aggregated: bool) -> Option<Value> {
        let _ = (path, aggregated);
        unimplemented!()
    }

    /// `/openapi/v3` (index) and `/openapi/v3/…` documents, encoded.
    pub fn openapi_v3(&self, path: &str) -> Option<bytes::Bytes> {
        let _ = path;
        unimplemented!()
    }
}
