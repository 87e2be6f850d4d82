//! Request bodies in `application/vnd.kubernetes.protobuf`, which kubectl's `create` subcommands and Go clients send.
//!
//! The messages are data (`protobuf/fields.txt`), decoded into the JSON that the same client would have sent. No message
//! of the table contains itself, so the depth of what is decoded is bounded by the table.

mod table;
mod value;
mod wire;

use api::ApiError;
use serde_json::Value;

use table::Table;
use wire::{Malformed, Reader};

/// The four bytes that every protobuf body of Kubernetes starts with.
const MAGIC: &[u8] = b"k8s\0";

/// Decodes `k8s\0` + `runtime.Unknown` into the JSON form of its object, with `apiVersion` and `kind`.
///
/// A body that is not well-formed is 400; a kind that the table does not have is 415 and names another way.
pub(crate) fn decode(body: &[u8]) -> Result<Value, ApiError> {
    let Some(envelope) = body.strip_prefix(MAGIC) else {
        let message = "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]";
        return Err(ApiError::bad_request(message));
    };
    let unknown = Unknown::read(envelope).map_err(|e| ApiError::bad_request(format!("runtime.Unknown: {e}")))?;
    let Unknown { api_version, kind, raw, encoding } = unknown;
    if !encoding.is_empty() {
        let message = format!("a protobuf body with contentEncoding {encoding:?} is not supported");
        return Err(ApiError::unsupported_media_type(message));
    }
    let table = Table::get();
    let Some(message) = table.kind(api_version, kind) else {
        return Err(ApiError::unsupported_media_type(format!(
            "{api_version}, Kind={kind} is not supported in application/vnd.kubernetes.protobuf: \
             send it as JSON or YAML, for example with `kubectl apply -f`"
        )));
    };
    let mut object = value::message(table, message, raw)
        .map_err(|e| ApiError::bad_request(format!("{api_version}, Kind={kind} in protobuf: {e}")))?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

/// `k8s.io/apimachinery/pkg/runtime.Unknown`: what is inside, and its bytes.
#[derive(Default)]
struct Unknown<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
    encoding: &'a str,
}

impl<'a> Unknown<'a> {
    fn read(bytes: &'a [u8]) -> Result<Unknown<'a>, Malformed> {
        let mut unknown = Unknown::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field()? {
            match field.number {
                1 => unknown.read_type(field.bytes()?)?,
                2 => unknown.raw = field.bytes()?,
                3 => unknown.encoding = field.text()?,
                _ => {}
            }
        }
        Ok(unknown)
    }

    fn read_type(&mut self, bytes: &'a [u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field()? {
            match field.number {
                1 => self.api_version = field.text()?,
                2 => self.kind = field.text()?,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
