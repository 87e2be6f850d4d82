//! `metadata.managedFields`: who owns which fields, and how a write changes that.

use std::sync::LazyLock;

use api::GroupVersion;
use serde_json::{Map, Value, json};

use super::Manager;
use super::fields::FieldSet;
use super::ownership::compare;
use crate::schema::Schema;

/// How many entries of updates an object keeps; older ones are merged into [`OLD_UPDATES`].
const MAX_UPDATERS: usize = 10;
const OLD_UPDATES: &str = "ancient-changes";

/// How a manager came to own its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// The fields of one manager.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: String,
    pub(super) fields: FieldSet,
}

impl Entry {
    pub(super) fn new(manager: &Manager<'_>, operation: Operation, fields: FieldSet) -> Entry {
        Entry {
            manager: manager.name.to_owned(),
            operation,
            api_version: manager.api_version.to_owned(),
            subresource: manager.subresource.to_owned(),
            time: manager.now.to_owned(),
            fields,
        }
    }

    /// Whether this is the entry of a manager. Appliers keep theirs when they go to another version.
    pub(super) fn is_of(&self, manager: &Manager<'_>, operation: Operation) -> bool {
        self.manager == manager.name
            && self.operation == operation
            && self.subresource == manager.subresource
            && (operation == Operation::Apply || self.api_version == manager.api_version)
    }

    fn read(stored: &Value) -> Option<Entry> {
        let text = |name: &str| stored[name].as_str().unwrap_or_default().to_owned();
        let operation = match stored["operation"].as_str()? {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if stored["fieldsType"] != "FieldsV1" {
            return None;
        }
        Some(Entry {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields: FieldSet::read(stored.get("fieldsV1").unwrap_or(&Value::Object(Map::new())))?,
        })
    }

    fn into_json(self) -> Value {
        let mut entry = json!({
            "manager": self.manager, "operation": self.operation.as_str(), "apiVersion": self.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": self.fields.into_json(),
        });
        for (name, value) in [("subresource", self.subresource), ("time", self.time)] {
            if !value.is_empty() {
                entry[name] = value.into();
            }
        }
        entry
    }

    /// As it is named in a conflict: `"kubectl-edit" using apps/v1`; appliers without a version.
    pub(super) fn title(&self) -> String {
        let mut title = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            title = format!("{title} with subresource {:?}", self.subresource);
        }
        match self.operation {
            Operation::Update => format!("{title} using {}", self.api_version),
            Operation::Apply => title,
        }
    }
}

/// The entries of an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Entries(pub(super) Vec<Entry>);

impl Entries {
    /// The entries that an object has; none if they cannot be read.
    pub(super) fn of(object: &Value) -> Entries {
        Entries::read(&object["metadata"]["managedFields"]).unwrap_or_default()
    }

    fn read(list: &Value) -> Option<Entries> {
        let mut entries = Entries::default();
        for stored in list.as_array()? {
            let entry = Entry::read(stored)?;
            if !entry.fields.is_empty() {
                entries.0.push(entry);
            }
        }
        Some(entries)
    }

    /// Takes fields from everybody: those that `changed` and those that were `removed`.
    pub(super) fn release(&mut self, changed: &FieldSet, removed: &FieldSet) {
        for entry in &mut self.0 {
            entry.fields.subtract(changed);
            entry.fields.subtract(removed);
        }
        self.0.retain(|entry| !entry.fields.is_empty());
    }

    /// Gives fields to a manager, at its time; nothing happens if there are none.
    pub(super) fn grant(&mut self, manager: &Manager<'_>, fields: FieldSet) {
        if fields.is_empty() {
            return;
        }
        match self.0.iter_mut().find(|e| e.is_of(manager, Operation::Update)) {
            Some(entry) => {
                entry.fields.unite(&fields);
                manager.now.clone_into(&mut entry.time);
            }
            None => self.0.push(Entry::new(manager, Operation::Update, fields)),
        }
        self.merge_oldest();
    }

    /// Keeps the number of updaters bounded by merging the oldest of each version.
    fn merge_oldest(&mut self) {
        let updaters = self.0.iter().filter(|e| e.operation == Operation::Update).count();
        let Some(mut excess) = updaters.checked_sub(MAX_UPDATERS).filter(|n| *n > 0) else { return };
        self.sort();
        let mut kept: Vec<Entry> = Vec::new();
        for entry in std::mem::take(&mut self.0) {
            let mut updaters = kept.iter_mut().filter(|k| k.operation == Operation::Update);
            let same_version =
                updaters.find(|k| entry.operation == Operation::Update && k.api_version == entry.api_version);
            match same_version.filter(|_| excess > 0) {
                Some(bucket) => {
                    bucket.fields.unite(&entry.fields);
                    OLD_UPDATES.clone_into(&mut bucket.manager);
                    bucket.subresource.clear();
                    bucket.time = entry.time;
                    excess -= 1;
                }
                None => kept.push(entry),
            }
        }
        self.0 = kept;
    }

