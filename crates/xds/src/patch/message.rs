//! Envoy's messages as users write them.
//!
//! Values are read as leniently as Envoy reads its own configuration, and in the forms that it had before: one item stands
//! for a list of it, `config` for a typed configuration. What is made of them is always the same bytes: maps are sorted.

use std::sync::LazyLock;

use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value as Field,
};
use serde_json::{Map, Value, json};

use super::name;

/// Every message that is known. They come with this program, so that they can be read.
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(envoy::DESCRIPTORS).unwrap_or_else(|_| DescriptorPool::new()));

const ANY: &str = "google.protobuf.Any";
const TYPE: &str = "@type";

/// A message by its full name.
pub(super) fn descriptor(name: &str) -> Result<MessageDescriptor, String> {
    POOL.get_message_by_name(name).ok_or_else(|| format!("the message {name} is not known here"))
}

/// The names of a package's messages, without the package.
pub(super) fn names_in(package: &str) -> impl Iterator<Item = String> {
    let own = POOL.all_messages().filter(move |m| m.package_name() == package && m.parent_message().is_none());
    own.map(|message| message.name().to_owned())
}

/// Reads a value as a message.
pub(super) fn read(name: &str, mut value: Value) -> Result<DynamicMessage, String> {
    let descriptor = descriptor(name)?;
    normalize(&descriptor, &mut value)?;
    DynamicMessage::deserialize(descriptor, value).map_err(|error| error.to_string())
}

/// A message of which the type is not known when this is compiled.
pub(super) fn dynamic<M: Message>(name: &str, message: &M) -> Result<DynamicMessage, String> {
    let bytes = message.encode_to_vec();
    DynamicMessage::decode(descriptor(name)?, bytes.as_slice()).map_err(|error| error.to_string())
}

/// The JSON form of a message.
#[cfg(test)]
pub(crate) fn as_json<M: Message>(name: &str, message: &M) -> Result<Value, String> {
    serde_json::to_value(dynamic(name, message)?).map_err(|error| error.to_string())
}

/// A message of a type that is.
pub(super) fn typed<M: Message + Default>(message: &DynamicMessage) -> Result<M, String> {
    M::decode(canonical(message).as_slice()).map_err(|error| error.to_string())
}

/// Merges as protobuf does: lists grow, and what is set is replaced, but for messages, which are merged in turn. A message
/// inside `Any` is one, too; a well-known type is not.
pub(super) fn merge(target: &mut DynamicMessage, patch: &DynamicMessage) -> Result<(), String> {
    if target.descriptor().full_name() == ANY {
        return merge_any(target, patch);
    }
    for (field, value) in patch.fields() {
        match (target.get_field_mut(&field), value) {
            (Field::List(own), Field::List(more)) => own.extend(more.iter().cloned()),
            (Field::Map(own), Field::Map(more)) => own.extend(more.iter().map(|(k, v)| (k.clone(), v.clone()))),
            (Field::Message(own), Field::Message(more)) if !is_well_known(&more.descriptor()) => merge(own, more)?,
            (own, value) => own.clone_from(value),
        }
    }
    Ok(())
}

fn is_well_known(descriptor: &MessageDescriptor) -> bool {
    descriptor.full_name() != ANY && descriptor.package_name() == "google.protobuf"
}

fn merge_any(target: &mut DynamicMessage, patch: &DynamicMessage) -> Result<(), String> {
    match (unpack(target), unpack(patch)) {
        (Some(mut own), Some(more)) if own.descriptor() == more.descriptor() => {
            merge(&mut own, &more)?;
            target.set_field_by_name("value", Field::Bytes(Bytes::from(canonical(&own))));
        }
        _ => target.clone_from(patch),
    }
    Ok(())
}

/// The message inside an `Any`, if its type is known.
fn unpack(any: &DynamicMessage) -> Option<DynamicMessage> {
    let (url, bytes) = (any.get_field_by_name("type_url")?, any.get_field_by_name("value")?);
    let name = url.as_str()?.rsplit('/').next()?;
    DynamicMessage::decode(descriptor(name).ok()?, bytes.as_bytes()?.clone()).ok()
}

/// The bytes of a message, in the order of fields and keys.
fn canonical(message: &DynamicMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let inner = (message.descriptor().full_name() == ANY).then(|| unpack(message)).flatten();
    let mut fields: Vec<(FieldDescriptor, &Field)> = message.fields().collect();
    fields.sort_by_key(|(field, _)| field.number());
    for (field, value) in fields {
        match (&inner, field.name()) {
            (Some(inner), "value") => encode_delimited(field.number(), &canonical(inner), &mut bytes),
            _ => encode(message.descriptor(), &field, value, &mut bytes),
        }
    }
    bytes
}

