//! What keeps a built-in kind from being decoded, worded as Go's JSON decoder words it.

use base64::Engine;
use serde_json::Value;

use super::format::timestamp;
use super::{Object, Rest, Schema, Shape, Text, quantity};

impl Schema {
    /// Why Kubernetes could not decode `value` as a built-in `kind`, or read the metadata of a custom resource; the
    /// request is then refused with 400. `None` if it could.
    pub fn decode_error(&self, kind: &str, value: &Value) -> Option<String> {
        let why = match &self.shape {
            Shape::Definition(_) => decode(self, value, &Field::default()),
            _ if !value.is_object() => Some(mismatch(value, &Field::default(), "map[string]interface {}")),
            _ => decode(self.child("metadata")?, value.get("metadata")?, &Field::default().child("", "metadata")),
        }?;
        let api_version = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let version = api_version.rsplit('/').next().unwrap_or_default();
        Some(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    }
}

/// Where the decoder is: the struct that holds the field, and the path from the root, without indices.
#[derive(Default, Clone)]
struct Field {
    holder: String,
    path: String,
}

impl Field {
    fn child(&self, go_type: &str, name: &str) -> Field {
        let holder = go_type.rsplit('.').next().unwrap_or_default().to_owned();
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Field { holder, path }
    }
}

fn decode(schema: &Schema, value: &Value, at: &Field) -> Option<String> {
    if value.is_null() {
        return None;
    }
    let refuse = |value: &Value| Some(mismatch(value, at, &go_type(schema)));
    match (schema.shape(), value) {
        (Shape::Any, _) => None,
        (Shape::Object(object), Value::Object(_)) => decode_object(schema, object, value, at),
        (Shape::List(items), Value::Array(list)) => list.iter().find_map(|item| decode(items, item, at)),
        (Shape::Boolean, Value::Bool(_)) | (Shape::Number, Value::Number(_)) => None,
        (Shape::Integer(bits), Value::Number(_)) => {
            if fits(value, *bits) {
                None
            } else {
                refuse(value)
            }
        }
        (Shape::Text(text), Value::String(s)) => decode_text(*text, s),
        (Shape::Text(Text::Time | Text::MicroTime), _) => Some(mismatch(value, &Field::default(), "string")),
        (Shape::Quantity, Value::Number(n)) => quantity_error(&n.to_string()),
        (Shape::Quantity, Value::String(s)) => quantity_error(s),
        (Shape::Quantity, other) => quantity_error(&other.to_string()),
        (Shape::IntOrString, Value::String(_)) => None,
        (Shape::IntOrString, _) if fits(value, 32) => None,
        (Shape::IntOrString, _) => Some(mismatch(value, &Field::default(), "int32")),
        _ if schema.is_typed() => refuse(value),
        _ => None,
    }
}

fn decode_object(schema: &Schema, object: &Object, value: &Value, at: &Field) -> Option<String> {
    value.as_object()?.iter().find_map(|(name, child)| {
        let known = schema.child(name)?;
        match object.rest {
            // A map's keys are no part of the path that Go prints.
            Rest::Each(_) => decode(known, child, at),
            _ => decode(known, child, &at.child(&object.go_type, name)),
        }
    })
}

fn decode_text(text: Text, value: &str) -> Option<String> {
    match text {
        Text::Plain => None,
        Text::Time => (!timestamp(value)).then(|| time_error(value, "2006-01-02T15:04:05Z07:00")),
        Text::MicroTime => (!timestamp(value)).then(|| time_error(value, "2006-01-02T15:04:05.000000Z07:00")),
        Text::Bytes => {
            let standard = base64::engine::general_purpose::STANDARD;
            // Go's decoder skips line breaks.
            let folded: String = value.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
            let error = standard.decode(folded).err()?;
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(length) => length,
                base64::DecodeError::InvalidPadding => value.len(),
            };
            Some(format!("illegal base64 data at input byte {at}"))
        }
    }
}

fn time_error(value: &str, layout: &str) -> String {
    format!("parsing time {value:?} as {layout:?}: cannot parse {value:?} as \"2006\"")
}

fn fits(value: &Value, bits: u8) -> bool {
    match bits {
        32 => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        _ => value.is_i64(),
    }
}

fn mismatch(value: &Value, at: &Field, go_type: &str) -> String {
    let what = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        // A number that has the right JSON type but does not fit is shown.
        Value::Number(n) if go_type.starts_with("int") => format!("number {n}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    if at.path.is_empty() {
        return format!("json: cannot unmarshal {what} into Go value of type {go_type}");
    }
    format!("json: cannot unmarshal {what} into Go struct field {}.{} of type {go_type}", at.holder, at.path)
}

fn go_type(schema: &Schema) -> String {
    match schema.shape() {
        Shape::Any | Shape::Definition(_) => "interface {}".to_owned(),
        Shape::Text(Text::Bytes) => "[]uint8".to_owned(),
        Shape::Text(_) => "string".to_owned(),
        Shape::Integer(bits) => format!("int{bits}"),
        Shape::Number => "float64".to_owned(),
        Shape::Boolean => "bool".to_owned(),
        Shape::IntOrString => "intstr.IntOrString".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::List(items) => format!("[]{}", go_type(items)),
        Shape::Object(Object { rest: Rest::Each(each), .. }) => format!("map[string]{}", go_type(each)),
        Shape::Object(object) => object.go_type.to_string(),
    }
}

fn quantity_error(text: &str) -> Option<String> {
    let rule = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    quantity::canonical(text).is_none().then(|| rule.to_owned())
}
