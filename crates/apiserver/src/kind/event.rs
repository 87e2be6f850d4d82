//! Events.

use k8s_openapi::api::core::v1 as core;
use serde_json::Value;

use super::cell::{self, or, text, text_at, wide};
use super::{Kind, builtin};

pub(super) fn kinds() -> Vec<Kind> {
    let mut event = builtin::stored::<core::Event>("event", &["ev"])
        .with_fields(&[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "type",
        ])
        .with_columns(Vec::new(), |_, _| Vec::new());
    // Unlike all other kinds, an event's name is not what one looks for first.
    event.columns = vec![
        text("Last Seen", "When the event was last seen."),
        text("Type", "Normal or Warning."),
        text("Reason", "The event in a word."),
        text("Object", "What the event is about."),
        wide("Subobject", "The part of the object."),
        wide("Source", "Who reports the event."),
        text("Message", "The event in a sentence."),
        wide("First Seen", "When the event was first seen."),
        wide("Count", "How often the event was seen."),
        Kind::name_column_wide(),
    ];
    event.row = std::sync::Arc::new(row);
    vec![event]
}

impl Kind {
    fn name_column_wide() -> super::Column {
        super::Column { priority: 1, ..cell::name_column() }
    }
}

fn row(event: &Value, now: i64) -> Vec<Value> {
    let time = |pointer: &str| text_at(event, pointer).to_owned();
    let first = or(&time("/firstTimestamp"), &time("/eventTime")).to_owned();
    let last = or(&time("/series/lastObservedTime"), or(&time("/lastTimestamp"), &first)).to_owned();
    let count = event.pointer("/series/count").or_else(|| event.get("count")).and_then(Value::as_i64).unwrap_or(1);
    let kind = text_at(event, "/involvedObject/kind").to_lowercase();
    let object = match text_at(event, "/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        cell::since(&last, now).into(),
        text_at(event, "/type").into(),
        text_at(event, "/reason").into(),
        object.into(),
        text_at(event, "/involvedObject/fieldPath").into(),
        source(event).into(),
        text_at(event, "/message").trim().into(),
        cell::since(&first, now).into(),
        count.into(),
        cell::name(event),
    ]
}

fn source(event: &Value) -> String {
    let component = or(text_at(event, "/source/component"), text_at(event, "/reportingComponent"));
    match or(text_at(event, "/source/host"), text_at(event, "/reportingInstance")) {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_about_an_object() {
        let event = json!({
            "type": "Warning", "reason": "Failed", "message": "no such image\n", "count": 3,
            "involvedObject": {"kind": "Pod", "name": "a"}, "source": {"component": "kubelet", "host": "c1"},
            "firstTimestamp": "2026-11-21T09:00:00Z", "lastTimestamp": "2026-11-21T09:59:00Z",
        });
        let cells = row(&event, cell::seconds("2026-11-21T10:00:00Z").unwrap());
        let expected = json!(["60s", "Warning", "Failed", "pod/a", "", "kubelet, c1", "no such image", "60m", 3, ""]);
        assert_eq!(Value::Array(cells), expected);
    }
}
