//! From a request to the function that answers it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::ApiError;
use futures::FutureExt;
use http::request::Parts;
use http::{Method, Request, Response};
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::authentication::Peer;
use super::authorization::Action;
use super::body::{self, RequestBody};
use super::call::Call;
use super::metrics::Series;
use super::negotiate::Format;
use super::path::{self, ResourcePath};
use super::query::Query;
use super::{Body, Server, answer};
use super::{create, delete, list, namespace, patch, pod, read, review, scale, token, update, watch};
use crate::extension::{ConnectRequest, UserInfo};
use crate::kind::Verbs;

/// How long a request waits for one of the places in flight.
const QUEUE: Duration = Duration::from_secs(5);

impl Server {
    /// Answers a request, whatever it is. A watch's body ends when `stop` is cancelled.
    pub(super) async fn respond(
        self: &Arc<Self>,
        request: Request<RequestBody>,
        peer: &Peer,
        stop: &CancellationToken,
    ) -> Response<Body> {
        let start = Instant::now();
        let head = request.method() == Method::HEAD;
        let mut series = Series {
            verb: "other",
            group: String::new(),
            resource: String::new(),
            subresource: String::new(),
            code: 0,
        };
        let handled = AssertUnwindSafe(self.handle(request, peer, stop, &mut series)).catch_unwind().await;
        let mut response = match handled {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => answer::error(&error),
            Err(_) => {
                tracing::error!(?series, "a request handler panicked");
                answer::error(&ApiError::internal("a request handler panicked"))
            }
        };
        if head {
            *response.body_mut() = body::full("");
        }
        series.code = response.status().as_u16();
        self.metrics.request(series, start.elapsed());
        response
    }

    async fn handle(
        self: &Arc<Self>,
        request: Request<RequestBody>,
        peer: &Peer,
        stop: &CancellationToken,
        series: &mut Series,
    ) -> Result<Response<Body>, ApiError> {
        let user = self.authenticate(peer, request.headers())?;
        let Some(path) = path::parse(request.uri().path()) else {
            series.verb = method_label(request.method());
            return self.other_path(&request, user.as_ref());
        };
        let user = user.ok_or_else(ApiError::unauthorized)?;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let verb = verb_of(request.method(), &path, &query).ok_or_else(ApiError::method_not_allowed)?;
        self.authorize(&user, &action(verb, &path, &query.fields()?))?;
        let kind = self.registry.find(&path.group, &path.version, &path.resource);
        let kind = kind.ok_or_else(ApiError::no_such_path)?;
        series.verb = verb_label(verb);
        series.group.clone_from(&path.group);
        series.resource.clone_from(&path.resource);
        check_scope(&path, kind.namespaced, verb)?;
        let connects = self.extensions.connect.get(&(path.group_resource(), path.subresource.clone())).cloned();
        if let Some(connect) = connects {
            series.subresource.clone_from(&path.subresource);
            series.verb = "CONNECT";
            let request = self.connect_request(request, path, user)?;
            return connect(request).await;
        }
        let _permit = match peer {
            Peer::InProcess(_) => None,
            _ if verb == "watch" => None,
            _ => Some(self.permit().await?),
        };
        let (Parts { headers, method, .. }, body) = request.into_parts();
        let mut format = Format::of(&headers)?;
        format.pretty |= query.flag("pretty");
        let call = Call { server: self.clone(), user, path, kind, query, headers, format, stop: stop.clone() };
        let mut response = dispatch(&call, verb, &method, body, series).await?;
        answer::warn(&mut response, call.kind.deprecation.as_slice());
        Ok(response)
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        if let Ok(permit) = self.in_flight.try_acquire() {
            return Ok(permit);
        }
        match tokio::time::timeout(QUEUE, self.in_flight.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                self.metrics.rejected();
                Err(ApiError::too_many_requests("too many requests, please try again later."))
            }
        }
    }

    /// What a connection subresource needs: a connection, and an object that exists.
    fn connect_request(
        &self,
        request: Request<RequestBody>,
        path: ResourcePath,
        user: UserInfo,
    ) -> Result<ConnectRequest, ApiError> {
        let kind = self.registry.find(&path.group, &path.version, &path.resource).ok_or_else(ApiError::no_such_path)?;
        let (name, port) = match path.subresource.as_str() {
            "proxy" => name_and_port(&path.name),
            _ => (path.name.as_str(), ""),
        };
        let object = self.store.get(&kind.key(&path.namespace, name));
        let object = object.ok_or_else(|| ApiError::not_found(&path.group, &path.resource, name))?;
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return Err(ApiError::method_not_allowed());
        }
        let (parts, body) = request.into_parts();
        let RequestBody::Connection(body) = body else {
            let message = format!("{}/{} is served to connections only", path.resource, path.subresource);
            return Err(ApiError::bad_request(message));
        };
        let (name, port) = (name.to_owned(), port.to_owned());
        let ResourcePath { namespace, beyond, .. } = path;
        let object = Arc::new(kind.show(&object));
        Ok(ConnectRequest { namespace, name, port, beyond, object, user, request: Request::from_parts(parts, body) })
    }
}

