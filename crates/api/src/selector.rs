//! Label and field selectors, as they come in query strings and in objects.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// One requirement of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        match self {
            Requirement::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        }
    }
}

/// A conjunction of requirements on labels; the empty selector matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

/// A selector that does not parse, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse requirement: {0}")]
pub struct SelectorError(String);

impl LabelSelector {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        let parts = split_outside_parentheses(text);
        let parts = parts.into_iter().map(str::trim).filter(|p| !p.is_empty());
        parts.map(parse_requirement).collect::<Result<_, _>>().map(LabelSelector)
    }

    /// Reads the `matchLabels` and `matchExpressions` of an object's selector.
    pub fn from_object(selector: &Value) -> Result<LabelSelector, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement::In(key.clone(), vec![value]));
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            requirements.push(expression_requirement(expression)?);
        }
        Ok(LabelSelector(requirements))
    }

    /// A selector that asks for exactly these labels.
    pub fn from_labels(labels: &Labels) -> LabelSelector {
        LabelSelector(labels.iter().map(|(k, v)| Requirement::In(k.clone(), vec![v.clone()])).collect())
    }

    /// Whether every requirement holds.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|r| r.matches(labels))
    }

    /// Whether the selector asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match requirement {
                Requirement::In(key, values) if values.len() == 1 => write!(f, "{comma}{key}={}", values[0])?,
                Requirement::In(key, values) => write!(f, "{comma}{key} in ({})", values.join(","))?,
                Requirement::NotIn(key, values) if values.len() == 1 => write!(f, "{comma}{key}!={}", values[0])?,
                Requirement::NotIn(key, values) => write!(f, "{comma}{key} notin ({})", values.join(","))?,
                Requirement::Exists(key) => write!(f, "{comma}{key}")?,
                Requirement::Absent(key) => write!(f, "{comma}!{key}")?,
            }
        }
        Ok(())
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_requirement(text: &str) -> Result<Requirement, SelectorError> {
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Requirement::Absent(key_of(key)?));
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(key_of(key)?, vec![value_of(value)?]));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(key_of(key)?, vec![value_of(value)?]));
    }
    let mut words = text.splitn(2, char::is_whitespace);
    let key = words.next().unwrap_or_default();
    let Some(rest) = words.next().map(str::trim) else { return Ok(Requirement::Exists(key_of(key)?)) };
    if let Some(values) = rest.strip_prefix("notin") {
        return Ok(Requirement::NotIn(key_of(key)?, values_of(values)?));
    }
    match rest.strip_prefix("in") {
        Some(values) => Ok(Requirement::In(key_of(key)?, values_of(values)?)),
        None => Err(SelectorError(format!("found '{rest}', expected: in, notin, =, ==, !="))),
    }
}

fn key_of(text: &str) -> Result<String, SelectorError> {
    let key = text.trim();
    crate::name::check_qualified(key).map_err(|e| SelectorError(format!("<nil>: Invalid value: {key:?}: {e}")))?;
    Ok(key.to_owned())
}

fn value_of(text: &str) -> Result<String, SelectorError> {
    let value = text.trim();
    crate::name::check_label_value(value).map_err(|e| SelectorError(format!("Invalid value: {value:?}: {e}")))?;
    Ok(value.to_owned())
}

fn values_of(text: &str) -> Result<Vec<String>, SelectorError> {
    let inner = text.trim().strip_prefix('(').and_then(|t| t.strip_suffix(')'));
    let inner = inner.ok_or_else(|| SelectorError(format!("found '{text}', expected: '('")))?;
    inner.split(',').map(value_of).collect()
}

fn expression_requirement(expression: &Value) -> Result<Requirement, SelectorError> {
    let key = expression["key"].as_str().unwrap_or_default().to_owned();
    let values = expression["values"].as_array().into_iter().flatten();
    let values: Vec<String> = values.filter_map(|v| v.as_str().map(str::to_owned)).collect();
    match expression["operator"].as_str() {
        Some("In") => Ok(Requirement::In(key, values)),
        Some("NotIn") => Ok(Requirement::NotIn(key, values)),
        Some("Exists") => Ok(Requirement::Exists(key)),
        Some("DoesNotExist") => Ok(Requirement::Absent(key)),
        other => Err(SelectorError(format!("{:?} is not a valid label selector operator", other.unwrap_or_default()))),
    }
}

/// A conjunction of `path=value` and `path!=value` on an object's fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<FieldRequirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldRequirement {
    path: String,
    value: String,
    equal: bool,
}

impl FieldSelector {
    /// Reads `metadata.name=x,status.phase!=Running`.
    pub fn parse(text: &str) -> Result<FieldSelector, SelectorError> {
        let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        parts.map(parse_field).collect::<Result<_, _>>().map(FieldSelector)
    }

    /// The paths that the selector reads.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|r| r.path.as_str())
    }

    /// The value that `path` must equal, if the selector pins it.
    pub fn exact(&self, path: &str) -> Option<&str> {
        self.0.iter().find(|r| r.equal && r.path == path).map(|r| r.value.as_str())
    }

    /// Whether `object` has all the fields asked for; an absent field reads as the empty string.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|r| (field(object, &r.path) == r.value) == r.equal)
    }

    /// Whether the selector asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse_field(text: &str) -> Result<FieldRequirement, SelectorError> {
    let (equal, pair) = match text.split_once("!=") {
        Some(pair) => (false, Some(pair)),
        None => (true, text.split_once("==").or_else(|| text.split_once('='))),
    };
    let (path, value) = pair.ok_or_else(|| SelectorError(format!("invalid field selector: {text:?}")))?;
    Ok(FieldRequirement { path: path.to_owned(), value: value.to_owned(), equal })
}

fn field(object: &Value, path: &str) -> String {
    match path.split('.').try_fold(object, |v, key| v.get(key)) {
        Some(Value::String(s)) => s.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn every_operator_of_a_label_selector_is_understood() {
        let reviews = labels(&[("app", "reviews"), ("version", "v3")]);
        for (text, expected) in [
            ("app=reviews,version=v3", true),
            ("app==reviews", true),
            ("app!=ratings,app!=reviews", false),
            ("app,version notin (v3)", false),
            ("version in (v1, v3)", true),
            ("account", false),
            ("!account", true),
            ("", true),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&reviews), expected, "{text}");
        }
        assert!(LabelSelector::parse("app like x").is_err());
        assert!(LabelSelector::parse("a$b=c").is_err());
    }

    #[test]
    fn a_selector_prints_as_it_is_written() {
        let text = "app=a,b!=c,d in (e,f),g,!h";
        assert_eq!(LabelSelector::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn fields_are_compared_as_text_and_absent_ones_are_empty() {
        let pod = json!({"metadata": {"name": "a"}, "spec": {"replicas": 2}});
        assert!(FieldSelector::parse("metadata.name=a,spec.replicas=2,spec.nodeName=").unwrap().matches(&pod));
        assert!(!FieldSelector::parse("metadata.name!=a").unwrap().matches(&pod));
    }
}
