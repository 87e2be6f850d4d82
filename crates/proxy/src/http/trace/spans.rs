//! Spans that wait to be told to their collectors, of one worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::Trace;
use super::otlp::{EXPORT, ExportRequest, KeyValue, Resource, ResourceSpans, ScopeSpans, Span};
use crate::access_log::Entry;
use crate::config::Direction;
use crate::config::http::Collector;
use crate::http::errand;
use crate::http::head::names;
use crate::worker::Worker;

/// How long a span waits for others.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a collector may take if the configuration does not say.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Spans that wait, by their collector.
#[derive(Debug, Default)]
pub(crate) struct Spans(RefCell<Vec<(Collector, Vec<Span>)>>);

impl Spans {
    /// Tells a collector of a request that has ended, if it is recorded.
    pub(crate) fn add(
        worker: &Rc<Worker>,
        collector: &Collector,
        trace: &mut Trace,
        entry: &Entry<'_>,
        way: Direction,
    ) {
        let Some(span) = trace.span(entry, way) else { return };
        let mut waiting = worker.spans.0.borrow_mut();
        if let Some((_, spans)) = waiting.iter_mut().find(|(known, _)| known == collector) {
            // What a collector does not take in time is lost rather than kept for ever.
            if spans.len() < collector.max_spans {
                spans.push(span);
            }
            return;
        }
        waiting.push((collector.clone(), vec![span]));
        tokio::task::spawn_local(send(worker.clone(), collector.clone()));
    }

    /// All that waits for a collector.
    fn take(&self, collector: &Collector) -> Vec<Span> {
        let mut waiting = self.0.borrow_mut();
        let position = waiting.iter().position(|(known, _)| known == collector);
        position.map(|position| waiting.swap_remove(position).1).unwrap_or_default()
    }
}

/// Sends what has come together after a while.
async fn send(worker: Rc<Worker>, collector: Collector) {
    tokio::time::sleep(PATIENCE).await;
    let spans = worker.spans.take(&collector);
    let Some(cluster) = worker.current().cluster(&worker, &collector.cluster) else { return };
    let resource = Resource { attributes: vec![KeyValue::new("service.name", &*collector.service_name)] };
    let scope_spans = vec![ScopeSpans { spans }];
    let message = ExportRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] };
    let authority = if collector.authority.is_empty() { &collector.cluster } else { &collector.authority };
    let Ok(question) = errand::grpc(authority, EXPORT, collector.timeout, &message) else { return };
    let answer = errand::call(&cluster, question, collector.timeout.unwrap_or(TIMEOUT)).await;
    let status = answer.as_ref().and_then(|answer| answer.headers().get(names::GRPC_STATUS));
    if status.is_none_or(|status| status != "0") {
        tracing::debug!(cluster = %collector.cluster, ?status, "spans were not taken");
    }
}
