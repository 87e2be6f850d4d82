//! The JSONPath dialect of Kubernetes, as printer columns use it: `.status.conditions[?(@.type=="Ready")].status`.

use std::cmp::Ordering;

use serde_json::Value;

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// Every value of a list or an object.
    Every,
    /// A field of this name at any depth.
    Descend(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    Filter(Filter),
    Union(Vec<Step>),
}

/// `[?(@.path op literal)]`; without an operator, whether the path leads anywhere.
#[derive(Debug, Clone, PartialEq)]
struct Filter {
    path: JsonPath,
    test: Option<(String, Value)>,
}

impl JsonPath {
    /// Reads a path, with or without the braces that kubectl writes around it.
    pub(crate) fn parse(text: &str) -> Result<JsonPath, String> {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        let mut rest = text.strip_prefix(['$', '@']).unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, tail) = step(rest)?;
            steps.extend(step);
            rest = tail;
        }
        Ok(JsonPath(steps))
    }

    /// The first value that the path leads to.
    pub(crate) fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.find(value).into_iter().next()
    }

    fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        self.0.iter().fold(vec![value], |values, step| values.into_iter().flat_map(|v| step.apply(v)).collect())
    }
}

/// Reads one step, and gives what follows it.
fn step(text: &str) -> Result<(Option<Step>, &str), String> {
    if let Some(rest) = text.strip_prefix("..") {
        let (name, rest) = field_name(rest);
        return Ok((Some(Step::Descend(name)), rest));
    }
    if let Some(rest) = text.strip_prefix('.') {
        let (name, rest) = field_name(rest);
        let step = match name.as_str() {
            // A dot alone stands for the object itself, before a bracket or at the end.
            "" => None,
            "*" => Some(Step::Every),
            _ => Some(Step::Field(name)),
        };
        return Ok((step, rest));
    }
    let inner = text.strip_prefix('[').ok_or_else(|| format!("unrecognized character in action at {text:?}"))?;
    let end = closing_bracket(inner).ok_or_else(|| "unterminated array".to_owned())?;
    let (inside, rest) = inner.split_at(end);
    Ok((Some(bracket(inside.trim())?), rest.get(1..).unwrap_or_default()))
}

/// A name up to the next dot or bracket; a backslash takes the next character as it is.
fn field_name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '.' | '[' => return (name, text.get(at..).unwrap_or_default()),
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            other => name.push(other),
        }
    }
    (name, "")
}

/// Where the bracket that was opened before `text` closes, outside quotes and inner brackets.
fn closing_bracket(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn bracket(inside: &str) -> Result<Step, String> {
    if let Some(filter) = inside.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
        return filter_step(filter);
    }
    if let Some(name) = unquoted(inside).filter(|name| !name.contains(['"', '\''])) {
        return Ok(Step::Field(name.to_owned()));
    }
    if inside == "*" {
        return Ok(Step::Every);
    }
    if inside.contains(',') {
        return inside.split(',').map(|part| bracket(part.trim())).collect::<Result<_, _>>().map(Step::Union);
    }
    let number = |text: &str| match text.trim() {
        "" => Ok(None),
        digits => digits.parse::<i64>().map(Some).map_err(|_| format!("invalid array index {inside}")),
    };
    match inside.split_once(':') {
        Some((from, to)) => Ok(Step::Slice(number(from)?, number(to)?)),
        None => number(inside)?.map(Step::Index).ok_or_else(|| "empty array index".to_owned()),
    }
}

fn unquoted(text: &str) -> Option<&str> {
    ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

fn filter_step(text: &str) -> Result<Step, String> {
    for operator in ["==", "!=", "<=", ">=", "<", ">"] {
        let Some((path, literal)) = split_outside_quotes(text, operator) else { continue };
        let literal = literal.trim();
        let value = match unquoted(literal) {
            Some(text) => text.into(),
            None => serde_json::from_str(literal).map_err(|_| format!("unrecognized literal {literal}"))?,
        };
        let path = JsonPath::parse(path)?;
        return Ok(Step::Filter(Filter { path, test: Some((operator.to_owned(), value)) }));
    }
    Ok(Step::Filter(Filter { path: JsonPath::parse(text)?, test: None }))
}

fn split_outside_quotes<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let (left, right) = text.split_once(separator)?;
    let quotes = left.chars().filter(|c| matches!(c, '"' | '\'')).count();
    (quotes % 2 == 0).then_some((left, right))
}

