//! What a container must be.

use std::collections::BTreeSet;

use api::{Cause, name};
use serde_json::Value;

use super::field::Field;

/// Checks one container; `volumes` are those of its pod.
pub(super) fn check(container: &Field<'_>, init: bool, volumes: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    causes.extend(container.get("name").named(name::check_label));
    let image = container.get("image");
    if image.is_empty() {
        causes.push(image.required(""));
    } else if image.str().trim() != image.str() {
        causes.push(image.invalid("must not have leading or trailing whitespace"));
    }
    causes.extend(container.get("imagePullPolicy").one_of(&["Always", "IfNotPresent", "Never"]));
    check_ports(&container.get("ports"), causes);
    check_environment(container, causes);
    check_mounts(&container.get("volumeMounts"), volumes, causes);
    check_probes(container, init, causes);
    check_resources(&container.get("resources"), causes);
    let privileged = container.get("securityContext").get("privileged");
    if privileged.is_true() {
        causes.push(privileged.forbidden("disallowed by cluster policy: a pod has no privileges on this machine"));
    }
    let devices = container.get("volumeDevices");
    if devices.items().next().is_some() {
        causes.push(devices.forbidden("block devices are not supported"));
    }
}

fn check_ports(ports: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut names = BTreeSet::new();
    for port in ports.items() {
        causes.extend(port.get("containerPort").port());
        causes.extend(port.get("protocol").one_of(&["TCP", "UDP", "SCTP"]));
        let own = port.get("name");
        if !own.is_empty() {
            causes.extend(own.named(check_port_name));
            if !names.insert(own.str()) {
                causes.push(own.duplicate());
            }
        }
        let host = port.get("hostPort");
        if host.int().is_some_and(|n| n != 0) {
            causes.push(host.forbidden("host ports are not supported; use a Service of type NodePort"));
        }
    }
}

