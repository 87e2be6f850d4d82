//! What a pod's specification must be, alone or as a template (`pkg/apis/core/validation`), and what a pod that
//! is a process on this machine cannot have.

use std::collections::BTreeSet;

use api::{Cause, name};
use serde_json::Value;

use super::container;
use super::field::Field;
use super::volume;

/// Everything that is wrong with the specification at `spec`.
pub(super) fn check(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let volumes = volume::check_all(&spec.get("volumes"), causes);
    check_containers(spec, &volumes, causes);
    causes.extend(spec.get("restartPolicy").one_of(&["Always", "OnFailure", "Never"]));
    causes.extend(spec.get("dnsPolicy").one_of(&["ClusterFirst", "Default", "None", "ClusterFirstWithHostNet"]));
    causes.extend(spec.get("terminationGracePeriodSeconds").at_least(0));
    check_deadline(&spec.get("activeDeadlineSeconds"), causes);
    for (field, rule) in [
        ("serviceAccountName", name::check_subdomain as fn(&str) -> Result<(), String>),
        ("nodeName", name::check_subdomain),
        ("hostname", name::check_label),
        ("subdomain", name::check_label),
    ] {
        let field = spec.get(field);
        if !field.is_empty() {
            causes.extend(field.named(rule));
        }
    }
    check_host_aliases(&spec.get("hostAliases"), causes);
    for (key, value) in spec.get("nodeSelector").entries() {
        if let Err(why) = name::check_qualified(key).and_then(|()| name::check_label_value(value.str())) {
            causes.push(value.invalid(why));
        }
    }
    check_unsupported(spec, causes);
}

/// Warnings about what is accepted and has no effect.
pub(super) fn warn(spec: &Field<'_>, warnings: &mut Vec<String>) {
    for field in ["runtimeClassName", "topologySpreadConstraints", "overhead"] {
        ignored(&spec.get(field), warnings);
    }
    for list in ["initContainers", "containers"] {
        for container in spec.get(list).items() {
            ignored(&container.get("resources").get("limits"), warnings);
        }
    }
}

fn ignored(field: &Field<'_>, warnings: &mut Vec<String>) {
    if !field.value.is_null() {
        warnings.push(format!("{}: has no effect: pods of this cluster are ordinary processes", field.path));
    }
}

fn check_containers(spec: &Field<'_>, volumes: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    let containers = spec.get("containers");
    if containers.items().next().is_none() {
        causes.push(containers.required(""));
    }
    let mut names = BTreeSet::new();
    for list in ["initContainers", "containers"] {
        for field in spec.get(list).items() {
            container::check(&field, list == "initContainers", volumes, causes);
            let own = field.get("name");
            if !own.is_empty() && !names.insert(own.str()) {
                causes.push(own.duplicate());
            }
        }
    }
}

fn check_deadline(deadline: &Field<'_>, causes: &mut Vec<Cause>) {
    if deadline.int().is_some_and(|n| !(1..=i64::from(i32::MAX)).contains(&n)) {
        causes.push(deadline.invalid("must be between 1 and 2147483647, inclusive"));
    }
}

fn check_host_aliases(aliases: &Field<'_>, causes: &mut Vec<Cause>) {
    for alias in aliases.items() {
        causes.extend(super::check_ip(&alias.get("ip")));
        for host in alias.get("hostnames").items() {
            causes.extend(host.named(name::check_subdomain));
        }
    }
}

fn check_unsupported(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        let field = spec.get(field);
        if field.is_true() {
            causes.push(field.forbidden("is not supported: a pod of this cluster always has namespaces of its own"));
        }
    }
    for (field, why) in [
        ("ephemeralContainers", "ephemeral containers are not supported; use kubectl exec"),
        ("resourceClaims", "dynamic resource allocation is not supported"),
        ("schedulingGates", "scheduling gates are not supported"),
    ] {
        let field = spec.get(field);
        if field.items().next().is_some() {
            causes.push(field.forbidden(why));
        }
    }
    let os = spec.get("os").get("name");
    if !os.is_empty() && os.str() != "linux" {
        causes.push(os.forbidden("only linux pods are supported"));
    }
}

/// Whether the update of a pod changes only what may be changed.
pub(super) fn check_update(old: &Value, new: &Value) -> Vec<Cause> {
    const ALLOWED: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
        `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
        tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    let mut causes = Vec::new();
    check_deadline_update(old, new, &mut causes);
    if !extends(&old["tolerations"], &new["tolerations"]) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(Cause::forbidden("spec.tolerations", why));
    }
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        for list in ["containers", "initContainers"] {
            super::field::items_mut(&mut spec, list).for_each(|c| super::field::remove(c, "image"));
        }
        for field in ["activeDeadlineSeconds", "tolerations"] {
            super::field::remove(&mut spec, field);
        }
        spec
    };
    if causes.is_empty() && fixed(old) != fixed(new) {
        causes.push(Cause::forbidden("spec", ALLOWED));
    }
    causes
}

fn check_deadline_update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let field = Field { path: "spec.activeDeadlineSeconds".to_owned(), value: &new["activeDeadlineSeconds"] };
    check_deadline(&field, causes);
    match (old["activeDeadlineSeconds"].as_i64(), field.int()) {
        (Some(old), Some(new)) if new > old => {
            causes.push(field.invalid("must be less than or equal to previous value"));
        }
        (Some(_), None) => causes.push(field.invalid("must not update from a positive integer to nil value")),
        _ => {}
    }
}

/// Whether every toleration of `old` is still in `new`, its seconds aside.
fn extends(old: &Value, new: &Value) -> bool {
    let bare = |toleration: &Value| {
        let mut toleration = toleration.clone();
        super::field::remove(&mut toleration, "tolerationSeconds");
        toleration
    };
    let new: Vec<Value> = new.as_array().into_iter().flatten().map(bare).collect();
    old.as_array().into_iter().flatten().map(bare).all(|t| new.contains(&t))
}
