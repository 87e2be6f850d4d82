//! Kinds as data, and the registry of those that are served.

mod access;
mod builtin;
mod cell;
mod cluster;
mod crd;
mod discovery;
mod event;
mod jsonpath;
mod openapi;
mod pod;
mod policy;
mod service;
mod workload;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::{GroupResource, GroupVersion};
use arc_swap::ArcSwap;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

pub use discovery::Discovery;

use crate::schema::{Generate, Schema};

/// What a kind and its resource are called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// `Pod`.
    pub kind: String,
    /// `PodList`.
    pub list_kind: String,
    /// `pods`, the resource's name in paths.
    pub plural: String,
    /// `pod`.
    pub singular: String,
    /// `po`.
    pub short: Vec<String>,
    /// `all`.
    pub categories: Vec<String>,
}

/// A column of the `Table` that `kubectl get` prints.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The heading, which kubectl prints in capitals.
    pub name: String,
    /// `string`, `integer`, `date`, ….
    pub kind: String,
    /// `name` for the column of names, else usually empty.
    pub format: String,
    /// What the column shows.
    pub description: String,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

/// Where the `scale` subresource finds its fields (dotted paths without a leading dot).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    /// The wanted number.
    pub spec_replicas: String,
    /// The observed number.
    pub status_replicas: String,
    /// A label selector: an object in built-in kinds, a string in custom resources.
    pub selector: Option<String>,
}

/// What may be done with a kind. Review kinds (`TokenReview`, `SubjectAccessReview`) are only created, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbs {
    /// Stored, with every verb.
    All,
    /// Answered at once, never stored.
    CreateOnly,
}

/// A subresource as discovery shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `log`, ….
    pub name: String,
    /// The group and version of `kind`.
    pub version: GroupVersion,
    /// What the subresource answers with or takes.
    pub kind: String,
    /// In alphabetical order.
    pub verbs: &'static [&'static str],
}

/// The cells of one row, in the order of the kind's columns; the second argument is the present time for ages, in
/// seconds since the epoch.
pub type Row = Arc<dyn Fn(&Value, i64) -> Vec<Value> + Send + Sync>;

/// Where a kind's published schema comes from.
#[derive(Clone)]
pub(crate) enum Source {
    /// A definition of Kubernetes, such as `io.k8s.api.core.v1.Pod`.
    Builtin { definition: String, generate: Generate },
    /// The CustomResourceDefinition's name, and the encoded `openAPIV3Schema` of the version.
    Custom { definition: String, schema: Bytes },
}

/// Rewrites an object of one version as another.
pub(crate) type Convert = fn(&mut Value);

/// One kind in one version.
pub struct Kind {
    /// Group and version.
    pub version: GroupVersion,
    /// What it is called.
    pub names: Names,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What may be done with it.
    pub verbs: Verbs,
    /// The `apiVersion` objects are stored with; differs from `version` for further versions of a CRD.
    pub storage_version: GroupVersion,
    /// Whether `status` is a subresource.
    pub has_status: bool,
    /// The `scale` subresource, if there is one.
    pub scale: Option<ScalePaths>,
    /// All subresources, `status` and `scale` included, ordered by name.
    pub subresources: Vec<Subresource>,
    /// Built-in kinds accept strategic merge patches; custom resources answer 415.
    pub builtin: bool,
    /// Decoding, pruning, defaulting, validation and merging.
    pub schema: Arc<Schema>,
    /// The columns of its tables.
    pub columns: Vec<Column>,
    /// Fills the columns.
    pub row: Row,
    /// Field selectors beyond `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<String>,
    /// A warning for every use of a deprecated version.
    pub deprecation: Option<String>,
    pub(crate) source: Source,
    /// Into the storage version and back, where more than the `apiVersion` differs.
    pub(crate) conversion: Option<(Convert, Convert)>,
}

impl Kind {
    /// What its objects are stored under. Events are the one kind that another group serves too.
    pub fn resource(&self) -> GroupResource {
        GroupResource::new(&self.storage_version.group, &self.names.plural)
    }

    /// What its objects are served as, which is what admission knows.
    pub fn served_as(&self) -> GroupResource {
        GroupResource::new(&self.version.group, &self.names.plural)
    }

    /// Rewrites an object of this version into the storage version.
    pub fn to_storage(&self, object: &mut Value) {
        if let Some((to, _)) = self.conversion {
            to(object);
        }
        set_api_version(object, &self.storage_version);
    }

    /// Rewrites an object of the storage version into this version.
    pub fn from_storage(&self, object: &mut Value) {
        if let Some((_, from)) = self.conversion {
            from(object);
        }
        set_api_version(object, &self.version);
    }

    fn verb_names(&self) -> &'static [&'static str] {
        match self.verbs {
            Verbs::All => &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            Verbs::CreateOnly => &["create"],
        }
    }
}

fn set_api_version(object: &mut Value, version: &GroupVersion) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".to_owned(), version.to_string().into());
    }
}

/// What an accepted CustomResourceDefinition comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Installation {
    /// Its `status`: the names accepted, the conditions `NamesAccepted` and `Established`, the stored versions.
    pub status: Value,
    /// For `Warning:` headers: what the definition asks for and does not get.
    pub warnings: Vec<String>,
}

/// The kinds that are served. Cheap to clone; readers never wait.
#[derive(Clone)]
pub struct Registry {
    state: Arc<State>,
}

struct State {
    snapshot: ArcSwap<Snapshot>,
    /// The OpenAPI documents asked for so far, by name, with the hash of what they were made from.
    openapi: Mutex<BTreeMap<String, (String, Bytes)>>,
    /// Held while a snapshot is replaced.
    writing: Mutex<()>,
}

