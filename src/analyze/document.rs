//! Manifests, and where in them each field is.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{Location, Spanned};

/// Kinds that have no namespace.
const CLUSTER_SCOPED: [&str; 11] = [
    "ClusterRbacConfig",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "MeshPolicy",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "RbacConfig",
    "StorageClass",
];

/// The files that were named, and those in the directories that were.
pub(super) struct Files(Vec<File>);

struct File {
    name: String,
    text: String,
    /// Whether it was named itself. What is found in a directory need not be a manifest.
    named: bool,
}

/// What files hold.
pub(super) struct Contents {
    pub(super) documents: Vec<Document>,
    /// Which files of directories were left out, and why, in sentences.
    pub(super) skipped: Vec<String>,
}

/// An object with its place.
pub(super) struct Document {
    pub(super) value: Value,
    /// The name of the file.
    pub(super) file: String,
    tree: Tree,
}

/// A place in a file: line and column, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Files {
    /// Reads files; of directories, those that hold YAML or JSON by their names.
    pub(super) fn read(paths: &[PathBuf], recursive: bool) -> anyhow::Result<Files> {
        let mut files = Vec::new();
        for path in paths {
            if path == Path::new("-") {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
                files.push(File { name: "-".to_owned(), text, named: true });
            } else {
                collect(path, recursive, true, &mut files)?;
            }
        }
        Ok(Files(files))
    }

    /// The objects in them. Those that name no namespace and need one are of `namespace`. A file that was named must hold
    /// nothing else; one that was found is left out if it does.
    pub(super) fn contents(&self, namespace: &str) -> anyhow::Result<Contents> {
        let mut contents = Contents { documents: Vec::new(), skipped: Vec::new() };
        for file in &self.0 {
            match file.documents(namespace) {
                Ok(documents) => contents.documents.extend(documents),
                Err(error) if file.named => return Err(error),
                Err(error) => contents.skipped.push(format!("{error:#}")),
            }
        }
        Ok(contents)
    }

    /// A line of a file.
    pub(super) fn line(&self, file: &str, number: usize) -> Option<&str> {
        let file = self.0.iter().find(|known| known.name == file)?;
        file.text.lines().nth(number.checked_sub(1)?)
    }
}

impl File {
    fn documents(&self, namespace: &str) -> anyhow::Result<Vec<Document>> {
        let trees: Vec<Node> =
            serde_saphyr::from_multiple(&self.text).with_context(|| format!("{} is no manifest", self.name))?;
        let mut documents = Vec::new();
        for tree in trees {
            add(Tree { place: None, node: tree }, &self.name, namespace, &mut documents)?;
        }
        Ok(documents)
    }
}

fn collect(path: &Path, recursive: bool, named: bool, files: &mut Vec<File>) -> anyhow::Result<()> {
    let shown = path.display();
    if path.is_dir() {
        if !named && !recursive {
            return Ok(());
        }
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {shown}"))?;
        let mut entries: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| collect(entry, recursive, false, files));
    }
    let manifest = path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
    if named || manifest {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        files.push(File { name: shown.to_string(), text, named });
    }
    Ok(())
}

/// Adds an object, or the members of a list.
fn add(tree: Tree, file: &str, namespace: &str, documents: &mut Vec<Document>) -> anyhow::Result<()> {
    let mut value = tree.value();
    match value {
        Value::Null => return Ok(()),
        Value::Object(_) => {}
        _ => bail!("{file} is no manifest: an object of Kubernetes is expected"),
    }
    if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && value["items"].is_array() {
        let members = match tree.node {
            Node::Map(fields) => fields.into_iter().find(|(name, _)| name == "items").map(|(_, items)| items.node),
            _ => None,
        };
        let Some(Node::List(members)) = members else { return Ok(()) };
        return members.into_iter().try_for_each(|member| add(member, file, namespace, documents));
    }
    if !value["metadata"].is_object() {
        bail!("{file} is no manifest: an object has no metadata");
    }
    let scoped = value["kind"].as_str().is_some_and(|kind| !CLUSTER_SCOPED.contains(&kind));
    if scoped && value["metadata"]["namespace"].is_null() {
        value["metadata"]["namespace"] = namespace.into();
    }
    documents.push(Document { value, file: file.to_owned(), tree });
    Ok(())
}