impl Step {
    fn apply<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Step::Field(name) => value.get(name).into_iter().collect(),
            Step::Every => children(value),
            Step::Descend(name) => descend(value, name),
            Step::Index(index) => item(value, *index).into_iter().collect(),
            Step::Slice(from, to) => slice(value, *from, *to),
            Step::Filter(filter) => children(value).into_iter().filter(|child| filter.holds(child)).collect(),
            Step::Union(steps) => steps.iter().flat_map(|step| step.apply(value)).collect(),
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn descend<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    let here = value.get(name).into_iter();
    here.chain(children(value).into_iter().flat_map(|child| descend(child, name))).collect()
}

/// The position that a possibly negative index means.
fn position(index: i64, length: usize) -> Option<usize> {
    let from_end = if index < 0 { i64::try_from(length).ok()? + index } else { index };
    usize::try_from(from_end).ok()
}

fn item(value: &Value, index: i64) -> Option<&Value> {
    let list = value.as_array()?;
    list.get(position(index, list.len())?)
}

fn slice(value: &Value, from: Option<i64>, to: Option<i64>) -> Vec<&Value> {
    let Some(list) = value.as_array() else { return Vec::new() };
    let bound = |index: Option<i64>, otherwise| index.map_or(otherwise, |i| position(i, list.len()).unwrap_or(0));
    let (from, to) = (bound(from, 0), bound(to, list.len()).min(list.len()));
    list.get(from..to).unwrap_or_default().iter().collect()
}

impl Filter {
    fn holds(&self, value: &Value) -> bool {
        let found = self.path.first(value);
        let Some((operator, wanted)) = &self.test else { return found.is_some() };
        let Some(found) = found else { return false };
        let ordering = compare(found, wanted);
        match operator.as_str() {
            "==" => ordering == Some(Ordering::Equal),
            "!=" => ordering != Some(Ordering::Equal),
            "<" => ordering == Some(Ordering::Less),
            ">" => ordering == Some(Ordering::Greater),
            "<=" => ordering.is_some_and(Ordering::is_le),
            _ => ordering.is_some_and(Ordering::is_ge),
        }
    }
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_where_kubectl_expects() {
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "dotted"}},
            "spec": {"hosts": ["one", "two", "three"], "replicas": 2},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Synced", "status": "False"}]},
        });
        for (path, expected) in [
            (".spec.replicas", json!(2)),
            ("{.spec.replicas}", json!(2)),
            (".spec['replicas']", json!(2)),
            (".spec.hosts[0]", json!("one")),
            (".spec.hosts[-1]", json!("three")),
            (".spec.hosts[1:]", json!("two")),
            (".spec.hosts[*]", json!("one")),
            (".spec.hosts", json!(["one", "two", "three"])),
            (".status.conditions[?(@.type==\"Synced\")].status", json!("False")),
            (".status.conditions[?(@.type == 'Ready')].status", json!("True")),
            (".status.conditions[?(@.type != 'Ready')].type", json!("Synced")),
            (".metadata.annotations.a\\.b/c", json!("dotted")),
            (".metadata.annotations['a.b/c']", json!("dotted")),
            ("..replicas", json!(2)),
        ] {
            assert_eq!(JsonPath::parse(path).unwrap().first(&object), Some(&expected), "{path}");
        }
        assert_eq!(JsonPath::parse(".spec.missing[3].x").unwrap().first(&object), None);
    }

    #[test]
    fn malformed_paths_are_refused() {
        for path in ["spec", ".a[", ".a[x]", ".a[]", ".a[?(@.b==c)]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
