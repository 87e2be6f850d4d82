//! `watch`: the changes of a collection as a stream of JSON lines.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Cause};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream};
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::body::BodyError;
use super::call::Call;
use super::filter::Filter;
use super::metrics::Watching;
use super::negotiate::{Form, Syntax};
use super::query::{Asked, options_error};
use super::table::{self, Table};
use super::{Body, list, read};
use crate::store::{self, Event, EventKind, Expired, Object, Revision, Watch};

/// How often a quiet watch tells how far it has come.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// How long a watch lasts if the client does not say: at least this, at most twice as long, as in kube-apiserver.
const LIFETIME: Duration = Duration::from_secs(1800);
/// Lines that are ready together are sent in pieces of at most this size, unless a line is longer.
const PIECE: usize = 64 << 10;

/// What a watch begins with.
struct Plan {
    since: Revision,
    /// The objects that exist, as ADDED events.
    initial: Vec<Arc<Object>>,
    /// Whether a bookmark marks the end of `initial`.
    mark_initial: bool,
}

/// Begins a watch.
pub(super) fn watch(call: &Call) -> Result<Response<Body>, ApiError> {
    if call.format.form == Form::Table {
        table::check(call)?;
    }
    let filter = Filter::of(call)?;
    let lifetime = call.query.watch_timeout()?.unwrap_or_else(default_lifetime);
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let plan = plan(call, &filter, bookmarks)?;
    let source = call.server.store.watch(&call.kind.resource(), plan.since);
    let view = View { call: Arc::new(copy(call)), filter, columns_sent: false };
    let mut stream = Watcher {
        view,
        source: None,
        queue: VecDeque::new(),
        bookmarks,
        bookmarked: Instant::now(),
        deadline: Instant::now() + lifetime,
        _watching: call.server.metrics.watching(),
    };
    match source {
        Ok(source) => {
            stream.begin(plan);
            stream.source = Some(source);
        }
        Err(expired) => stream.expire(plan.since, expired),
    }
    let body = StreamBody::new(frames(stream)).boxed_unsync();
    let mut response = Response::new(body);
    let content_type = match call.format.syntax {
        Syntax::Json => "application/json",
        Syntax::Yaml => return Err(ApiError::not_acceptable("application/json")),
    };
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    Ok(response)
}

fn plan(call: &Call, filter: &Filter, bookmarks: bool) -> Result<Plan, ApiError> {
    let asked = call.query.resource_version()?;
    if let Asked::At(revision) = asked {
        read::check_reached(&call.server.store, revision)?;
    }
    let forbidden = |field: &str, why: &str| options_error("ListOptions", &[Cause::forbidden(field, why)]);
    let send_initial = call.query.get("sendInitialEvents").map(|_| call.query.flag("sendInitialEvents"));
    match (send_initial, call.query.get("resourceVersionMatch")) {
        (Some(_), Some("NotOlderThan")) | (None, None) => {}
        (Some(_), _) => {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(forbidden("resourceVersionMatch", why));
        }
        (None, Some(_)) => {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            return Err(forbidden("resourceVersionMatch", why));
        }
    }
    let from_state = match (send_initial, asked) {
        (Some(send), _) => send,
        (None, Asked::At(_)) => false,
        // Without a revision a watch begins with the state, as kube-apiserver does for old clients' sake.
        (None, Asked::Newest | Asked::Any) => true,
    };
    if from_state {
        let (since, initial) = list::current(&call.server.store, &call.kind.resource(), filter);
        return Ok(Plan { since, initial, mark_initial: bookmarks && send_initial == Some(true) });
    }
    let since = match asked {
        Asked::At(revision) => revision,
        Asked::Newest | Asked::Any => call.server.store.revision(),
    };
    Ok(Plan { since, initial: Vec::new(), mark_initial: false })
}

fn default_lifetime() -> Duration {
    let spread = uuid::Uuid::new_v4().as_u128() % u128::from(LIFETIME.as_secs());
    LIFETIME + Duration::from_secs(u64::try_from(spread).unwrap_or_default())
}

/// What a watch needs of its request, without the headers.
fn copy(call: &Call) -> Call {
    Call {
        server: call.server.clone(),
        user: call.user.clone(),
        path: call.path.clone(),
        kind: call.kind.clone(),
        query: call.query.clone(),
        headers: http::HeaderMap::new(),
        format: call.format,
        stop: call.stop.clone(),
    }
}

fn frames(watcher: Watcher) -> impl Stream<Item = Result<Frame<Bytes>, BodyError>> {
    stream::unfold(watcher, |mut watcher| async move {
        let bytes = watcher.next().await?;
        Some((Ok(Frame::data(bytes)), watcher))
    })
}

/// An open watch.
struct Watcher {
    view: View,
    /// `None` once the watch is over but for what is queued.
    source: Option<Watch>,
    queue: VecDeque<Bytes>,
    bookmarks: bool,
    bookmarked: Instant,
    deadline: Instant,
    _watching: Watching,
}

impl Watcher {
    fn begin(&mut self, plan: Plan) {
        let Plan { since, initial, mark_initial } = plan;
        for object in initial {
            let line = self.view.object(EventKind::Added, &object);
            self.queue.push_back(line);
        }
        if mark_initial {
            self.queue.push_back(self.view.bookmark(since, true));
        }
    }

