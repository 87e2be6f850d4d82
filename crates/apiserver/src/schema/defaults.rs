//! Filling in defaults, and what Kubernetes makes of `null`.

use serde_json::{Map, Value};

use super::{Object, Schema, Shape, quantity};

impl Schema {
    /// Fills in defaults; drops `null`s that the schema does not allow, as Kubernetes does on decoding.
    pub fn default(&self, value: &mut Value) {
        match (self.shape(), value) {
            (Shape::Object(object), Value::Object(fields)) => self.default_fields(object, fields),
            (Shape::List(items), Value::Array(list)) => {
                for item in list {
                    items.default_item(item);
                }
            }
            (Shape::Quantity, quantity) => canonicalize(quantity),
            _ => {}
        }
    }

    fn default_fields(&self, object: &Object, fields: &mut Map<String, Value>) {
        fields.retain(|name, value| {
            let dropped = value.is_null() && self.child(name).is_some_and(|s| !s.nullable && !s.accepts_null());
            !dropped
        });
        for (name, schema) in &object.fields {
            let Some(default) = &schema.default else { continue };
            if !fields.contains_key(&**name) {
                fields.insert(name.to_string(), default.clone());
            }
        }
        for (name, value) in fields {
            if let Some(schema) = self.child(name) {
                schema.default(value);
            }
        }
    }

    /// In a list of a built-in kind, `null` stands for the zero value of Go; elsewhere it may stand for a default.
    fn default_item(&self, item: &mut Value) {
        if item.is_null()
            && !self.nullable
            && let Some(value) = self.default.clone().or_else(|| self.zero())
        {
            *item = value;
        }
        self.default(item);
    }

    fn zero(&self) -> Option<Value> {
        let Shape::Definition(definition) = &self.shape else { return None };
        matches!(definition.schema().shape(), Shape::Object(_)).then(|| Value::Object(Map::new()))
    }

    /// Free-form values keep their nulls.
    fn accepts_null(&self) -> bool {
        matches!(self.shape(), Shape::Any)
    }
}

/// Kubernetes reads quantities from numbers too, and always writes them as text in one form.
fn canonicalize(value: &mut Value) {
    let text = match &*value {
        Value::String(text) => quantity::canonical(text),
        Value::Number(number) => quantity::canonical(&number.to_string()),
        _ => None,
    };
    if let Some(text) = text {
        *value = text.into();
    }
}
