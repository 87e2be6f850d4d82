//! Protobuf messages as JSON, as Envoy prints them: names of fields as in the `.proto` files, and no secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use envoy::DESCRIPTORS;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, SerializeOptions};
use prost_types::Any;
use serde_json::{Map, Value};

/// The fields that hold secrets: those that Envoy's `.proto` files call sensitive, among the messages compiled here.
const SENSITIVE: &[&str] = &[
    "envoy.extensions.transport_sockets.tls.v3.TlsCertificate.private_key",
    "envoy.extensions.transport_sockets.tls.v3.TlsCertificate.pkcs12",
    "envoy.extensions.transport_sockets.tls.v3.TlsCertificate.password",
    "envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys.keys",
    "envoy.extensions.transport_sockets.tls.v3.GenericSecret.secret",
    "envoy.extensions.transport_sockets.tls.v3.GenericSecret.secrets",
];

const REDACTED: &str = "[redacted]";

/// Prints messages. It is made for one answer, because the descriptors of all messages are larger than the proxy.
pub(super) struct Printer(DescriptorPool);

impl Printer {
    pub(super) fn new() -> Printer {
        Printer(DescriptorPool::decode(DESCRIPTORS).expect("the descriptors are whole"))
    }

    /// A message with its type, in `@type`. One of a type that is not known is shown by its bytes.
    pub(super) fn any(&self, any: &Any) -> Value {
        self.typed(&any.type_url, &any.value, false)
    }

    /// A message of the type `name` without its type.
    pub(super) fn message(&self, name: &str, message: &impl prost::Message) -> Value {
        let mut value = self.typed(name, &message.encode_to_vec(), false);
        if let Value::Object(fields) = &mut value {
            fields.remove("@type");
        }
        value
    }

    fn typed(&self, type_url: &str, bytes: &[u8], redact: bool) -> Value {
        let name = type_url.rsplit('/').next().unwrap_or_default();
        let decoded = self.0.get_message_by_name(name).and_then(|d| DynamicMessage::decode(d, bytes).ok());
        let shown = match decoded {
            Some(message) => self.dynamic(&message, redact),
            None => Value::String(if redact { REDACTED.to_owned() } else { STANDARD.encode(bytes) }),
        };
        let mut fields = match shown {
            Value::Object(fields) if !name.starts_with("google.protobuf.") => fields,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        fields.insert("@type".to_owned(), type_url.into());
        Value::Object(fields)
    }

    fn dynamic(&self, message: &DynamicMessage, redact: bool) -> Value {
        let descriptor = message.descriptor();
        match descriptor.full_name() {
            "google.protobuf.Any" => match message.transcode_to::<Any>() {
                Ok(any) => self.typed(&any.type_url, &any.value, redact),
                Err(_) => Value::Null,
            },
            // A duration out of bounds has no form in JSON.
            well_known if well_known.starts_with("google.protobuf.") => {
                let options = SerializeOptions::new().stringify_64_bit_integers(true);
                let value = message.serialize_with_options(serde_json::value::Serializer, &options);
                if redact { REDACTED.into() } else { value.unwrap_or(Value::Null) }
            }
            _ => {
                let fields = message.fields().map(|(field, value)| {
                    let redact = redact || SENSITIVE.contains(&field.full_name());
                    (field.name().to_owned(), self.field(&field, value, redact))
                });
                Value::Object(fields.collect())
            }
        }
    }

    fn field(&self, field: &FieldDescriptor, value: &prost_reflect::Value, redact: bool) -> Value {
        use prost_reflect::Value as P;
        match value {
            P::Message(message) => self.dynamic(message, redact),
            P::List(values) => values.iter().map(|v| self.field(field, v, redact)).collect(),
            P::Map(values) => self.map(field, values.iter(), redact),
            P::Bytes(bytes) => STANDARD.encode(if redact { REDACTED.as_bytes() } else { bytes }).into(),
            _ if redact => REDACTED.into(),
            P::Bool(b) => (*b).into(),
            P::I32(n) => (*n).into(),
            P::U32(n) => (*n).into(),
            P::I64(n) => n.to_string().into(),
            P::U64(n) => n.to_string().into(),
            P::F32(n) => float(f64::from(*n)),
            P::F64(n) => float(*n),
            P::String(text) => text.as_str().into(),
            P::EnumNumber(number) => match field.kind() {
                Kind::Enum(e) => e.get_value(*number).map_or_else(|| (*number).into(), |v| v.name().into()),
                _ => (*number).into(),
            },
        }
    }

    fn map<'a>(
        &self,
        field: &FieldDescriptor,
        values: impl Iterator<Item = (&'a MapKey, &'a prost_reflect::Value)>,
        redact: bool,
    ) -> Value {
        let Kind::Message(entry) = field.kind() else { return Value::Null };
        let of = entry.map_entry_value_field();
        let fields = values.map(|(key, value)| {
            let key = match key {
                MapKey::Bool(b) => b.to_string(),
                MapKey::I32(n) => n.to_string(),
                MapKey::I64(n) => n.to_string(),
                MapKey::U32(n) => n.to_string(),
                MapKey::U64(n) => n.to_string(),
                MapKey::String(text) => text.clone(),
            };
            (key, self.field(&of, value, redact))
        });
        Value::Object(fields.collect())
    }
}

/// JSON has no infinities.
fn float(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sensitive_fields_exist() {
        let pool = Printer::new().0;
        for name in SENSITIVE {
            let (message, field) = name.rsplit_once('.').unwrap();
            assert!(pool.get_message_by_name(message).unwrap().get_field_by_name(field).is_some(), "{name}");
        }
    }

    #[test]
    fn a_message_of_unknown_type_is_shown_by_its_bytes() {
        let any = Any { type_url: "type.googleapis.com/x.Y".to_owned(), value: b"ab".to_vec() };
        assert_eq!(Printer::new().any(&any), serde_json::json!({"@type": "type.googleapis.com/x.Y", "value": "YWI="}));
    }
}
