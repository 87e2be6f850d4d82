//! Events, which two groups serve in two forms: those of the core group are stored.

use std::sync::Arc;

use api::GroupVersion;
use k8s_openapi::api::{core::v1 as core, events::v1 as events};
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
    event.row = Arc::new(row);
    let modern = builtin::stored::<events::Event>("event", &["ev"]);
    let modern = Kind {
        storage_version: GroupVersion::parse("v1"),
        conversion: Some((to_core, from_core)),
        selectable_fields: event.selectable_fields.clone(),
        columns: event.columns.clone(),
        row: Arc::new(|event, now| {
            let mut event = event.clone();
            to_core(&mut event);
            row(&event, now)
        }),
        ..modern
    };
    vec![event, modern]
}

/// What the fields are called in the core group and in `events.k8s.io`.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn to_core(event: &mut Value) {
    rename(event, RENAMED.iter().map(|(core, modern)| (*modern, *core)));
}

fn from_core(event: &mut Value) {
    rename(event, RENAMED.iter().copied());
}

fn rename<'a>(event: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(fields) = event.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
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

    #[test]
    fn both_forms_of_an_event_hold_the_same() {
        let modern = json!({"regarding": {"kind": "Pod"}, "note": "x", "reason": "Y", "reportingController": "z"});
        let mut event = modern.clone();
        to_core(&mut event);
        let core = json!({"involvedObject": {"kind": "Pod"}, "message": "x", "reason": "Y", "reportingComponent": "z"});
        assert_eq!(event, core);
        from_core(&mut event);
        assert_eq!(event, modern);
    }
}