fn encode(parent: MessageDescriptor, field: &FieldDescriptor, value: &Field, bytes: &mut Vec<u8>) {
    match value {
        Field::Message(message) => encode_delimited(field.number(), &canonical(message), bytes),
        Field::List(items) if matches!(field.kind(), Kind::Message(_)) => {
            let messages = items.iter().filter_map(Field::as_message);
            messages.for_each(|message| encode_delimited(field.number(), &canonical(message), bytes));
        }
        Field::Map(entries) => {
            let Kind::Message(entry) = field.kind() else { return };
            let mut encoded: Vec<Vec<u8>> =
                entries.iter().map(|(key, value)| encode_entry(&entry, key, value)).collect();
            encoded.sort();
            encoded.iter().for_each(|entry| encode_delimited(field.number(), entry, bytes));
        }
        scalar => {
            let mut alone = DynamicMessage::new(parent);
            alone.set_field(field, scalar.clone());
            bytes.extend(alone.encode_to_vec());
        }
    }
}

fn encode_entry(entry: &MessageDescriptor, key: &MapKey, value: &Field) -> Vec<u8> {
    let mut alone = DynamicMessage::new(entry.clone());
    alone.set_field(&entry.map_entry_key_field(), key.clone().into());
    let mut bytes = alone.encode_to_vec();
    encode(entry.clone(), &entry.map_entry_value_field(), value, &mut bytes);
    bytes
}

fn encode_delimited(number: u32, content: &[u8], bytes: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, bytes);
    encode_varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

/// Brings a value into the form that the message has today.
fn normalize(descriptor: &MessageDescriptor, value: &mut Value) -> Result<(), String> {
    let name = descriptor.full_name();
    if name == ANY {
        return normalize_any(value);
    }
    if is_well_known(descriptor) {
        return Ok(());
    }
    let Value::Object(fields) = value else { return Ok(()) };
    if let Some(kind) = name::kind(name) {
        type_configuration(kind, fields);
    }
    match name {
        "envoy.config.route.v3.HeaderMatcher" => match_text(fields),
        "envoy.type.matcher.v3.StringMatcher" => {
            if let Some(Value::String(regex)) = fields.get("regex").cloned() {
                fields.remove("regex");
                fields.insert("safe_regex".to_owned(), json!({ "regex": regex }));
            }
        }
        _ => {}
    }
    for (key, value) in fields.iter_mut() {
        let field = descriptor.get_field_by_name(key).or_else(|| descriptor.get_field_by_json_name(key));
        let Some(field) = field else { continue };
        if field.is_list() && !value.is_array() && !value.is_null() {
            *value = json!([value.take()]);
        }
        let Kind::Message(inner) = field.kind() else { continue };
        match value {
            Value::Object(entries) if field.is_map() => {
                if let Kind::Message(inner) = inner.map_entry_value_field().kind() {
                    entries.values_mut().try_for_each(|value| normalize(&inner, value))?;
                }
            }
            Value::Array(items) if field.is_list() => {
                items.iter_mut().try_for_each(|value| normalize(&inner, value))?;
            }
            value => normalize(&inner, value)?,
        }
    }
    Ok(())
}

fn normalize_any(value: &mut Value) -> Result<(), String> {
    let url = value[TYPE].as_str().unwrap_or_default();
    let name = url.rsplit('/').next().unwrap_or_default();
    if matches!(name, "udpa.type.v1.TypedStruct" | "xds.type.v3.TypedStruct") {
        let named = value["type_url"].as_str().or(value["typeUrl"].as_str()).unwrap_or_default().to_owned();
        let mut inner = value["value"].take();
        if !inner.is_object() {
            inner = json!({});
        }
        inner[TYPE] = named.into();
        *value = inner;
        return normalize_any(value);
    }
    if name.is_empty() {
        return Err("a typed configuration needs an @type".to_owned());
    }
    let name = name::current_type(name).into_owned();
    let descriptor = descriptor(&name)?;
    value[TYPE] = format!("type.googleapis.com/{name}").into();
    normalize(&descriptor, value)
}

/// The name of today, and a typed configuration where one without a type is, or none at all.
fn type_configuration(kind: &str, fields: &mut Map<String, Value>) {
    let Some(Value::String(named)) = fields.get_mut("name") else { return };
    *named = name::current(kind, named).into_owned();
    let Some(message) = name::type_of(named) else { return };
    if ["typed_config", "typedConfig", "config_discovery", "configDiscovery"].iter().any(|f| fields.contains_key(*f)) {
        return;
    }
    let mut config = fields.remove("config").filter(Value::is_object).unwrap_or_else(|| json!({}));
    config[TYPE] = format!("type.googleapis.com/{message}").into();
    fields.insert("typed_config".to_owned(), config);
}