/// The name of a container's port: an IANA service name.
pub(super) fn check_port_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() > 15 {
        return Err("must be no more than 15 characters".to_owned());
    }
    if !name.chars().all(legal) {
        return Err("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.contains(|c: char| c.is_ascii_lowercase()) {
        return Err("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        return Err("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Err("must not begin or end with a hyphen".to_owned());
    }
    Ok(())
}

fn check_environment(container: &Field<'_>, causes: &mut Vec<Cause>) {
    const SOURCES: [&str; 4] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"];
    for variable in container.get("env").items() {
        causes.extend(variable.get("name").named(check_variable));
        let source = variable.get("valueFrom");
        if source.value.is_null() {
            continue;
        }
        if !variable.get("value").is_empty() {
            causes.push(source.invalid("may not be specified when `value` is not empty"));
        }
        let given: Vec<_> = SOURCES.iter().filter(|s| !source.get(s).value.is_null()).collect();
        match given.as_slice() {
            [] => causes.push(source.invalid(format!("must specify one of: {}", list_of(&SOURCES)))),
            [_] => check_source(&source, causes),
            _ => causes.push(source.invalid("may not have more than one field specified at a time")),
        }
    }
    for from in container.get("envFrom").items() {
        let sources = [from.get("configMapRef"), from.get("secretRef")];
        let given: Vec<_> = sources.iter().filter(|s| !s.value.is_null()).collect();
        match given.as_slice() {
            [one] => causes.extend(one.get("name").named(name::check_subdomain)),
            [] => causes.push(from.invalid("must specify one of: `configMapRef` or `secretRef`")),
            _ => causes.push(from.invalid("may not have more than one field specified at a time")),
        }
    }
}

fn check_source(source: &Field<'_>, causes: &mut Vec<Cause>) {
    for reference in ["configMapKeyRef", "secretKeyRef"] {
        let reference = source.get(reference);
        if !reference.value.is_null() {
            causes.extend(reference.get("name").named(name::check_subdomain));
            causes.extend(reference.get("key").named(super::check_config_key));
        }
    }
    let reference = source.get("fieldRef");
    if !reference.value.is_null() {
        let path = reference.get("fieldPath");
        if path.is_empty() {
            causes.push(path.required(""));
        } else if !is_field_path(path.str()) {
            let why = format!("error converting fieldPath: field label not supported: {}", path.str());
            causes.push(path.invalid(why));
        }
    }
}

/// The fields of a pod that a variable may show.
fn is_field_path(path: &str) -> bool {
    const PLAIN: [&str; 9] = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let subscript = |p: &str| path.strip_prefix(p).is_some_and(|k| k.starts_with("['") && k.ends_with("']"));
    PLAIN.contains(&path) || subscript("metadata.labels") || subscript("metadata.annotations")
}

fn check_variable(name: &str) -> Result<(), String> {
    let legal = |c: char| (' '..='~').contains(&c) && c != '=';
    if name.chars().all(legal) {
        return Ok(());
    }
    Err("a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned())
}

fn check_mounts(mounts: &Field<'_>, volumes: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    let mut paths = BTreeSet::new();
    for mount in mounts.items() {
        let volume = mount.get("name");
        if volume.is_empty() {
            causes.push(volume.required(""));
        } else if !volumes.contains(volume.str()) {
            let not_found = Cause { reason: "FieldValueNotFound", ..volume.invalid("") };
            causes.push(Cause { message: format!("Not found: {}", volume.value), ..not_found });
        }
        let path = mount.get("mountPath");
        if path.is_empty() {
            causes.push(path.required(""));
        } else if !paths.insert(path.str()) {
            causes.push(path.invalid("must be unique"));
        }
        let inner = mount.get("subPath");
        if inner.str().starts_with('/') {
            causes.push(inner.invalid("must be a relative path"));
        }
        if inner.str().split('/').any(|part| part == "..") {
            causes.push(inner.invalid("must not contain '..'"));
        }
    }
}

fn check_probes(container: &Field<'_>, init: bool, causes: &mut Vec<Cause>) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.get(name);
        if probe.value.is_null() {
            continue;
        }
        if init && container.get("restartPolicy").str() != "Always" {
            causes.push(probe.forbidden("may not be set for init containers without restartPolicy=Always"));
            continue;
        }
        check_handler(&probe, &["exec", "httpGet", "tcpSocket", "grpc"], causes);
        for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            causes.extend(probe.get(field).at_least(0));
        }
        let threshold = probe.get("successThreshold");
        if name != "readinessProbe" && threshold.int().is_some_and(|n| n != 1) {
            causes.push(threshold.invalid("must be 1"));
        }
    }
    for hook in ["postStart", "preStop"] {
        let handler = container.get("lifecycle").get(hook);
        if !handler.value.is_null() {
            check_handler(&handler, &["exec", "httpGet", "tcpSocket", "sleep"], causes);
        }
    }
}

fn check_handler(field: &Field<'_>, kinds: &[&str], causes: &mut Vec<Cause>) {
    let given: Vec<_> = kinds.iter().map(|k| field.get(k)).filter(|h| !h.value.is_null()).collect();
    let Some((first, more)) = given.split_first() else {
        causes.push(field.required("must specify a handler type"));
        return;
    };
    for handler in more {
        causes.push(handler.forbidden("may not specify more than 1 handler type"));
    }
    if first.path.ends_with("exec") && first.get("command").items().next().is_none() {
        causes.push(first.get("command").required(""));
    }
    if first.path.ends_with("httpGet") {
        causes.extend(first.get("scheme").one_of(&["HTTP", "HTTPS"]));
    }
    if ["httpGet", "tcpSocket", "grpc"].iter().any(|k| first.path.ends_with(k)) {
        check_target(&first.get("port"), causes);
    }
}

/// Checks a port given by number or by name.
pub(super) fn check_target(port: &Field<'_>, causes: &mut Vec<Cause>) {
    if port.value.is_string() {
        causes.extend(port.named(check_port_name));
    } else {
        causes.extend(port.port());
    }
}