/// What `proxy` is asked of: `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`.
fn name_and_port(text: &str) -> (&str, &str) {
    match text.split(':').collect::<Vec<_>>()[..] {
        [name, port] | [_, name, port] => (name, port),
        _ => (text, ""),
    }
}

async fn dispatch(
    call: &Call,
    verb: &'static str,
    method: &Method,
    body: RequestBody,
    series: &mut Series,
) -> Result<Response<Body>, ApiError> {
    let sub = call.path.subresource.as_str();
    let core = |resource: &str| call.path.group.is_empty() && call.path.resource == resource;
    if !sub.is_empty() {
        let known = match sub {
            "status" => call.kind.has_status,
            "scale" => call.kind.scale.is_some(),
            "binding" | "eviction" => core("pods"),
            "finalize" => core("namespaces"),
            "token" => core("serviceaccounts"),
            _ => false,
        };
        if !known {
            return Err(ApiError::no_such_path());
        }
        series.subresource = sub.to_owned();
    }
    if call.kind.verbs == Verbs::CreateOnly {
        return match (verb, sub) {
            ("create", "") => review::create(call, body::read(body).await?),
            _ => Err(ApiError::method_not_allowed()),
        };
    }
    match (verb, sub) {
        ("get", "" | "status") => read::get(call),
        ("get", "scale") => scale::get(call),
        ("list", _) => list::list(call),
        ("watch", _) if method == Method::GET => watch::watch(call),
        ("create", "") => create::create(call, body::read(body).await?).await,
        ("create", "binding") => pod::bind(call, body::read(body).await?).await,
        ("create", "eviction") => pod::evict(call, body::read(body).await?).await,
        ("create", "token") => token::create(call, body::read(body).await?),
        ("update", "" | "status") => update::replace(call, body::read(body).await?).await,
        ("update", "scale") => scale::replace(call, body::read(body).await?).await,
        ("update", "finalize") => namespace::finalize(call, body::read(body).await?).await,
        ("patch", "" | "status") => patch::patch(call, body::read(body).await?).await,
        ("patch", "scale") => scale::patch(call, body::read(body).await?).await,
        ("delete", "") => delete::delete(call, body::read(body).await?).await,
        ("deletecollection", "") => delete::delete_collection(call, body::read(body).await?).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// Namespaced kinds are written in a namespace, and cluster-scoped kinds have none.
fn check_scope(path: &ResourcePath, namespaced: bool, verb: &str) -> Result<(), ApiError> {
    match (namespaced, path.namespace.is_empty()) {
        (true, true) if !path.name.is_empty() => Err(ApiError::no_such_path()),
        // Only reading works over all namespaces.
        (true, true) if !matches!(verb, "list" | "watch") => Err(ApiError::method_not_allowed()),
        (false, false) => Err(ApiError::no_such_path()),
        _ => Ok(()),
    }
}

/// The verb that access is granted by.
fn verb_of(method: &Method, path: &ResourcePath, query: &Query) -> Option<&'static str> {
    let collection = path.name.is_empty();
    Some(match *method {
        Method::GET if collection && query.flag("watch") => "watch",
        Method::GET | Method::HEAD if collection => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST if collection || !path.subresource.is_empty() => "create",
        Method::PUT if !collection => "update",
        Method::PATCH if !collection => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        _ => return None,
    })
}

fn action<'a>(verb: &'a str, path: &'a ResourcePath, fields: &'a api::FieldSelector) -> Action<'a> {
    // A list of one name is granted like a get, so that `resourceNames` also cover what watches one object.
    let name = if path.name.is_empty() { fields.exact("metadata.name").unwrap_or_default() } else { &path.name };
    Action::Resource {
        verb,
        group: &path.group,
        resource: &path.resource,
        subresource: &path.subresource,
        namespace: if path.resource == "namespaces" && path.group.is_empty() { &path.name } else { &path.namespace },
        name,
    }
}

/// The verb as Kubernetes labels its metrics with.
fn verb_label(verb: &str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        _ => "DELETECOLLECTION",
    }
}

fn method_label(method: &Method) -> &'static str {
    if method == Method::GET { "GET" } else { "other" }
}