/// A header's value was once matched by fields of their own.
fn match_text(fields: &mut Map<String, Value>) {
    const OLD: [(&str, &str, &str); 4] = [
        ("exact_match", "exactMatch", "exact"),
        ("prefix_match", "prefixMatch", "prefix"),
        ("suffix_match", "suffixMatch", "suffix"),
        ("contains_match", "containsMatch", "contains"),
    ];
    let mut matcher = None;
    for (snake, camel, now) in OLD {
        if let Some(text) = fields.remove(snake).or_else(|| fields.remove(camel)) {
            matcher = Some(json!({ now: text }));
        }
    }
    if let Some(regex) = fields.remove("regex_match").or_else(|| fields.remove("regexMatch")) {
        matcher = Some(json!({ "safe_regex": { "regex": regex } }));
    }
    if let Some(regex) = fields.remove("safe_regex_match").or_else(|| fields.remove("safeRegexMatch")) {
        matcher = Some(json!({ "safe_regex": regex }));
    }
    if let Some(matcher) = matcher {
        fields.insert("string_match".to_owned(), matcher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = "envoy.config.listener.v3.Filter";

    /// As the walkthroughs of Istio 1.2 to 1.4 write it.
    fn rbac() -> Value {
        json!({"name": "envoy.filters.network.rbac", "config": {"stat_prefix": "tcp.", "rules": {"policies": {
            "b": {"permissions": {"and_rules": {"rules": [{"destination_port": 31400}]}},
                  "principals": [{"authenticated": {"principal_name": {"exact": "spiffe://a"}}}]},
            "a": {"permissions": [{"any": true}], "principals": {"any": true}},
            "c": {"permissions": [{"any": true}], "principals": {"any": true}}}}}})
    }

    #[test]
    fn what_is_written_leniently_is_read() {
        let filter = read(NETWORK, rbac()).unwrap();
        let filter: envoy::envoy::config::listener::v3::Filter = typed(&filter).unwrap();
        let Some(envoy::envoy::config::listener::v3::filter::ConfigType::TypedConfig(any)) = filter.config_type else {
            panic!("{filter:?}")
        };
        let rbac = envoy::envoy::extensions::filters::network::rbac::v3::Rbac::decode(any.value.as_slice()).unwrap();
        assert_eq!(rbac.rules.unwrap().policies["b"].permissions.len(), 1);
    }

    #[test]
    fn equal_values_make_equal_bytes() {
        let first = canonical(&read(NETWORK, rbac()).unwrap());
        assert!((0..20).all(|_| canonical(&read(NETWORK, rbac()).unwrap()) == first));
    }

    #[test]
    fn old_header_matchers_are_read() {
        let header = json!({"name": ":path", "prefix_match": "/a"});
        let header = read("envoy.config.route.v3.HeaderMatcher", header).unwrap();
        let text = header.get_field_by_name("string_match").unwrap();
        assert_eq!(text.as_message().unwrap().get_field_by_name("prefix").unwrap().as_str(), Some("/a"));
    }

    #[test]
    fn mistakes_are_named() {
        let error = read(NETWORK, json!({"name": "x", "typed_config": {"@type": "a/b.C"}})).unwrap_err();
        assert_eq!(error, "the message b.C is not known here");
        assert!(read(NETWORK, json!({"nam": "x"})).unwrap_err().contains("nam"));
    }

    #[test]
    fn lists_grow_and_inner_messages_merge() {
        let cluster = "envoy.config.cluster.v3.Cluster";
        let mut target = read(
            cluster,
            json!({"name": "a", "connect_timeout": "1s", "circuit_breakers": {"thresholds": [{}]},
            "metadata": {"filter_metadata": {"x": {"k": "v"}}}}),
        )
        .unwrap();
        let patch = json!({"connect_timeout": "0.5s", "circuit_breakers": {"thresholds": {"max_requests": 1}}});
        merge(&mut target, &read(cluster, patch).unwrap()).unwrap();
        let merged: envoy::envoy::config::cluster::v3::Cluster = typed(&target).unwrap();
        assert_eq!(merged.name, "a");
        assert_eq!(merged.connect_timeout.unwrap().seconds, 0);
        assert_eq!(merged.circuit_breakers.unwrap().thresholds.len(), 2);
        assert!(merged.metadata.unwrap().filter_metadata.contains_key("x"));
    }
}