fn check_resources(resources: &Field<'_>, causes: &mut Vec<Cause>) {
    for list in ["limits", "requests"] {
        for (_, quantity) in resources.get(list).entries() {
            match quantity_of(quantity.value) {
                None => causes.push(quantity.invalid(QUANTITY)),
                Some(n) if n < 0.0 => causes.push(quantity.invalid("must be greater than or equal to 0")),
                Some(_) => {}
            }
        }
    }
    for (resource, request) in resources.get("requests").entries() {
        let limit = &resources.value["limits"][resource];
        if let (Some(wanted), Some(most)) = (quantity_of(request.value), quantity_of(limit))
            && wanted > most
        {
            let limit = limit.as_str().map_or_else(|| limit.to_string(), str::to_owned);
            causes.push(request.invalid(format!("must be less than or equal to {resource} limit of {limit}")));
        }
    }
}

const QUANTITY: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The value of a quantity such as `100m` or `1.5Gi`.
pub(super) fn quantity_of(value: &Value) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let Some(text) = value.as_str() else { return value.as_f64() };
    let suffix = SUFFIXES.iter().find_map(|(s, factor)| text.strip_suffix(s).map(|number| (number, *factor)));
    let (number, factor) = suffix.unwrap_or((text, 1.0));
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    number.parse::<f64>().ok().filter(|n| plain && n.is_finite()).map(|n| n * factor)
}

fn list_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn causes(container: Value, init: bool) -> Vec<String> {
        let mut causes = Vec::new();
        let field = Field { path: "c".to_owned(), value: &container };
        check(&field, init, &BTreeSet::from(["data"]), &mut causes);
        causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
    }

    fn with(field: &str, value: Value) -> Vec<String> {
        let mut container = json!({"name": "a", "image": "a", "imagePullPolicy": "Always"});
        container[field] = value;
        causes(container, false)
    }

    #[test]
    fn a_container_needs_a_name_and_an_image() {
        let found = causes(json!({"imagePullPolicy": "Always"}), false);
        assert_eq!(found, ["c.name: Required value", "c.image: Required value"]);
    }

    #[test]
    fn a_probe_has_exactly_one_handler() {
        assert_eq!(
            with("readinessProbe", json!({})),
            ["c.readinessProbe: Required value: must specify a handler type"]
        );
        let two = json!({"tcpSocket": {"port": 1}, "exec": {"command": ["a"]}});
        assert_eq!(
            with("livenessProbe", two),
            ["c.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]
        );
        let named = json!({"tcpSocket": {"port": "http"}});
        assert!(with("startupProbe", named).is_empty());
    }

    #[test]
    fn mounts_name_a_volume_of_the_pod_and_a_path_of_their_own() {
        let mounts = json!([{"name": "data", "mountPath": "/a"}, {"name": "gone", "mountPath": "/a"}]);
        assert_eq!(
            with("volumeMounts", mounts),
            [
                "c.volumeMounts[1].name: Not found: \"gone\"",
                "c.volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique"
            ]
        );
    }

    #[test]
    fn variables_have_one_source_that_exists() {
        let both = json!([{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "spec.bogus"}}}]);
        let found = with("env", both);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].contains("field label not supported: spec.bogus"));
        let label = json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}]);
        assert!(with("env", label).is_empty());
    }

    #[test]
    fn quantities_are_read_with_their_suffixes() {
        assert_eq!(quantity_of(&json!("100m")), Some(0.1));
        assert_eq!(quantity_of(&json!("1Gi")), Some(1_073_741_824.0));
        assert_eq!(quantity_of(&json!(2)), Some(2.0));
        assert_eq!(quantity_of(&json!("1e3")), Some(1000.0));
        assert_eq!(quantity_of(&json!("lots")), None);
        assert_eq!(quantity_of(&json!("nan")), None);
    }
}
