//! Pods.

use api::{ApiError, Cause, name};
use apiserver::{Operation, Review};
use serde_json::{Value, json};

use super::container::quantity_of;
use super::field::{Field, default, items_mut, object_at, set};
use super::{account, pod_defaults, pod_spec, verdict};

/// Defaults, the service account, and validation of a pod.
pub(super) fn review(review: &mut Review<'_>) -> Result<(), ApiError> {
    match (review.operation, review.subresource) {
        (Operation::Create, "") => create(review)?,
        (Operation::Update, "") => update(review.old, review.object),
        _ => return Ok(()),
    }
    let spec = Field::of(review.object, "spec");
    let mut causes = Vec::new();
    causes.extend(super::check_name(review.name, name::check_subdomain));
    pod_spec::check(&spec, &mut causes);
    if let Some(old) = review.old {
        causes.extend(pod_spec::check_update(&old["spec"], spec.value));
    } else {
        pod_spec::warn(&spec, review.warnings);
    }
    verdict(review, "", "Pod", causes)
}

fn create(review: &mut Review<'_>) -> Result<(), ApiError> {
    let Some(spec) = object_at(review.object, &["spec"]) else { return Ok(()) };
    pod_defaults::pod_spec(spec);
    pod_defaults::pod_only(spec);
    tolerate_node_conditions(spec);
    if let Err(class) = priority(spec) {
        let why = format!("no PriorityClass with name {class} was found");
        return Err(ApiError::forbidden("", "pods", review.name, &why));
    }
    account::inject(review)?;
    let class = quality_of_service(&review.object["spec"]);
    set(review.object, "status", json!({ "phase": "Pending", "qosClass": class }));
    Ok(())
}

/// A client that leaves out what admission added, as server-side apply does with fields it owns and is not given,
/// does not mean to remove it.
fn update(old: Option<&Value>, pod: &mut Value) {
    const ADDED: [&str; 5] = ["serviceAccountName", "nodeName", "tolerations", "priority", "preemptionPolicy"];
    let Some(spec) = object_at(pod, &["spec"]) else { return };
    if let Some(old) = old {
        let kept = ADDED.iter().filter_map(|field| Some((field, old["spec"].get(*field)?)));
        kept.for_each(|(field, value)| default(spec, field, value.clone()));
        account::keep_token(&old["spec"], spec);
    }
    pod_defaults::pod_spec(spec);
    pod_defaults::pod_only(spec);
    tolerate_node_conditions(spec);
}

/// What the `DefaultTolerationSeconds` plugin adds: a pod stays five minutes on a node that fails.
fn tolerate_node_conditions(spec: &mut Value) {
    default(spec, "tolerations", json!([]));
    let Some(tolerations) = spec["tolerations"].as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |t: &Value| {
            let any_effect = matches!(t["effect"].as_str(), None | Some("" | "NoExecute"));
            let any_key = matches!(t["key"].as_str(), None | Some(""));
            any_effect && (any_key || t["key"] == key)
        };
        if !tolerations.iter().any(covers) {
            tolerations
                .push(json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }));
        }
    }
}

/// Resolves the priority class; there are only the two that Kubernetes brings. `Err` is an unknown one.
fn priority(spec: &mut Value) -> Result<(), String> {
    let value = match spec["priorityClassName"].as_str().unwrap_or_default() {
        "" => 0,
        "system-cluster-critical" => 2_000_000_000,
        "system-node-critical" => 2_000_001_000,
        other => return Err(other.to_owned()),
    };
    set(spec, "priority", value);
    default(spec, "preemptionPolicy", "PreemptLowerPriority");
    Ok(())
}

