//! Labels and selectors of objects, typed and not.

use api::LabelSelector;
use api::selector::Labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::Value;

/// The labels in a JSON map; what is not text is left out.
pub(crate) fn of_value(value: &Value) -> Labels {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// A selector in its parsed form. One that does not parse cannot be stored, so it selects nothing.
pub(crate) fn selector(selector: &meta::LabelSelector) -> Option<LabelSelector> {
    let value = serde_json::to_value(selector).ok()?;
    LabelSelector::from_object(&value).ok().filter(|s| !s.is_empty())
}

/// Whether `selector` selects an object with this metadata.
pub(crate) fn selects(selector: &LabelSelector, metadata: &meta::ObjectMeta) -> bool {
    static NONE: Labels = Labels::new();
    selector.matches(metadata.labels.as_ref().unwrap_or(&NONE))
}