impl Document {
    /// Where a field such as `spec.http[0].route[1].weight` is, or the nearest of those around it that is written.
    pub(super) fn place(&self, field: &str) -> Option<Place> {
        let mut tree = &self.tree;
        let mut place = tree.place;
        for segment in segments(field) {
            let inner = match (&tree.node, segment) {
                (Node::Map(fields), Segment::Name(name)) => fields.iter().find(|(own, _)| own == name).map(|(_, t)| t),
                (Node::List(items), Segment::Index(index)) => items.get(index),
                _ => None,
            };
            let Some(inner) = inner else { break };
            tree = inner;
            place = inner.place.or(place);
        }
        // Where nothing is known, the object begins.
        place.or_else(|| match &tree.node {
            Node::Map(fields) => fields.first().and_then(|(_, first)| first.place),
            _ => None,
        })
    }
}

enum Segment<'a> {
    Name(&'a str),
    Index(usize),
}

fn segments(field: &str) -> impl Iterator<Item = Segment<'_>> {
    let parts = field.split(['.', '[', ']']).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_or(Segment::Name(part), Segment::Index))
}

/// A value and where it is: a field is where its name is.
struct Tree {
    place: Option<Place>,
    node: Node,
}

enum Node {
    Leaf(Value),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    fn value(&self) -> Value {
        match &self.node {
            Node::Leaf(value) => value.clone(),
            Node::List(items) => items.iter().map(Tree::value).collect(),
            Node::Map(fields) => {
                Value::Object(fields.iter().map(|(name, tree)| (name.clone(), tree.value())).collect::<Map<_, _>>())
            }
        }
    }
}

fn place(location: Location) -> Option<Place> {
    let place =
        Place { line: usize::try_from(location.line()).ok()?, column: usize::try_from(location.column()).ok()? };
    (place.line > 0).then_some(place)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(Spanned { value, referenced, .. }) = items.next_element::<Spanned<Node>>()? {
            list.push(Tree { place: place(referenced), node: value });
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some((Spanned { value: name, referenced, .. }, node)) =
            entries.next_entry::<Spanned<String>, Node>()?
        {
            fields.push((name, Tree { place: place(referenced), node }));
        }
        Ok(Node::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str, named: bool) -> Files {
        Files(vec![File { name: "f".to_owned(), text: text.to_owned(), named }])
    }

    fn documents(text: &str) -> Vec<Document> {
        files(text, true).contents("shop").unwrap().documents
    }

    #[test]
    fn fields_have_places() {
        let text = "# a comment\nkind: A\nmetadata: {name: a}\nspec:\n  list:\n  - one: 1\n    two: x\n  - one: 2\n";
        let all = documents(text);
        let place = |field: &str| all[0].place(field).map(|place| (place.line, place.column));
        assert_eq!(place("spec.list[0].two"), Some((7, 5)));
        assert_eq!(place("spec.list[1]"), Some((8, 5)));
        assert_eq!(place("spec.list[1].missing.deeper"), Some((8, 5)));
        assert_eq!(place("metadata.name"), Some((3, 12)));
        assert_eq!(place(""), Some((2, 1)));
        assert_eq!(all[0].value["spec"]["list"][0], serde_json::json!({"one": 1, "two": "x"}));
    }

    #[test]
    fn lists_are_their_members_and_namespaces_are_filled_in() {
        let text = "kind: List\nitems:\n- kind: Namespace\n  metadata: {name: a}\n- kind: B\n  metadata: {name: b}\n---\n---\nkind: C\n\
                    metadata: {name: c, namespace: own}\n";
        let all = documents(text);
        let namespaces: Vec<_> = all.iter().map(|document| document.value["metadata"]["namespace"].clone()).collect();
        assert_eq!(namespaces, [Value::Null, "shop".into(), "own".into()]);
        assert_eq!(all[1].place("metadata"), Some(Place { line: 6, column: 3 }));
    }

    #[test]
    fn what_is_no_object_is_refused_where_it_was_named_and_left_out_where_it_was_found() {
        for text in ["- a\n", "kind: A\n", "a: [", "replicas: {{ .Values.replicas }}\n"] {
            assert!(files(text, true).contents("shop").is_err(), "{text}");
            let found = files(text, false).contents("shop").unwrap();
            assert!(found.documents.is_empty(), "{text}");
            assert!(found.skipped.iter().any(|why| why.starts_with("f is no manifest: ")), "{:?}", found.skipped);
        }
        assert!(files("", true).contents("shop").unwrap().documents.is_empty());
    }
}
