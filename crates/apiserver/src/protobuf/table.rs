//! The messages of `fields.txt`.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Every message, and which of them are kinds.
pub(super) struct Table {
    messages: Vec<Message>,
    kinds: HashMap<&'static str, MessageId>,
}

/// The place of a message in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MessageId(usize);

/// The fields of a message, ordered by number.
#[derive(Debug)]
pub(super) struct Message {
    fields: Vec<Field>,
}

#[derive(Debug)]
pub(super) struct Field {
    number: u32,
    /// The JSON name; `-` for a message whose fields JSON writes among those of its parent.
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) element: Element,
    /// Whether JSON keeps the zero value of a scalar.
    pub(super) keeps_zero: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    Map,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Text,
    Int,
    Bool,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    Raw,
    Items,
    Message(MessageId),
}

impl Field {
    pub(super) fn is_inline(&self) -> bool {
        self.name == "-"
    }
}

impl Message {
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        let at = self.fields.binary_search_by_key(&number, |f| f.number).ok()?;
        self.fields.get(at)
    }
}

impl Table {
    /// The table, parsed on first use.
    pub(super) fn get() -> &'static Table {
        static TABLE: LazyLock<Table> =
            LazyLock::new(|| Table::parse(include_str!("fields.txt")).expect("fields.txt is well-formed"));
        &TABLE
    }

    /// The message of a kind. `DeleteOptions` come under the group and version of what is deleted.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<MessageId> {
        if kind == "DeleteOptions" {
            return self.kinds.get("meta.v1.DeleteOptions").copied();
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let package = group.strip_suffix(".authorization.k8s.io").or_else(|| group.strip_suffix(".k8s.io"));
        self.kinds.get(format!("{}.{version}.{kind}", package.unwrap_or(group)).as_str()).copied()
    }

    pub(super) fn message(&self, id: MessageId) -> &Message {
        self.messages.get(id.0).expect("ids are made for the messages of the table")
    }

    fn parse(text: &'static str) -> Result<Table, String> {
        let entries = entries(text)?;
        let ids: HashMap<&str, MessageId> =
            entries.iter().enumerate().map(|(at, entry)| (entry.name, MessageId(at))).collect();
        let kinds = entries.iter().filter(|e| e.is_kind).filter_map(|e| ids.get_key_value(e.name));
        let kinds = kinds.map(|(name, id)| (*name, *id)).collect();
        let messages = entries.iter().map(|entry| entry.message(&ids)).collect::<Result<_, _>>()?;
        Ok(Table { messages, kinds })
    }

    #[cfg(test)]
    pub(super) fn ids(&self) -> impl Iterator<Item = MessageId> {
        (0..self.messages.len()).map(MessageId)
    }

    #[cfg(test)]
    pub(super) fn parts(&self, id: MessageId) -> Vec<MessageId> {
        let elements = self.message(id).fields.iter().map(|f| f.element);
        elements.filter_map(|e| if let Element::Message(id) = e { Some(id) } else { None }).collect()
    }
}

/// One message as it is written down.
struct Entry {
    name: &'static str,
    is_kind: bool,
    words: Vec<&'static str>,
}

fn entries(text: &'static str) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let mut fields = line;
        if !line.starts_with(' ') {
            let (head, rest) = line.split_once(':').ok_or_else(|| format!("no colon in {line:?}"))?;
            let name = head.strip_prefix("kind ");
            entries.push(Entry { name: name.unwrap_or(head), is_kind: name.is_some(), words: Vec::new() });
            fields = rest;
        }
        let entry = entries.last_mut().ok_or("the first line goes on from nothing")?;
        entry.words.extend(fields.split_whitespace());
    }
    Ok(entries)
}

impl Entry {
    fn message(&self, ids: &HashMap<&str, MessageId>) -> Result<Message, String> {
        let mut fields = Vec::new();
        for words in self.words.chunks(3) {
            let field = field(words, ids).ok_or_else(|| format!("{}: {words:?} is not a field", self.name))?;
            fields.push(field);
        }
        fields.sort_by_key(|f| f.number);
        Ok(Message { fields })
    }
}

fn field(words: &[&'static str], ids: &HashMap<&str, MessageId>) -> Option<Field> {
    let &[number, name, kind] = words else { return None };
    let kind = kind.trim_end_matches(',');
    let (keeps_zero, kind) = kind.strip_suffix('!').map_or((false, kind), |k| (true, k));
    let (shape, kind) = match (kind.strip_prefix("[]"), kind.strip_prefix("map:")) {
        (Some(item), _) => (Shape::List, item),
        (_, Some(value)) => (Shape::Map, value),
        _ => (Shape::One, kind),
    };
    let element = match kind {
        "string" => Element::Text,
        "int" => Element::Int,
        "bool" => Element::Bool,
        "bytes" => Element::Bytes,
        "time" => Element::Time,
        "microtime" => Element::MicroTime,
        "quantity" => Element::Quantity,
        "intorstring" => Element::IntOrString,
        "raw" => Element::Raw,
        "items" => Element::Items,
        message => Element::Message(*ids.get(message)?),
    };
    Some(Field { number: number.parse().ok()?, name, shape, element, keeps_zero })
}
