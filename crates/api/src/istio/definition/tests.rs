use super::*;
use crate::istio::{self, Object, Spec};

/// A value that uses every field of a schema.
fn sample(schema: &Value) -> Value {
    let first = |key: &str| schema[key].as_array().and_then(|list| list.first()).cloned();
    match schema["type"].as_str().unwrap() {
        "object" if schema["additionalProperties"].is_object() => {
            json!({"80": sample(&schema["additionalProperties"])})
        }
        "object" if schema["x-kubernetes-preserve-unknown-fields"] == true => json!({"a": 1}),
        "object" => {
            let fields = schema["properties"].as_object().unwrap();
            // Of fields of which only one may be given it is the first; other spellings of a field are not beside it.
            let twice = ["jwks_uri", "enforcement_mode", "mirror_percent"];
            let alternatives = schema["oneOf"].as_array().into_iter().flatten();
            let others: Vec<_> = alternatives.filter_map(|a| a["required"][0].as_str()).skip(1).collect();
            let usable = |name: &str| !others.contains(&name) && !twice.contains(&name);
            let fields = fields.iter().filter(|(name, _)| usable(name));
            fields.map(|(name, schema)| (name.clone(), sample(schema))).collect()
        }
        "array" => json!([sample(&schema["items"])]),
        "string" => first("enum").unwrap_or_else(|| "1s".into()),
        "boolean" => true.into(),
        "integer" => 7.into(),
        "number" => 0.5.into(),
        other => panic!("{other}"),
    }
}

#[track_caller]
fn decodes<S: Spec>() {
    let definition = DEFINITIONS.iter().find(|d| (d.group, d.kind) == (S::GROUP, S::KIND)).unwrap();
    let object = json!({"metadata": {}, "spec": sample(&(definition.spec)().0)});
    if let Err(error) = Object::<S>::decode(object) {
        panic!("{}: {error}", S::KIND);
    }
}

#[test]
fn types_and_schemas_agree() {
    decodes::<istio::AuthorizationPolicy>();
    decodes::<istio::ClusterRbacConfig>();
    decodes::<istio::DestinationRule>();
    decodes::<istio::EnvoyFilter>();
    decodes::<istio::Gateway>();
    decodes::<istio::MeshPolicy>();
    decodes::<istio::PeerAuthentication>();
    decodes::<istio::Policy>();
    decodes::<istio::RbacConfig>();
    decodes::<istio::RequestAuthentication>();
    decodes::<istio::ServiceEntry>();
    decodes::<istio::ServiceRole>();
    decodes::<istio::ServiceRoleBinding>();
    decodes::<istio::Sidecar>();
    decodes::<istio::Telemetry>();
    decodes::<istio::VirtualService>();
    decodes::<istio::WorkloadEntry>();
}

#[test]
fn every_field_is_described() {
    fn check(schema: &Value, path: &str) {
        let fields = schema["properties"].as_object().into_iter().flatten();
        for (name, field) in fields {
            let path = format!("{path}.{name}");
            assert!(field["description"].as_str().is_some_and(|text| text.ends_with(['.', '…'])), "{path}");
            check(field, &path);
        }
        let inner = ["items", "additionalProperties"].into_iter().filter_map(|key| schema.get(key));
        inner.for_each(|inner| check(inner, path));
    }
    DEFINITIONS.iter().for_each(|definition| check(&(definition.spec)().0, definition.kind));
}

#[test]
fn columns_are_istios() {
    let columns = |kind: &str| {
        let definition = DEFINITIONS.iter().find(|d| d.kind == kind).unwrap();
        let names = definition.printed().into_iter().map(|c| c["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(columns("VirtualService"), "Gateways Hosts Age");
    assert_eq!(columns("ServiceEntry"), "Hosts Location Resolution Age");
    assert_eq!(columns("WorkloadEntry"), "Age Address");
    assert_eq!(columns("Gateway"), "", "the API server's own, which is the age");
}