/// The kinds at one moment, immutable but for what is computed from them once.
struct Snapshot {
    /// Ordered by group, version, plural.
    kinds: Vec<Arc<Kind>>,
    /// Documents encoded on first request, by name.
    documents: Mutex<BTreeMap<String, Bytes>>,
}

impl Snapshot {
    fn new(mut kinds: Vec<Arc<Kind>>) -> Snapshot {
        kinds.sort_by(|a, b| order(a).cmp(&order(b)));
        Snapshot { kinds, documents: Mutex::default() }
    }

    /// The document of this name, made on first use; `None` is not remembered.
    fn document(&self, name: String, make: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        let known = self.documents.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if known.is_some() {
            return known;
        }
        // Made outside the lock: a large document must not delay readers of the others.
        let made = make()?;
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).insert(name, made.clone());
        Some(made)
    }
}

fn order(kind: &Kind) -> (&str, &str, &str) {
    (&kind.version.group, &kind.version.version, &kind.names.plural)
}

impl Registry {
    /// The built-in kinds.
    pub fn builtin() -> Registry {
        let kinds = builtin::kinds().into_iter().map(Arc::new).collect();
        let snapshot = ArcSwap::from_pointee(Snapshot::new(kinds));
        Registry { state: Arc::new(State { snapshot, openapi: Mutex::default(), writing: Mutex::new(()) }) }
    }

    /// The kind served at `/apis/{group}/{version}/…/{plural}`.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let snapshot = self.state.snapshot.load();
        let at = snapshot.kinds.binary_search_by(|k| order(k).cmp(&(group, version, plural))).ok()?;
        snapshot.kinds.get(at).cloned()
    }

    /// The kind that an object's `apiVersion` and `kind` name.
    pub fn find_kind(&self, version: &GroupVersion, kind: &str) -> Option<Arc<Kind>> {
        let snapshot = self.state.snapshot.load();
        snapshot.kinds.iter().find(|k| k.version == *version && k.names.kind == kind).cloned()
    }

    /// Every kind, ordered by group, version, plural.
    pub fn all(&self) -> Vec<Arc<Kind>> {
        self.state.snapshot.load().kinds.clone()
    }

    /// `/api`, `/apis`, `/api/v1`, `/apis/G`, `/apis/G/V`: the encoded discovery document for a path. The aggregated
    /// forms exist for the first two only. `None` if there is no such group or version.
    pub fn discovery(&self, path: &str, form: Discovery) -> Option<Bytes> {
        let snapshot = self.state.snapshot.load();
        let name = format!("{form:?} {path}");
        snapshot.document(name, || discovery::document(&snapshot.kinds, path, form).map(|d| d.to_string().into()))
    }

    /// Fills in what a CustomResourceDefinition may leave out and validates it, against what it was where it changes.
    /// Gives warnings about what the definition asks for and does not get.
    pub fn check_definition(&self, crd: &mut Value, old: Option<&Value>) -> Result<Vec<String>, Vec<api::Cause>> {
        crd::complete(crd);
        let mut causes = crd::check(crd);
        causes.extend(old.into_iter().flat_map(|old| crd::check_update(old, crd)));
        if causes.is_empty() { Ok(crd::warnings(crd)) } else { Err(causes) }
    }

    /// Validates a CustomResourceDefinition and serves its versions from now on, unless its names are taken.
    pub fn install(&self, crd: &Value) -> Result<Installation, Vec<api::Cause>> {
        let causes = crd::check(crd);
        if !causes.is_empty() {
            return Err(causes);
        }
        let mut installation = None;
        self.replace(crd, |others| {
            let (kinds, result) = crd::read(crd, others, Timestamp::now());
            installation = Some(result);
            kinds
        });
        Ok(installation.expect("the snapshot was replaced"))
    }

    /// Stops serving the kinds of a CustomResourceDefinition.
    pub fn uninstall(&self, crd: &Value) {
        self.replace(crd, |_| Vec::new());
    }

    /// Replaces the kinds of a definition with those that `make` gives for the remaining ones.
    fn replace(&self, crd: &Value, make: impl FnOnce(&[Arc<Kind>]) -> Vec<Kind>) {
        let _writing = self.state.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let name = crd.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let mut kinds = crd::without(&self.state.snapshot.load().kinds, name);
        kinds.extend(make(&kinds).into_iter().map(Arc::new).collect::<Vec<_>>());
        self.state.snapshot.store(Arc::new(Snapshot::new(kinds)));
    }

    /// `/openapi/v3` (index) and `/openapi/v3/…` documents, encoded.
    pub fn openapi_v3(&self, path: &str) -> Option<Bytes> {
        let snapshot = self.state.snapshot.load();
        let name = path.strip_prefix("/openapi/v3")?.trim_matches('/');
        if name.is_empty() {
            return snapshot.document("openapi".to_owned(), || Some(openapi::index(&snapshot.kinds)));
        }
        let version = openapi::parse_name(name)?;
        let kinds: Vec<Arc<Kind>> = snapshot.kinds.iter().filter(|k| k.version == version).cloned().collect();
        if kinds.is_empty() {
            return None;
        }
        let hash = openapi::hash(&kinds);
        let mut documents = self.state.openapi.lock().unwrap_or_else(PoisonError::into_inner);
        // Documents are made one at a time: each is large while it is made.
        match documents.get(name) {
            Some((made_from, document)) if *made_from == hash => Some(document.clone()),
            _ => {
                let document = openapi::document(&kinds);
                documents.insert(name.to_owned(), (hash, document.clone()));
                Some(document)
            }
        }
    }
}

#[cfg(test)]
mod tests;