    /// The order in which Kubernetes lists entries.
    fn sort(&mut self) {
        self.0.sort_by(|a, b| {
            (a.operation.cmp(&b.operation))
                .then_with(|| a.time.cmp(&b.time))
                .then_with(|| a.manager.cmp(&b.manager))
                .then_with(|| a.api_version.cmp(&b.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
    }

    /// Puts the entries into an object; without any, the field is absent.
    pub(super) fn write(mut self, object: &mut Value) {
        self.sort();
        let list: Vec<Value> = self.0.into_iter().map(Entry::into_json).collect();
        let Some(metadata) = metadata(object) else { return };
        if list.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".to_owned(), list.into());
        }
    }
}

fn metadata(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let object = object.as_object_mut()?;
    object.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
}

/// Fields that nobody owns.
pub(super) fn unowned() -> &'static FieldSet {
    static UNOWNED: LazyLock<FieldSet> = LazyLock::new(|| {
        let stored = json!({ "f:apiVersion": {}, "f:kind": {}, "f:metadata": {
            ".": {}, "f:name": {}, "f:namespace": {}, "f:creationTimestamp": {}, "f:selfLink": {}, "f:uid": {},
            "f:clusterName": {}, "f:generation": {}, "f:managedFields": {}, "f:resourceVersion": {} } });
        FieldSet::read(&stored).expect("the literal is a set")
    });
    &UNOWNED
}

/// What an object of a kind is before it is created, to compare the new one with. In Kubernetes that of a built-in kind
/// has the objects that its Go type embeds, so that creating it claims their fields, but not the objects themselves.
pub(super) fn blank(api_version: &str) -> &'static Value {
    static NOTHING: Value = Value::Null;
    static EMBEDDED: LazyLock<Value> = LazyLock::new(|| {
        let template = json!({ "metadata": {}, "spec": { "containers": null } });
        json!({ "metadata": {}, "status": { "loadBalancer": {} }, "spec": {
            "containers": null, "template": template, "strategy": {}, "resources": {}, "scaleTargetRef": {},
            "jobTemplate": { "metadata": {}, "spec": { "template": template } } } })
    });
    let group = GroupVersion::parse(api_version).group;
    if group.contains('.') && !group.ends_with(".k8s.io") { &NOTHING } else { &EMBEDDED }
}

/// Records in `new.metadata.managedFields` what a create, replace or patch other than apply changed.
///
/// Fields with a new value move to the manager, fields that are gone vanish from everybody, and a write that changes
/// nothing leaves the entries and their times alone. A client may send other entries than the live object's, except to a
/// subresource; one empty entry clears them, after which updates are not tracked until somebody applies.
pub(crate) fn track(live: Option<&Value>, new: &mut Value, schema: &Schema, manager: &Manager<'_>) {
    let sent = metadata(new).and_then(|m| m.remove("managedFields")).unwrap_or_default();
    let mut entries = match live {
        Some(live) if !manager.subresource.is_empty() => Entries::of(live),
        _ if is_reset(&sent) => Entries::default(),
        _ => match (Entries::read(&sent).filter(|e| !e.0.is_empty()), live) {
            (Some(entries), _) => entries,
            (None, Some(live)) => Entries::of(live),
            (None, None) => Entries::default(),
        },
    };
    if live.is_some() && entries.0.is_empty() {
        return;
    }
    let before = live.unwrap_or_else(|| blank(manager.api_version));
    record(before, new, schema, manager, &mut entries);
    entries.write(new);
}

/// Moves the fields that differ between two objects to a manager.
pub(super) fn record(before: &Value, after: &Value, schema: &Schema, manager: &Manager<'_>, entries: &mut Entries) {
    let mut changes = compare(before, after, schema);
    changes.changed.subtract(unowned());
    entries.release(&changes.changed, &changes.removed);
    entries.grant(manager, changes.changed);
}

/// `[{}]` asks for the entries to be forgotten.
fn is_reset(sent: &Value) -> bool {
    matches!(sent.as_array().map(Vec::as_slice), Some([Value::Object(one)]) if one.is_empty())
}

#[cfg(test)]
pub(super) mod tests;
