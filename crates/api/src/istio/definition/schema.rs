//! Building structural schemas.

use serde_json::{Map, Value, json};

/// A schema, in its JSON form.
pub(super) struct Schema(pub(super) Value);

/// A field of an object.
pub(super) type Property = (&'static str, Schema);

fn of(kind: &str, description: &str) -> Schema {
    Schema(json!({ "type": kind, "description": description }))
}

/// Text.
pub(super) fn text(description: &str) -> Schema {
    of("string", description)
}

/// Lengths of time as Go writes them; what is none is refused when the object is decoded.
pub(super) fn duration(description: &str) -> Schema {
    of("string", description)
}

/// One of some words.
pub(super) fn word(description: &str, words: &[&str]) -> Schema {
    of("string", description).with("enum", words)
}

/// True or false.
pub(super) fn flag(description: &str) -> Schema {
    of("boolean", description)
}

/// A number without sign.
pub(super) fn unsigned(description: &str) -> Schema {
    of("integer", description).with("minimum", 0).with("maximum", u32::MAX)
}

/// A number.
pub(super) fn integer(description: &str) -> Schema {
    of("integer", description).with("format", "int32")
}

/// A number that may have a fraction.
pub(super) fn fraction(description: &str) -> Schema {
    of("number", description).with("format", "double")
}

/// Items of one kind.
pub(super) fn list(description: &str, item: Schema) -> Schema {
    of("array", description).with("items", item.0)
}

/// Some text.
pub(super) fn texts(description: &str) -> Schema {
    list(description, Schema(json!({ "type": "string" })))
}

/// Ports, or other small numbers.
pub(super) fn numbers(description: &str) -> Schema {
    list(description, Schema(json!({ "type": "integer", "minimum": 0, "maximum": u16::MAX })))
}

/// A port, or 0 for none.
pub(super) fn port_number(description: &str) -> Schema {
    unsigned(description).at_most(u16::MAX.into())
}

/// An object with whatever is in it.
pub(super) fn anything(description: &str) -> Schema {
    of("object", description).with("x-kubernetes-preserve-unknown-fields", true)
}

/// Values of one kind by name.
pub(super) fn map(description: &str, value: Schema) -> Schema {
    of("object", description).with("additionalProperties", value.0)
}

/// Text by name.
pub(super) fn labels(description: &str) -> Schema {
    map(description, Schema(json!({ "type": "string" })))
}

/// An object with fields.
pub(super) fn object(description: &str, properties: impl IntoIterator<Item = Property>) -> Schema {
    let properties: Map<String, Value> =
        properties.into_iter().map(|(name, schema)| (name.to_owned(), schema.0)).collect();
    of("object", description).with("properties", properties)
}

/// Which workloads an object of the networking group is for.
pub(super) fn workload_selector() -> Schema {
    object("The workloads that it is for.", [("labels", labels("The labels that a workload must have."))])
}

/// The same in the security group, and in rules for clients.
pub(super) fn selector() -> Schema {
    object("The workloads that it is for.", [("matchLabels", labels("The labels that a workload must have."))])
}

impl Schema {
    fn with(mut self, keyword: &str, value: impl serde::Serialize) -> Schema {
        self.0[keyword] = json!(value);
        self
    }

    /// The fields that an object must have.
    pub(super) fn required(self, fields: &[&str]) -> Schema {
        self.with("required", fields)
    }

    /// A value that may be given as null.
    pub(super) fn nullable(self) -> Schema {
        self.with("nullable", true)
    }

    /// A number of at least so much.
    pub(super) fn at_least(self, least: u32) -> Schema {
        self.with("minimum", least)
    }

    /// A number of at most so much.
    pub(super) fn at_most(self, most: u32) -> Schema {
        self.with("maximum", most)
    }

    /// A list of so many items.
    pub(super) fn items(self, least: u32, most: u32) -> Schema {
        let bounded = self.with("maxItems", most);
        if least > 0 { bounded.with("minItems", least) } else { bounded }
    }

    /// An object of whose fields `fields` only one may be given.
    pub(super) fn at_most_one(self, fields: &[&str]) -> Schema {
        let each: Vec<Value> = fields.iter().map(|field| json!({ "required": [field] })).collect();
        let none = json!({ "not": { "anyOf": each } });
        self.with("oneOf", [vec![none], each].concat())
    }
}
