//! Sets of fields in the form in which Kubernetes stores them (`fieldsV1`), and their algebra.
//!
//! A set is a tree of path elements: `f:name` a field, `k:{"name":"x"}` an item of a list of objects, `v:"x"` an item of
//! a set. A node without children is in the set; one with children is if it has the child `.` too. The tree is kept as
//! JSON, so that reading it from an object and writing it back cost nothing.

use serde_json::{Map, Value};

/// A set of fields, or the part of one below a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FieldSet(Map<String, Value>);

/// Marks a node with children as a member.
const SELF: &str = ".";

/// The element of a field.
pub(super) fn field(name: &str) -> String {
    format!("f:{name}")
}

impl FieldSet {
    /// Reads a stored set; `None` if it is not one. Keys and values are brought into the form that this server writes.
    pub(super) fn read(stored: &Value) -> Option<FieldSet> {
        let mut set = Map::new();
        for (element, children) in stored.as_object()? {
            if element == SELF {
                continue;
            }
            let member = is_member(children);
            let node = node(member, FieldSet::read(children)?);
            set.insert(canonical(element)?, node);
        }
        Some(FieldSet(set))
    }

    pub(super) fn into_json(self) -> Value {
        Value::Object(self.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a node: `element` itself if `member`, and what is below it.
    pub(super) fn add(&mut self, element: &str, member: bool, children: FieldSet) {
        if member || !children.is_empty() {
            self.0.insert(element.to_owned(), node(member, children));
        }
    }

    /// A view of the whole set.
    pub(super) fn view(&self) -> View<'_> {
        View(&self.0)
    }

    /// Adds everything in `other`.
    pub(super) fn unite(&mut self, other: &FieldSet) {
        unite(&mut self.0, &other.0);
    }

    /// Removes the members of `other`; what is below a member stays unless it is a member itself.
    pub(super) fn subtract(&mut self, other: &FieldSet) {
        subtract(&mut self.0, &other.0);
    }

    /// The members of both.
    pub(super) fn intersection(&self, other: &FieldSet) -> FieldSet {
        FieldSet(intersection(&self.0, &other.0))
    }

    /// The members' paths as Kubernetes prints them (`.spec.containers[name="x"].image`), a node's own members first.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        print(&self.0, "", &mut paths);
        paths
    }
}

/// A borrowed part of a set.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a>(&'a Map<String, Value>);

impl<'a> View<'a> {
    /// Whether `element` itself is in the set.
    pub(super) fn has(self, element: &str) -> bool {
        self.0.get(element).is_some_and(is_member)
    }

    /// Whether `element` or anything below it is in the set.
    pub(super) fn touches(self, element: &str) -> bool {
        self.0.contains_key(element)
    }

    /// What is below `element`.
    pub(super) fn below(self, element: &str) -> Option<View<'a>> {
        self.0.get(element)?.as_object().map(View)
    }
}

fn is_member(node: &Value) -> bool {
    node.as_object().is_some_and(is_member_node)
}

fn is_member_node(node: &Map<String, Value>) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

fn node(member: bool, children: FieldSet) -> Value {
    let mut node = children.0;
    mark(&mut node, member);
    Value::Object(node)
}

/// The children of a node, without the mark of the node itself.
fn children(node: &Map<String, Value>) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
    node.iter().filter(|(element, _)| *element != SELF).filter_map(|(e, n)| Some((e, n.as_object()?)))
}

fn unite(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (element, theirs) in children(from) {
        match into.get_mut(element) {
            Some(Value::Object(ours)) => {
                let member = is_member_node(ours) || is_member_node(theirs);
                unite(ours, theirs);
                mark(ours, member);
            }
            _ => drop(into.insert(element.clone(), Value::Object(theirs.clone()))),
        }
    }
}

fn subtract(from: &mut Map<String, Value>, what: &Map<String, Value>) {
    for (element, theirs) in children(what) {
        let Some(Value::Object(ours)) = from.get_mut(element) else { continue };
        let member = is_member_node(ours) && !is_member_node(theirs);
        ours.remove(SELF);
        subtract(ours, theirs);
        if ours.is_empty() && !member {
            from.remove(element);
        } else {
            mark(ours, member);
        }
    }
}

fn intersection(a: &Map<String, Value>, b: &Map<String, Value>) -> Map<String, Value> {
    let mut common = FieldSet::default();
    for (element, ours) in children(a) {
        let Some(theirs) = b.get(element).and_then(Value::as_object) else { continue };
        let member = is_member_node(ours) && is_member_node(theirs);
        common.add(element, member, FieldSet(intersection(ours, theirs)));
    }
    common.0
}

/// Sets the mark of a node according to whether it is a member and has children.
fn mark(node: &mut Map<String, Value>, member: bool) {
    node.remove(SELF);
    if member && !node.is_empty() {
        node.insert(SELF.to_owned(), Value::Object(Map::new()));
    }
}

/// The one form of an element that Kubernetes writes: JSON without blanks, keys in order.
fn canonical(element: &str) -> Option<String> {
    let (kind, text) = element.split_once(':')?;
    match kind {
        "f" => Some(element.to_owned()),
        "k" => serde_json::from_str(text).ok().filter(Value::is_object).map(|key| format!("k:{key}")),
        "v" => serde_json::from_str::<Value>(text).ok().map(|value| format!("v:{value}")),
        "i" => text.parse().ok().map(|index: u32| format!("i:{index}")),
        _ => None,
    }
}

fn print(node: &Map<String, Value>, path: &str, paths: &mut Vec<String>) {
    let below: Vec<(String, &Map<String, Value>)> =
        children(node).map(|(element, node)| (format!("{path}{}", printed(element)), node)).collect();
    paths.extend(below.iter().filter(|(_, node)| is_member_node(node)).map(|(path, _)| path.clone()));
    for (path, node) in &below {
        print(node, path, paths);
    }
}

pub(super) fn printed(element: &str) -> String {
    let (kind, text) = element.split_once(':').unwrap_or(("f", element));
    match kind {
        "k" => {
            let key: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
            let pairs: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", pairs.join(","))
        }
        "v" => format!("[={text}]"),
        "i" => format!("[{text}]"),
        _ => format!(".{text}"),
    }
}

#[cfg(test)]
mod tests;