    fn expire(&mut self, since: Revision, expired: Expired) {
        let message = format!("too old resource version: {} ({})", since.0, expired.oldest.0);
        let status = ApiError::expired(message).to_status();
        self.queue.push_back(line("ERROR", &status));
        self.source = None;
    }

    /// The next lines, or `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.piece() {
                return Some(bytes);
            }
            let seen = {
                let source = self.source.as_mut()?;
                let wake =
                    if self.bookmarks { self.deadline.min(self.bookmarked + BOOKMARK_INTERVAL) } else { self.deadline };
                tokio::select! {
                    biased;
                    () = self.view.call.stop.cancelled() => None,
                    events = source.next() => Some(events),
                    () = tokio::time::sleep_until(wake) => None,
                }
            };
            match seen {
                Some(Ok(events)) => self.forward(&events),
                Some(Err(expired)) => {
                    let since = self.source.as_ref().map(Watch::seen).unwrap_or_default();
                    self.expire(since, expired);
                }
                None => self.rest(),
            }
        }
    }

    /// What is queued, in pieces of a good size. A single line is sent as it is, shared with other watches.
    fn piece(&mut self) -> Option<Bytes> {
        let first = self.queue.pop_front()?;
        if self.queue.is_empty() || first.len() >= PIECE {
            return Some(first);
        }
        let mut piece = BytesMut::from(first);
        while let Some(line) = self.queue.pop_front_if(|line| piece.len() + line.len() <= PIECE) {
            piece.extend_from_slice(&line);
        }
        Some(piece.freeze())
    }

    fn forward(&mut self, events: &[Arc<Event>]) {
        for event in events {
            self.queue.extend(self.view.event(event));
        }
    }

    /// Sends a bookmark, and ends the watch if its time has come.
    fn rest(&mut self) {
        if self.bookmarks
            && let Some(source) = &self.source
        {
            let line = self.view.bookmark(source.seen(), false);
            self.queue.push_back(line);
            self.bookmarked = Instant::now();
        }
        if self.view.call.stop.is_cancelled() || Instant::now() >= self.deadline {
            self.source = None;
        }
    }
}

/// How a client sees the changes.
struct View {
    call: Arc<Call>,
    filter: Filter,
    /// Only the first table of a stream carries the column definitions.
    columns_sent: bool,
}

impl View {
    /// An object that enters the selection is ADDED, and one that leaves it is DELETED.
    fn event(&mut self, event: &Event) -> Option<Bytes> {
        let matched = self.filter.matches(&event.object);
        let before = match event.kind {
            EventKind::Deleted => matched,
            EventKind::Added => false,
            EventKind::Modified => event.previous.as_ref().is_some_and(|previous| self.filter.matches(previous)),
        };
        let after = matched && event.kind != EventKind::Deleted;
        let kind = match (before, after) {
            (false, false) => return None,
            (false, true) => EventKind::Added,
            (true, true) => EventKind::Modified,
            (true, false) => EventKind::Deleted,
        };
        match &event.previous {
            Some(previous) if kind == EventKind::Deleted && event.kind != EventKind::Deleted => {
                Some(self.left(previous, event.revision))
            }
            _ if kind == event.kind && self.as_stored() => Some(event.line()),
            _ => Some(self.object(kind, &event.object)),
        }
    }

    /// The last state that matched, at the revision of the change that ended it.
    fn left(&mut self, previous: &Object, revision: Revision) -> Bytes {
        let mut value = self.call.kind.show(previous);
        value["metadata"]["resourceVersion"] = revision.0.to_string().into();
        self.value(EventKind::Deleted, value)
    }

    /// Whether objects are shown as their stored bytes.
    fn as_stored(&self) -> bool {
        self.call.format.form == Form::Object && self.call.kind.shows_as_stored()
    }

    fn object(&mut self, kind: EventKind, object: &Object) -> Bytes {
        if self.as_stored() {
            return store::watch_line(kind, &object.json);
        }
        self.value(kind, self.call.kind.show(object))
    }

    fn value(&mut self, kind: EventKind, value: Value) -> Bytes {
        let shown = match self.call.format.form {
            Form::Object => value,
            Form::Metadata => table::partial(&value),
            Form::Table => {
                let table = Table::new(&self.call).with_rows([&value]);
                let table = if self.columns_sent { table.without_columns() } else { table };
                self.columns_sent = true;
                table.finish(&value["metadata"])
            }
        };
        line(kind.as_str(), &shown)
    }

    fn bookmark(&self, revision: Revision, initial_events_end: bool) -> Bytes {
        let mut metadata = json!({ "resourceVersion": revision.0.to_string(), "creationTimestamp": null });
        if initial_events_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let kind = &self.call.kind;
        let object = match self.call.format.form {
            Form::Object => {
                json!({ "kind": kind.names.kind, "apiVersion": kind.version.to_string(), "metadata": metadata })
            }
            Form::Metadata => table::partial(&json!({ "metadata": metadata })),
            Form::Table => Table::new(&self.call).without_columns().finish(&metadata),
        };
        line("BOOKMARK", &object)
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({ "type": kind, "object": object })).into()
}
