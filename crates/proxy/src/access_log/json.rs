//! Lines of JSON.

use std::fmt::{self, Write};

use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::Entry;
use super::format::{Piece, Text};
use super::operator::Operator;

/// A compiled JSON format.
#[derive(Debug, Clone)]
pub(super) struct Json {
    fields: Box<[Field]>,
    omit_empty: bool,
}

#[derive(Debug, Clone)]
struct Field {
    /// The name in quotes, with its colon.
    name: Box<str>,
    value: Template,
}

#[derive(Debug, Clone)]
enum Template {
    Object(Box<[Field]>),
    List(Box<[Template]>),
    /// A single operator, which keeps its type.
    Value(Operator),
    Text(Text),
    /// JSON that is the same on every line.
    Fixed(Box<str>),
}

impl Json {
    pub(super) fn parse(format: &Struct, omit_empty: bool) -> Result<Json, String> {
        Ok(Json { fields: fields(format, omit_empty)?, omit_empty })
    }

    pub(super) fn operators<'j>(&'j self, into: &mut Vec<&'j Operator>) {
        self.fields.iter().for_each(|field| field.value.operators(into));
    }

    pub(super) fn render(&self, entry: &Entry<'_>, out: &mut String) {
        self.object(&self.fields, entry, out);
        out.push('\n');
    }

    fn object(&self, fields: &[Field], entry: &Entry<'_>, out: &mut String) {
        out.push('{');
        let mut separator = "";
        for field in fields {
            let start = out.len();
            out.push_str(separator);
            out.push_str(&field.name);
            if self.template(&field.value, entry, out) || !self.omit_empty {
                separator = ",";
            } else {
                out.truncate(start);
            }
        }
        out.push('}');
    }

    /// Writes a value; returns whether there was one to write instead of `null`.
    fn template(&self, template: &Template, entry: &Entry<'_>, out: &mut String) -> bool {
        match template {
            Template::Object(fields) => self.object(fields, entry, out),
            Template::Fixed(text) => out.push_str(text),
            Template::Value(operator) => return value(operator, entry, out),
            Template::Text(text) => {
                out.push('"');
                text.render(entry, &mut Escaped(out));
                out.push('"');
            }
            Template::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    self.template(item, entry, out);
                }
                out.push(']');
            }
        }
        true
    }
}

impl Template {
    fn operators<'t>(&'t self, into: &mut Vec<&'t Operator>) {
        match self {
            Template::Object(fields) => fields.iter().for_each(|field| field.value.operators(into)),
            Template::List(items) => items.iter().for_each(|item| item.operators(into)),
            Template::Value(operator) => into.push(operator),
            Template::Text(text) => text.operators(into),
            Template::Fixed(_) => {}
        }
    }
}

fn value(operator: &Operator, entry: &Entry<'_>, out: &mut String) -> bool {
    let start = out.len();
    let quote = if operator.is_number() { "" } else { "\"" };
    out.push_str(quote);
    let present = operator.write(entry, &mut Escaped(out)).expect("a buffer in memory takes all");
    if present {
        out.push_str(quote);
    } else {
        out.truncate(start);
        out.push_str("null");
    }
    present
}

fn fields(format: &Struct, omit_empty: bool) -> Result<Box<[Field]>, String> {
    let field = |(name, value): (&String, &Value)| {
        Ok(Field { name: format!("{}:", quoted(name)).into(), value: compile(value, omit_empty)? })
    };
    format.fields.iter().map(field).collect()
}

fn compile(value: &Value, omit_empty: bool) -> Result<Template, String> {
    Ok(match &value.kind {
        None | Some(Kind::NullValue(_)) => Template::Fixed("null".into()),
        Some(Kind::NumberValue(number)) => Template::Fixed(number.to_string().into()),
        Some(Kind::BoolValue(flag)) => Template::Fixed(flag.to_string().into()),
        Some(Kind::StructValue(object)) => Template::Object(fields(object, omit_empty)?),
        Some(Kind::ListValue(list)) => {
            Template::List(list.values.iter().map(|v| compile(v, omit_empty)).collect::<Result<_, String>>()?)
        }
        Some(Kind::StringValue(text)) => {
            let text = Text::parse(text, omit_empty)?;
            match &*text.pieces {
                [Piece::Operator(operator)] => Template::Value(operator.clone()),
                _ => Template::Text(text),
            }
        }
    })
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    Escaped(&mut out).write_str(text).expect("a buffer in memory takes all");
    out.push('"');
    out
}

/// Writes text as the inside of a JSON string.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                c if u32::from(c) < 0x20 => write!(self.0, "\\u{:04x}", u32::from(c))?,
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}
