//! From wire to JSON, message by message.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::table::{Element, Field, MessageId, Shape, Table};
use super::wire::{self, Malformed, Reader};

type Object = Map<String, Value>;

/// Decodes one message. Unknown fields are skipped; a field that comes twice is merged, as protobuf asks.
pub(super) fn message(table: &Table, id: MessageId, bytes: &[u8]) -> Result<Object, Malformed> {
    let mut object = Object::new();
    merge(table, id, bytes, &mut object)?;
    Ok(object)
}

fn merge(table: &Table, id: MessageId, bytes: &[u8], object: &mut Object) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    while let Some(wire) = reader.field()? {
        let Some(field) = table.message(id).field(wire.number) else { continue };
        if let Element::Message(inner) = field.element
            && field.is_inline()
        {
            merge(table, inner, wire.bytes()?, object)?;
            continue;
        }
        match field.shape {
            Shape::One => one(table, field, wire, object),
            Shape::List => list(table, field, wire, object),
            Shape::Map => entry(table, field, wire, object),
        }
        .map_err(|e| e.within(field.name))?;
    }
    Ok(())
}

fn one(table: &Table, field: &Field, wire: wire::Field<'_>, object: &mut Object) -> Result<(), Malformed> {
    if let Element::Message(id) = field.element {
        let inner = object.entry(field.name).or_insert_with(|| Value::Object(Object::new()));
        return inner.as_object_mut().map_or(Ok(()), |inner| merge(table, id, wire.bytes()?, inner));
    }
    let value = element(table, field.element, wire)?;
    if value.is_null() || (is_zero(&value, field.element) && !field.keeps_zero) {
        object.remove(field.name);
    } else {
        object.insert(field.name.to_owned(), value);
    }
    Ok(())
}

fn is_zero(value: &Value, element: Element) -> bool {
    match element {
        Element::Text | Element::Bytes => value == "",
        Element::Int => value == 0,
        Element::Bool => value == false,
        _ => false,
    }
}

fn list(table: &Table, field: &Field, wire: wire::Field<'_>, object: &mut Object) -> Result<(), Malformed> {
    let items = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(items) = items else { return Ok(()) };
    if field.element == Element::Int {
        items.extend(wire.varints()?.into_iter().map(integer));
    } else {
        items.push(element(table, field.element, wire)?);
    }
    Ok(())
}

fn entry(table: &Table, field: &Field, wire: wire::Field<'_>, object: &mut Object) -> Result<(), Malformed> {
    let (mut key, mut value) = ("", None);
    let mut reader = Reader::new(wire.bytes()?);
    while let Some(part) = reader.field()? {
        match part.number {
            1 => key = part.text()?,
            2 => value = Some(element(table, field.element, part)?),
            _ => {}
        }
    }
    let value = value.unwrap_or_else(|| match field.element {
        Element::Quantity => "0".into(),
        Element::Items => Value::Array(Vec::new()),
        Element::Message(_) => Value::Object(Object::new()),
        _ => "".into(),
    });
    let entries = object.entry(field.name).or_insert_with(|| Value::Object(Object::new()));
    if let Value::Object(entries) = entries {
        entries.insert(key.to_owned(), value);
    }
    Ok(())
}

/// One value; `null` stands for a value that JSON leaves out.
fn element(table: &Table, element: Element, wire: wire::Field<'_>) -> Result<Value, Malformed> {
    Ok(match element {
        Element::Text => wire.text()?.into(),
        Element::Int => integer(wire.varint()?),
        Element::Bool => (wire.varint()? != 0).into(),
        Element::Bytes => STANDARD.encode(wire.bytes()?).into(),
        Element::Time => time(wire.bytes()?, "%Y-%m-%dT%H:%M:%SZ")?,
        Element::MicroTime => time(wire.bytes()?, "%Y-%m-%dT%H:%M:%S.%6fZ")?,
        Element::Quantity => quantity(wire.bytes()?)?,
        Element::IntOrString => int_or_string(wire.bytes()?)?,
        Element::Raw => raw(wire.bytes()?)?,
        Element::Items => items(wire.bytes()?)?,
        Element::Message(id) => Value::Object(message(table, id, wire.bytes()?)?),
    })
}

/// Negative numbers of either size are sign-extended to 64 bits on the wire.
fn integer(varint: u64) -> Value {
    varint.cast_signed().into()
}

/// `Timestamp { seconds = 1, nanos = 2 }`; an empty one is Go's zero time.
fn time(bytes: &[u8], format: &str) -> Result<Value, Malformed> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some(part) = reader.field()? {
        match part.number {
            1 => seconds = part.varint()?.cast_signed(),
            2 => nanos = i32::try_from(part.varint()?.cast_signed()).map_err(|_| Malformed::Time)?,
            _ => {}
        }
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| Malformed::Time)?;
    Ok(time.strftime(format).to_string().into())
}

/// `Quantity { string = 1 }`.
fn quantity(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut text = "";
    let mut reader = Reader::new(bytes);
    while let Some(part) = reader.field()? {
        if part.number == 1 {
            text = part.text()?;
        }
    }
    Ok(if text.is_empty() { "0" } else { text }.into())
}

/// `IntOrString { type = 1, intVal = 2, strVal = 3 }`; type 1 is a string.
fn int_or_string(bytes: &[u8]) -> Result<Value, Malformed> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some(part) = reader.field()? {
        match part.number {
            1 => is_text = part.varint()? == 1,
            2 => number = part.varint()?,
            3 => text = part.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { integer(number) })
}

/// `FieldsV1 { raw = 1 }`: JSON in bytes.
fn raw(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut json: &[u8] = b"";
    let mut reader = Reader::new(bytes);
    while let Some(part) = reader.field()? {
        if part.number == 1 {
            json = part.bytes()?;
        }
    }
    if json.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(json).map_err(|e| Malformed::Json(e.to_string()))
}

/// `ExtraValue { items = 1 }`: a list of texts inside a message, because a map's values cannot be lists.
fn items(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut items = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some(part) = reader.field()? {
        if part.number == 1 {
            items.push(part.text()?.into());
        }
    }
    Ok(Value::Array(items))
}
