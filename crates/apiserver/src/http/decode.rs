//! From request bytes to objects, noting duplicate fields.

use std::fmt;

use api::ApiError;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::protobuf;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// A decoded body.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) value: Value,
    /// The paths of fields that were given more than once; the last value counts.
    pub(super) duplicates: Vec<String>,
}

/// The media type of the body without parameters; empty if the client sent none.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// How an object in a body is encoded. Clients that send no type, as kubectl 1.20, mean JSON.
pub(super) fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    match content_type(headers).as_str() {
        "" | "application/json" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Encoding::Protobuf),
        _ => {
            let accepted = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
            let message = "the body of the request was in an unknown format - accepted media types include: ";
            Err(ApiError::unsupported_media_type(format!("{message}{accepted}")))
        }
    }
}

/// Decodes an object of the kind named `expected`.
pub(super) fn decode(encoding: Encoding, body: &[u8], expected: &str) -> Result<Decoded, ApiError> {
    let unrecognized = |format: &str, cause: &dyn fmt::Display| {
        let message = format!(
            "the object provided is unrecognized (must be of type {expected}): couldn't get version/kind; {format} parse \
             error: {cause}"
        );
        ApiError::bad_request(message)
    };
    let decoded = match encoding {
        Encoding::Json => json(body).map_err(|e| unrecognized("json", &e))?,
        Encoding::Yaml => {
            let text = std::str::from_utf8(body).map_err(|e| unrecognized("yaml", &e))?;
            // As YAML 1.2 has it: `y` and `on` are words.
            let options = serde_saphyr::options! { strict_booleans: true };
            let value = serde_saphyr::from_str_with_options(text, options).map_err(|e| unrecognized("yaml", &e))?;
            Decoded { value, duplicates: Vec::new() }
        }
        Encoding::Protobuf => Decoded { value: protobuf::decode(body)?, duplicates: Vec::new() },
    };
    if decoded.value.is_object() { Ok(decoded) } else { Err(unrecognized("json", &"the body is not an object")) }
}

/// Decodes JSON. Nesting is limited (128 levels), numbers beyond 64 bits become floating point.
pub(super) fn json(body: &[u8]) -> Result<Decoded, serde_json::Error> {
    let mut path = String::new();
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Node { path: &mut path, duplicates: &mut duplicates }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Decoded { value, duplicates })
}

/// One value and where it stands.
struct Node<'a> {
    path: &'a mut String,
    duplicates: &'a mut Vec<String>,
}

impl Node<'_> {
    /// The value below, after `step` was added to the path.
    fn child<'b>(&'b mut self, step: impl fmt::Display) -> Node<'b> {
        use fmt::Write;
        // Writing to a string cannot fail.
        let _ = write!(self.path, "{step}");
        Node { path: self.path, duplicates: self.duplicates }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let length = self.path.len();
        while let Some(item) = seq.next_element_seed(self.child(format_args!("[{}]", list.len())))? {
            list.push(item);
            self.path.truncate(length);
        }
        self.path.truncate(length);
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let length = self.path.len();
        while let Some(key) = map.next_key::<String>()? {
            let dot = if length == 0 { "" } else { "." };
            let value = map.next_value_seed(self.child(format_args!("{dot}{key}")))?;
            if object.insert(key, value).is_some() {
                self.duplicates.push(self.path.clone());
            }
            self.path.truncate(length);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_decoded_and_duplicates_are_named() {
        let text = br#"{"a":{"b":1,"b":2,"l":[{"x":null,"x":1.5}]},"s":"t\n","n":-1,"a2":true}"#;
        let decoded = json(text).unwrap();
        assert_eq!(decoded.value, json!({"a": {"b": 2, "l": [{"x": 1.5}]}, "s": "t\n", "n": -1, "a2": true}));
        assert_eq!(decoded.duplicates, ["a.b", "a.l[0].x"]);
    }

    #[test]
    fn malformed_bodies_are_bad_requests() {
        let deep = "[".repeat(100_000);
        for body in ["", "{", "[]", "null", "{} {}", "{\"a\":}", deep.as_str()] {
            let error = decode(Encoding::Json, body.as_bytes(), "Pod").unwrap_err();
            assert_eq!(error.code, 400, "{body:.20}");
            assert!(error.message.contains("(must be of type Pod)"), "{error}");
        }
        assert_eq!(decode(Encoding::Yaml, b"a: [", "Pod").unwrap_err().code, 400);
        assert_eq!(decode(Encoding::Yaml, b"\xff", "Pod").unwrap_err().code, 400);
    }

    #[test]
    fn yaml_bodies_are_objects_too() {
        let decoded = decode(Encoding::Yaml, b"kind: Pod\nspec: {replicas: 2, on: \"yes\"}\n", "Pod").unwrap();
        assert_eq!(decoded.value, json!({"kind": "Pod", "spec": {"replicas": 2, "on": "yes"}}));
    }

    #[test]
    fn unknown_media_types_are_refused_and_none_means_json() {
        let mut headers = HeaderMap::new();
        assert_eq!(encoding(&headers).unwrap(), Encoding::Json);
        headers.insert(CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        assert_eq!(encoding(&headers).unwrap(), Encoding::Json);
        headers.insert(CONTENT_TYPE, "text/plain".parse().unwrap());
        assert_eq!(encoding(&headers).unwrap_err().code, 415);
    }
}
