//! The cells of tables, worded as `kubectl get` prints them.

use jiff::Timestamp;
use serde_json::Value;

use super::Column;

pub(super) const NONE: &str = "<none>";

/// A column of text.
pub(super) fn text(name: &str, description: &str) -> Column {
    column(name, "string", description, 0)
}

/// A column of whole numbers.
pub(super) fn integer(name: &str, description: &str) -> Column {
    column(name, "integer", description, 0)
}

/// A column of text that only `-o wide` shows.
pub(super) fn wide(name: &str, description: &str) -> Column {
    column(name, "string", description, 1)
}

pub(super) fn column(name: &str, kind: &str, description: &str, priority: i32) -> Column {
    let (name, kind, description) = (name.to_owned(), kind.to_owned(), description.to_owned());
    Column { name, kind, format: String::new(), description, priority }
}

/// The column of names, which comes first.
pub(super) fn name_column() -> Column {
    Column { format: "name".to_owned(), ..text("Name", "The name of the object, unique within its namespace.") }
}

pub(super) fn age_column() -> Column {
    text("Age", "How long ago the object was created.")
}

/// The text at a JSON pointer, empty where there is none.
pub(super) fn text_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a JSON pointer, 0 where there is none.
pub(super) fn number_at(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// The list at a JSON pointer, empty where there is none.
pub(super) fn list_at<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// How many entries the map or list at a JSON pointer has.
pub(super) fn count_at(object: &Value, pointer: &str) -> usize {
    match object.pointer(pointer) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    }
}

pub(super) fn name(object: &Value) -> Value {
    text_at(object, "/metadata/name").into()
}

/// `text`, or a substitute for the empty text.
pub(super) fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// The object's age.
pub(super) fn age(object: &Value, now: i64) -> Value {
    since(text_at(object, "/metadata/creationTimestamp"), now).into()
}

/// The seconds of an RFC 3339 time.
pub(super) fn seconds(time: &str) -> Option<i64> {
    time.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// How long ago an RFC 3339 time was.
pub(super) fn since(time: &str, now: i64) -> String {
    seconds(time).map_or_else(|| "<unknown>".to_owned(), |then| duration(now - then))
}

/// A duration in at most two units, the coarser the longer it is, as Kubernetes's `HumanDuration` prints it.
pub(super) fn duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |unit: i64, name: &str, finer: i64, finer_name: &str| match (seconds % unit) / finer {
        0 => format!("{}{name}", seconds / unit),
        rest => format!("{}{name}{rest}{finer_name}", seconds / unit),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(MINUTE, "m", 1, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(HOUR, "h", MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(DAY, "d", HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(YEAR, "y", DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// `a=b,c=d`, as plain selectors and labels are shown.
pub(super) fn labels(map: Option<&Value>) -> String {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    let mut pairs: Vec<String> = entries.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    pairs.sort();
    or(&pairs.join(","), NONE).to_owned()
}

/// A `LabelSelector` object in the notation of `kubectl -l`.
pub(super) fn selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector.filter(|s| !s.is_null()) else { return NONE.to_owned() };
    match api::LabelSelector::from_object(selector) {
        Ok(selector) => or(&selector.to_string(), NONE).to_owned(),
        Err(_) => "<error>".to_owned(),
    }
}

/// One field of every item of a list, with commas between.
pub(super) fn joined(list: &[Value], field: &str) -> String {
    let texts: Vec<&str> = list.iter().filter_map(|item| item.get(field).and_then(Value::as_str)).collect();
    texts.join(",")
}

/// The names and the images of a pod template's containers.
pub(super) fn containers(template: &str, object: &Value) -> [Value; 2] {
    let containers = list_at(object, &format!("{template}/spec/containers"));
    [joined(containers, "name").into(), joined(containers, "image").into()]
}

/// The first three entries and how many more there are.
pub(super) fn first_three(entries: &[String]) -> String {
    let shown = entries.get(..3).unwrap_or(entries).join(",");
    if entries.len() > 3 { format!("{shown} + {} more...", entries.len() - 3) } else { shown }
}

/// Whether the condition of this type is `True`.
pub(super) fn condition(object: &Value, kind: &str) -> bool {
    list_at(object, "/status/conditions").iter().any(|c| c["type"] == kind && c["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_coarse_as_kubectl_shows_them() {
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (248, "4m8s"),
            (600, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 120, "3h2m"),
            (9 * 3600 + 120, "9h"),
            (47 * 3600, "47h"),
            (51 * 3600, "2d3h"),
            (3 * 86_400, "3d"),
            (9 * 86_400 + 7200, "9d"),
            (800 * 86_400, "2y70d"),
            (3000 * 86_400, "8y"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }
}