fn quality_of_service(spec: &Value) -> &'static str {
    let lists = ["initContainers", "containers"];
    let containers = || lists.iter().flat_map(|l| spec[*l].as_array().into_iter().flatten());
    let amount = |c: &Value, list: &str, resource: &str| quantity_of(&c["resources"][list][resource]);
    let guaranteed = |c: &Value, resource: &str| {
        let limit = amount(c, "limits", resource);
        limit.is_some() && amount(c, "requests", resource).is_none_or(|r| Some(r) == limit)
    };
    let resources = ["cpu", "memory"];
    let asks =
        |c: &Value| resources.iter().any(|r| amount(c, "limits", r).is_some() || amount(c, "requests", r).is_some());
    if !containers().any(asks) {
        "BestEffort"
    } else if containers().all(|c| resources.iter().all(|r| guaranteed(c, r))) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Defaults of the pod template at `template`.
pub(super) fn default_template(template: &mut Value) {
    if let Some(metadata) = object_at(template, &["metadata"])
        && metadata["creationTimestamp"].is_null()
    {
        super::field::remove(metadata, "creationTimestamp");
    }
    if let Some(spec) = object_at(template, &["spec"]) {
        pod_defaults::pod_spec(spec);
    }
}

/// Validation of a pod template.
pub(super) fn check_template(template: &Field<'_>, causes: &mut Vec<Cause>) {
    for (key, value) in template.get("metadata").get("labels").entries() {
        if let Err(why) = name::check_qualified(key).and_then(|()| name::check_label_value(value.str())) {
            causes.push(template.get("metadata").get("labels").invalid(why));
        }
    }
    pod_spec::check(&template.get("spec"), causes);
}

/// Mounts `volume` at `path` in every container that mounts nothing there; whether any container needed it.
pub(super) fn mount_everywhere(spec: &mut Value, volume: &str, path: &str) -> bool {
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            default(container, "volumeMounts", json!([]));
            let Some(mounts) = container["volumeMounts"].as_array_mut() else { continue };
            if mounts.iter().all(|m| m["mountPath"] != path) {
                mounts.push(json!({ "name": volume, "readOnly": true, "mountPath": path }));
                mounted = true;
            }
        }
    }
    mounted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let class = |resources: Value| quality_of_service(&json!({ "containers": [{ "resources": resources }] }));
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
        let full = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(class(json!({"requests": full, "limits": full})), "Guaranteed");
    }

    #[test]
    fn only_the_image_of_a_pod_may_change() {
        let pod = |image: &str, node: &str, restart: &str| json!({"containers": [{"name": "a", "image": image}], "nodeName": node, "restartPolicy": restart});
        let check = |old: Value, new: Value| pod_spec::check_update(&old, &new);
        assert!(check(pod("a", "n", "Always"), pod("b", "n", "Always")).is_empty());
        assert!(!check(pod("a", "", "Always"), pod("a", "n", "Always")).is_empty(), "only a binding sets the node");
        let refused = check(pod("a", "n", "Always"), pod("a", "n", "Never"));
        assert!(refused[0].message.starts_with("Forbidden: pod updates may not change fields other than"));
    }

    #[test]
    fn what_admission_added_need_not_be_sent_again() {
        let plain = json!({"spec": {"containers": [{"name": "a", "image": "a:1"}]}});
        let mut old = plain.clone();
        pod_defaults::pod_spec(&mut old["spec"]);
        pod_defaults::pod_only(&mut old["spec"]);
        tolerate_node_conditions(&mut old["spec"]);
        priority(&mut old["spec"]).unwrap();
        set(&mut old["spec"], "nodeName", "n");
        set(&mut old["spec"], "volumes", json!([{"name": "kube-api-access-x", "projected": {"defaultMode": 420}}]));
        mount_everywhere(&mut old["spec"], "kube-api-access-x", "/token");
        let mut new = plain;
        update(Some(&old), &mut new);
        assert_eq!(new["spec"], old["spec"]);
    }

    #[test]
    fn tolerations_of_node_conditions_are_added_once() {
        let mut spec = json!({"tolerations": [{"operator": "Exists"}]});
        tolerate_node_conditions(&mut spec);
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 1);
        let mut spec = json!({});
        tolerate_node_conditions(&mut spec);
        tolerate_node_conditions(&mut spec);
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    }
}
