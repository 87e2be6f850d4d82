//! Secrets and ConfigMaps.

use api::{ApiError, Cause, name};
use apiserver::{Operation, Review};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::field::{Field, default_text, object_at, remove, set};
use super::{check_config_key, check_name, verdict};

/// The most data that a Secret or ConfigMap may hold.
const LIMIT: usize = 1024 * 1024;

/// Defaults and validation of a Secret.
pub(super) fn review_secret(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete || !review.subresource.is_empty() {
        return Ok(());
    }
    write_text(review.object);
    default_text(review.object, "type", "Opaque");
    let mut causes: Vec<Cause> = check_name(review.name, name::check_subdomain).into_iter().collect();
    let data = Field::of(review.object, "data");
    check_secret(review.object, &data, &mut causes);
    if let Some(old) = review.old {
        causes.extend(Field::of(review.object, "type").unchanged(&old["type"]));
        check_immutable(old, review.object, &["data"], &mut causes);
    }
    verdict(review, "", "Secret", causes)
}

/// Moves `stringData`, which is write-only, into `data`.
fn write_text(secret: &mut Value) {
    let text = secret["stringData"].as_object().cloned();
    remove(secret, "stringData");
    let Some(text) = text else { return };
    if let Some(data) = object_at(secret, &["data"]) {
        for (key, value) in text {
            set(data, &key, STANDARD.encode(value.as_str().unwrap_or_default()));
        }
    }
}

fn check_secret(secret: &Value, data: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, value) in data.entries() {
        causes.extend(check_key(key, &value));
        match STANDARD.decode(value.str()) {
            Ok(bytes) => size += bytes.len(),
            Err(e) => causes.push(value.invalid(format!("must be base64: {e}"))),
        }
    }
    check_size(data, size, causes);
    let required: &[&str] = match secret["type"].as_str().unwrap_or_default() {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    for key in required.iter().filter(|key| data.value[**key].is_null()) {
        causes.push(Cause::required(format!("data[{key}]"), ""));
    }
    if secret["type"] == "kubernetes.io/service-account-token" {
        let account = &secret["metadata"]["annotations"]["kubernetes.io/service-account.name"];
        if account.as_str().is_none_or(str::is_empty) {
            causes.push(Cause::required("metadata.annotations[kubernetes.io/service-account.name]", ""));
        }
    }
}

/// Validation of a ConfigMap.
pub(super) fn review_config_map(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete || !review.subresource.is_empty() {
        return Ok(());
    }
    let mut causes: Vec<Cause> = check_name(review.name, name::check_subdomain).into_iter().collect();
    let (data, binary) = (Field::of(review.object, "data"), Field::of(review.object, "binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        causes.extend(check_key(key, &value));
        size += value.str().len();
        if !binary.value[key].is_null() {
            causes.push(value.invalid("duplicate of key present in binaryData"));
        }
    }
    for (key, value) in binary.entries() {
        causes.extend(check_key(key, &value));
        match STANDARD.decode(value.str()) {
            Ok(bytes) => size += bytes.len(),
            Err(e) => causes.push(value.invalid(format!("must be base64: {e}"))),
        }
    }
    let whole = Field { path: String::new(), value: data.value };
    check_size(&whole, size, &mut causes);
    if let Some(old) = review.old {
        check_immutable(old, review.object, &["data", "binaryData"], &mut causes);
    }
    verdict(review, "", "ConfigMap", causes)
}

/// The cause names the key, not its value, which may be secret.
fn check_key(key: &str, entry: &Field<'_>) -> Option<Cause> {
    check_config_key(key).err().map(|why| Cause::invalid(entry.path.clone(), &key.into(), why))
}

fn check_size(field: &Field<'_>, size: usize, causes: &mut Vec<Cause>) {
    if size > LIMIT {
        let message = format!("Too long: may not be more than {LIMIT} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", message, field: field.path.clone() });
    }
}

fn check_immutable(old: &Value, new: &Value, fields: &[&str], causes: &mut Vec<Cause>) {
    if old["immutable"] != Value::Bool(true) {
        return;
    }
    const WHY: &str = "field is immutable when `immutable` is set";
    if new["immutable"] != Value::Bool(true) {
        causes.push(Cause::forbidden("immutable", WHY));
    }
    for field in fields.iter().filter(|field| old[**field] != new[**field]) {
        causes.push(Cause::forbidden(*field, WHY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret_causes(secret: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check_secret(secret, &Field::of(secret, "data"), &mut causes);
        causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
    }

    #[test]
    fn string_data_is_written_over_data() {
        let mut secret = json!({"data": {"a": "eA=="}, "stringData": {"a": "y", "b": "z"}});
        write_text(&mut secret);
        assert_eq!(secret, json!({"data": {"a": "eQ==", "b": "eg=="}}));
    }

    #[test]
    fn a_tls_secret_has_a_certificate_and_a_key() {
        let secret = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}});
        assert_eq!(secret_causes(&secret), ["data[tls.key]: Required value"]);
    }

    #[test]
    fn keys_are_file_names_and_values_are_never_shown() {
        let secret = json!({"type": "Opaque", "data": {"a/b": "c2VjcmV0"}});
        let causes = secret_causes(&secret);
        assert!(causes[0].starts_with("data[a/b]: Invalid value: \"a/b\": a valid config key"), "{causes:?}");
    }

    #[test]
    fn what_is_immutable_stays() {
        let (old, new) = (json!({"immutable": true, "data": {"a": "b"}}), json!({"data": {"a": "c"}}));
        let mut causes = Vec::new();
        check_immutable(&old, &new, &["data"], &mut causes);
        assert_eq!(causes.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), ["immutable", "data"]);
    }
}
