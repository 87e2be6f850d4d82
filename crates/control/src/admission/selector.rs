//! Label selectors within objects.

use api::{Cause, LabelSelector, name};
use serde_json::Value;

use super::field::Field;
use crate::labels;

/// Checks the structure of a selector.
pub(super) fn check(selector: &Field<'_>, causes: &mut Vec<Cause>) {
    for (key, value) in selector.get("matchLabels").entries() {
        if let Err(why) = name::check_qualified(key).and_then(|()| name::check_label_value(value.str())) {
            causes.push(selector.get("matchLabels").invalid(why));
        }
    }
    for expression in selector.get("matchExpressions").items() {
        causes.extend(expression.get("key").named(name::check_qualified));
        let values = expression.get("values");
        let some = values.items().next().is_some();
        match expression.get("operator").str() {
            "In" | "NotIn" if !some => {
                causes.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if some => {
                causes.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => causes.push(expression.get("operator").invalid("not a valid selector operator")),
        }
    }
}

/// Checks the selector of a workload of `kind`: it must be there, ask for something, and select its own pods.
pub(super) fn check_workload(spec: &Field<'_>, kind: &str, causes: &mut Vec<Cause>) {
    let selector = spec.get("selector");
    if selector.value.is_null() {
        causes.push(selector.required(""));
        return;
    }
    check(&selector, causes);
    let labels_field = spec.get("template").get("metadata").get("labels");
    match LabelSelector::from_object(selector.value) {
        Ok(parsed) if parsed.is_empty() => {
            causes.push(selector.invalid(format!("empty selector is invalid for {kind}")));
        }
        Ok(parsed) if !parsed.matches(&labels::of_value(labels_field.value)) => {
            let labels = Field { path: labels_field.path, value: non_null(labels_field.value) };
            causes.push(labels.invalid("`selector` does not match template `labels`"));
        }
        Ok(_) | Err(_) => {}
    }
}

fn non_null(value: &Value) -> &Value {
    static EMPTY: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| serde_json::json!({}));
    if value.is_null() { &EMPTY } else { value }
}
