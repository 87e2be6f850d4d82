//! What was sent, beside what is held.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use similar::TextDiff;

use crate::proxy_config::{Dump, Part, text as text_of};

/// The parts that are compared, by their names in headings. Of endpoints a proxy keeps more than it is told.
const PARTS: [(Part, &str); 3] =
    [(Part::Clusters, "Clusters"), (Part::Listeners, "Listeners"), (Part::Routes, "Routes")];

/// How many equal lines are shown around those that differ, as istioctl does.
const CONTEXT: usize = 7;

/// How both sides differ in a part.
#[derive(Debug)]
pub(super) struct Difference {
    part: &'static str,
    /// What differs, by name: as it was sent, and as it is held.
    resources: BTreeMap<String, (Option<Value>, Option<Value>)>,
}

impl Difference {
    /// Whether they do not differ.
    pub(super) fn is_none(&self) -> bool {
        self.resources.is_empty()
    }
}

/// What was sent and is not held, and what is held and was not sent. Tables of routes that no listener names are not asked
/// for, and not sent.
pub(super) fn between(sent: &Dump, held: &Dump) -> Vec<Difference> {
    let named: Vec<&str> = sent.sent(Part::Listeners).flat_map(tables).collect();
    let difference = |(part, name): &(Part, &'static str)| {
        let mut resources: BTreeMap<String, (Option<Value>, Option<Value>)> = BTreeMap::new();
        for value in sent.sent(*part).filter(|value| *part != Part::Routes || named.contains(&name_of(value))) {
            resources.entry(name_of(value).to_owned()).or_default().0 = Some(value.clone());
        }
        for value in held.sent(*part) {
            resources.entry(name_of(value).to_owned()).or_default().1 = Some(value.clone());
        }
        resources.retain(|_, (sent, held)| sent != held);
        Difference { part: name, resources }
    };
    PARTS.iter().map(difference).collect()
}

fn name_of(value: &Value) -> &str {
    text_of(&value["name"])
}

/// The names of the tables that a listener's connections are routed by.
fn tables(listener: &Value) -> Vec<&str> {
    match listener {
        Value::Object(fields) => {
            let own = fields.get("route_config_name").and_then(Value::as_str);
            own.into_iter().chain(fields.values().flat_map(tables)).collect()
        }
        Value::Array(items) => items.iter().flat_map(tables).collect(),
        _ => Vec::new(),
    }
}

/// As istioctl shows it.
pub(super) fn text(differences: &[Difference]) -> String {
    let mut text = String::new();
    for Difference { part, resources } in differences {
        if resources.is_empty() {
            text.push_str(&format!("{part} Match\n"));
            continue;
        }
        let (sent, held) =
            (all(resources.values().map(|(sent, _)| sent)), all(resources.values().map(|(_, held)| held)));
        let lines = TextDiff::from_lines(&sent, &held);
        let mut lines = lines.unified_diff();
        let lines = lines.context_radius(CONTEXT).header(&format!("Istiod {part}"), &format!("Envoy {part}"));
        text.push_str(&format!("{part} Don't Match\n{lines}\n"));
    }
    text
}

fn all<'a>(values: impl Iterator<Item = &'a Option<Value>>) -> String {
    values.flatten().map(|value| format!("{value:#}\n")).collect()
}

/// The same for programs.
pub(super) fn document(differences: &[Difference]) -> Value {
    let part = |Difference { part, resources }: &Difference| {
        let different =
            resources.iter().map(|(name, (sent, held))| json!({ "name": name, "sent": sent, "held": held }));
        (part.to_lowercase(), json!({ "match": resources.is_empty(), "different": different.collect::<Vec<Value>>() }))
    };
    differences.iter().map(part).collect()
}
