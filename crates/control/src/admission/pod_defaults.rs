//! What Kubernetes fills in in a pod's specification, alone or as a template (`pkg/apis/core/v1/defaults.go`).

use serde_json::{Value, json};

use super::field::{default, default_text, items_mut, object_at, set};

/// Defaults that a pod has in common with the template of a workload.
pub(super) fn pod_spec(spec: &mut Value) {
    default_text(spec, "restartPolicy", "Always");
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "schedulerName", "default-scheduler");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "securityContext", json!({}));
    mirror_account(spec);
    items_mut(spec, "volumes").for_each(volume);
    items_mut(spec, "initContainers").for_each(container);
    items_mut(spec, "containers").for_each(container);
}

/// Defaults of a pod alone, which a template does not get.
pub(super) fn pod_only(spec: &mut Value) {
    default(spec, "enableServiceLinks", true);
    for list in ["initContainers", "containers"] {
        items_mut(spec, list).for_each(requests_from_limits);
    }
}

/// `serviceAccount` is the deprecated spelling of `serviceAccountName`; Kubernetes shows both.
pub(super) fn mirror_account(spec: &mut Value) {
    let name = [&spec["serviceAccountName"], &spec["serviceAccount"]].into_iter().find_map(|v| v.as_str());
    if let Some(name) = name.filter(|n| !n.is_empty()).map(str::to_owned) {
        set(spec, "serviceAccountName", name.clone());
        set(spec, "serviceAccount", name);
    }
}

fn requests_from_limits(container: &mut Value) {
    let limits = container["resources"]["limits"].as_object().cloned().unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = object_at(container, &["resources", "requests"]) {
        limits.into_iter().for_each(|(name, quantity)| default(requests, &name, quantity));
    }
}

fn container(container: &mut Value) {
    default(container, "resources", json!({}));
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    let policy = pull_policy(container["image"].as_str().unwrap_or_default());
    default_text(container, "imagePullPolicy", policy);
    for port in items_mut(container, "ports") {
        default_text(port, "protocol", "TCP");
    }
    for variable in items_mut(container, "env") {
        if let Some(source) = variable.get_mut("valueFrom").and_then(|v| v.get_mut("fieldRef")) {
            default_text(source, "apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(value) = container.get_mut(name) {
            probe(value);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = container.get_mut("lifecycle").and_then(|l| l.get_mut(hook)) {
            http_get(handler);
        }
    }
}

/// `Always` for the tag `latest`, spelt out or implied; `IfNotPresent` for any other tag and for digests.
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn probe(probe: &mut Value) {
    for (key, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        default_number(probe, key, value);
    }
    if let Some(grpc) = probe.get_mut("grpc") {
        default(grpc, "service", "");
    }
    http_get(probe);
}

/// Probes treat zero as unset.
fn default_number(target: &mut Value, key: &str, value: i64) {
    if target[key].as_i64() == Some(0) {
        set(target, key, value);
    }
    default(target, key, value);
}

fn http_get(handler: &mut Value) {
    if let Some(get) = handler.get_mut("httpGet") {
        default_text(get, "path", "/");
        default_text(get, "scheme", "HTTP");
    }
}

fn volume(volume: &mut Value) {
    const MODE: i64 = 0o644;
    if volume.as_object().is_some_and(|v| v.len() == 1 && v.contains_key("name")) {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source) {
            default(source, "defaultMode", MODE);
        }
    }
    if let Some(path) = volume.get_mut("hostPath") {
        default(path, "type", "");
    }
    if let Some(downward) = volume.get_mut("downwardAPI") {
        field_references(downward);
    }
    let Some(projected) = volume.get_mut("projected") else { return };
    for source in items_mut(projected, "sources") {
        if let Some(token) = source.get_mut("serviceAccountToken") {
            default(token, "expirationSeconds", 3600);
        }
        if let Some(downward) = source.get_mut("downwardAPI") {
            field_references(downward);
        }
    }
}

fn field_references(downward: &mut Value) {
    for item in items_mut(downward, "items") {
        if let Some(reference) = item.get_mut("fieldRef") {
            default_text(reference, "apiVersion", "v1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_pulled_again_only_if_they_may_have_changed() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn a_second_round_of_defaults_changes_nothing() {
        let mut spec = json!({
            "serviceAccountName": "me",
            "containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 80}],
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "resources": {"limits": {"cpu": "1"}},
                "readinessProbe": {"httpGet": {"port": 80}}}],
            "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "c"}},
                {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
        });
        pod_spec(&mut spec);
        pod_only(&mut spec);
        let container = &spec["containers"][0];
        assert_eq!(container["ports"][0]["protocol"], "TCP");
        assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
        assert_eq!(container["resources"]["requests"]["cpu"], "1");
        assert_eq!(container["readinessProbe"]["httpGet"]["scheme"], "HTTP");
        assert_eq!(container["readinessProbe"]["periodSeconds"], 10);
        assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(spec["volumes"][1]["configMap"]["defaultMode"], 420);
        assert_eq!(spec["volumes"][2]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3600);
        assert_eq!(spec["serviceAccount"], "me");
        let once = spec.clone();
        pod_spec(&mut spec);
        pod_only(&mut spec);
        assert_eq!(spec, once);
    }
}
