//! What is wrong with an object.

use std::fmt::Display;

use serde_json::Value;

/// An object under review.
pub(super) struct Subject<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) spec: &'a Value,
}

/// What was found in it.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Findings {
    pub(super) fn refuse(&mut self, why: impl Display) {
        self.errors.push(why.to_string());
    }

    /// Refuses if `wrong`.
    pub(super) fn refuse_if(&mut self, wrong: bool, why: impl Display) {
        if wrong {
            self.refuse(why);
        }
    }

    pub(super) fn warn_if(&mut self, doubtful: bool, why: impl Display) {
        if doubtful {
            self.warnings.push(why.to_string());
        }
    }

    /// Takes the outcome of a check of one value.
    pub(super) fn check(&mut self, result: Result<(), String>) {
        self.errors.extend(result.err());
    }

    /// The errors as Istio lists them; nothing if there are none.
    pub(super) fn verdict(&self) -> Option<String> {
        match self.errors.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            all => {
                let list: String = all.iter().map(|error| format!("\n\t* {error}")).collect();
                Some(format!("{} errors occurred:{list}\n\n", all.len()))
            }
        }
    }
}

/// The items of a list; of anything else none.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The text in a list.
pub(super) fn texts(value: &Value) -> impl Iterator<Item = &str> {
    items(value).iter().filter_map(Value::as_str)
}

/// A text; empty if there is none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether something was written that says something.
pub(super) fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

/// Whether none of the fields says anything.
pub(super) fn none_set(object: &Value, fields: &[&str]) -> bool {
    fields.iter().all(|field| !is_set(&object[*field]))
}

/// For which workloads a policy is: by a selector, or by objects, but not by both.
pub(super) fn check_scope(spec: &Value, findings: &mut Findings) {
    let targets = ["selector", "targetRef", "targetRefs"].iter().filter(|field| is_set(&spec[**field])).count();
    findings.refuse_if(targets > 1, "only one of targetRefs or workloadSelector can be set");
    let labels = &spec["selector"]["matchLabels"];
    let selects = labels.as_object().is_some_and(|labels| !labels.is_empty());
    findings.warn_if(spec["selector"].is_object() && !selects, "workload selector specified without labels");
    check_selector(labels, findings);
}

/// The labels of a selector must be there, and be labels.
pub(super) fn check_selector(labels: &Value, findings: &mut Findings) {
    let pairs = labels.as_object().into_iter().flatten();
    for (key, value) in pairs {
        let pair = format!("{key}={}", text(value));
        findings.refuse_if(key.is_empty(), format_args!("empty key is not supported in selector: {pair:?}"));
        findings.refuse_if(pair.contains('*'), format_args!("wildcard is not supported in selector: {pair:?}"));
    }
}
