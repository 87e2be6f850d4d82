//! Where knowledge of particular kinds enters the server: admission and connection subresources.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{ApiError, GroupResource};
use futures::future::BoxFuture;
use serde_json::Value;

use crate::http::Body;
use crate::store::Store;

/// Who makes a request, as authentication found it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserInfo {
    /// `kubernetes-admin`, `system:serviceaccount:ns:name`, ….
    pub name: String,
    /// `system:masters`, `system:authenticated`, ….
    pub groups: Vec<String>,
    /// The service account's uid, where a token carries one.
    pub uid: String,
    /// Further attributes of a token: the pod it is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a request does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The object is new.
    Create,
    /// The object is replaced; patches and server-side apply arrive here too, with the result.
    Update,
    /// The object is about to be removed or marked for removal; `object` is its current state.
    Delete,
}

/// A write under admission. `object` may be changed until admission ends.
pub struct Review<'a> {
    /// What is done.
    pub operation: Operation,
    /// Which resource.
    pub resource: &'a GroupResource,
    /// `status`, `scale`, …; empty for the object itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// Set even for `generateName`.
    pub name: &'a str,
    /// The stored object, absent on create.
    pub old: Option<&'a Value>,
    /// The object that will be stored.
    pub object: &'a mut Value,
    /// Sent to the client as `Warning:` headers.
    pub warnings: &'a mut Vec<String>,
    /// Who asks.
    pub user: &'a UserInfo,
    /// Nothing that outlives the request may be reserved.
    pub dry_run: bool,
    /// Current objects, to look things up in.
    pub store: &'a Store,
}

/// Changes the object under review, or refuses the write.
pub type Judge = Arc<dyn Fn(&mut Review<'_>) -> Result<(), ApiError> + Send + Sync>;

/// When a write is reviewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before the schema is checked; the object may be completed.
    Mutating,
    /// After it: the object is as its kind's schema says. It must not be changed any more. Deletions have no such phase.
    Validating,
}

/// Defaults and validates writes to some resources; the first error refuses the write.
#[derive(Clone)]
pub struct Admission {
    /// The resources concerned; empty means every resource.
    pub resources: Vec<GroupResource>,
    /// When it is asked.
    pub phase: Phase,
    /// Called for each write, in the order of registration, after decoding and pruning.
    pub review: Judge,
}

/// An authenticated and authorized request to a connection subresource such as `pods/exec`.
pub struct ConnectRequest {
    /// The namespace of the object, which exists.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// The port that `proxy` is to reach, by number or name; empty if none is said.
    pub port: String,
    /// What the path says behind `proxy`, without a slash before it.
    pub beyond: String,
    /// The object as stored.
    pub object: Arc<Value>,
    /// Who asks.
    pub user: UserInfo,
    /// The HTTP request, which can be upgraded.
    pub request: http::Request<hyper::body::Incoming>,
}

/// Serves a connection subresource.
pub type Connect =
    Arc<dyn Fn(ConnectRequest) -> BoxFuture<'static, Result<http::Response<Body>, ApiError>> + Send + Sync>;

/// All that a server is extended with.
#[derive(Default, Clone)]
pub struct Extensions {
    /// Run in order on every write.
    pub admission: Vec<Admission>,
    /// By resource and subresource, such as (`pods`, `exec`).
    pub connect: BTreeMap<(GroupResource, String), Connect>,
}
