//! What a pod's volumes must be, and which kinds there are.

use std::collections::BTreeSet;

use api::{Cause, name};

use super::field::Field;

const SUPPORTED: [&str; 6] = ["configMap", "downwardAPI", "emptyDir", "hostPath", "projected", "secret"];

/// Checks a pod's volumes and returns their names.
pub(super) fn check_all<'a>(volumes: &Field<'a>, causes: &mut Vec<Cause>) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for volume in volumes.items() {
        let own = volume.get("name");
        causes.extend(own.named(name::check_label));
        if !own.is_empty() && !names.insert(own.str()) {
            causes.push(own.duplicate());
        }
        check(&volume, causes);
    }
    names
}

fn check(volume: &Field<'_>, causes: &mut Vec<Cause>) {
    let sources = volume.value.as_object().into_iter().flatten();
    let sources: Vec<&str> = sources.filter(|(k, v)| *k != "name" && !v.is_null()).map(|(k, _)| k.as_str()).collect();
    match sources.as_slice() {
        [] => causes.push(volume.required("must specify a volume type")),
        [one] if SUPPORTED.contains(one) => check_source(one, &volume.get(one), causes),
        [one] => {
            let list = SUPPORTED.join(", ");
            causes
                .push(volume.get(one).forbidden(format!("volumes of this type are not supported; use one of {list}")));
        }
        [_, more, ..] => causes.push(volume.get(more).forbidden("may not specify more than 1 volume type")),
    }
}

fn check_source(kind: &str, source: &Field<'_>, causes: &mut Vec<Cause>) {
    match kind {
        "secret" => {
            causes.extend(source.get("secretName").named(name::check_subdomain));
            check_mode(&source.get("defaultMode"), causes);
            check_items(&source.get("items"), causes);
        }
        "configMap" => check_config(source, causes),
        "downwardAPI" => check_downward(source, causes),
        "projected" => check_projected(source, causes),
        "hostPath" => check_host_path(source, causes),
        _ => {}
    }
}

fn check_config(source: &Field<'_>, causes: &mut Vec<Cause>) {
    causes.extend(source.get("name").named(name::check_subdomain));
    check_mode(&source.get("defaultMode"), causes);
    check_items(&source.get("items"), causes);
}

fn check_downward(source: &Field<'_>, causes: &mut Vec<Cause>) {
    check_mode(&source.get("defaultMode"), causes);
    for item in source.get("items").items() {
        check_path(&item.get("path"), causes);
        if item.get("fieldRef").value.is_null() && item.get("resourceFieldRef").value.is_null() {
            causes.push(item.required("one of fieldRef and resourceFieldRef is required"));
        }
    }
}

fn check_projected(source: &Field<'_>, causes: &mut Vec<Cause>) {
    check_mode(&source.get("defaultMode"), causes);
    for part in source.get("sources").items() {
        let kinds = part.value.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null());
        let kinds: Vec<&str> = kinds.map(|(k, _)| k.as_str()).collect();
        match kinds.as_slice() {
            [kind @ ("secret" | "configMap")] => check_config(&part.get(kind), causes),
            ["downwardAPI"] => check_downward(&part.get("downwardAPI"), causes),
            ["serviceAccountToken"] => {
                let token = part.get("serviceAccountToken");
                check_path(&token.get("path"), causes);
                let seconds = token.get("expirationSeconds");
                if seconds.int().is_some_and(|n| n < 600) {
                    causes.push(seconds.invalid("may not specify a duration less than 10 minutes"));
                }
            }
            [other] => causes.push(part.get(other).forbidden(
                "sources of this type are not supported; use one of configMap, downwardAPI, secret, serviceAccountToken",
            )),
            [] => causes.push(part.required("must specify a source")),
            [_, more, ..] => causes.push(part.get(more).forbidden("may not specify more than 1 volume type")),
        }
    }
}

fn check_host_path(source: &Field<'_>, causes: &mut Vec<Cause>) {
    const TYPES: [&str; 5] = ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File"];
    let path = source.get("path");
    if path.is_empty() {
        causes.push(path.required(""));
    }
    if path.str().split('/').any(|part| part == "..") {
        causes.push(path.invalid("must not contain '..'"));
    }
    causes.extend(source.get("type").one_of(&TYPES));
}

fn check_items(items: &Field<'_>, causes: &mut Vec<Cause>) {
    for item in items.items() {
        let key = item.get("key");
        if key.is_empty() {
            causes.push(key.required(""));
        }
        check_path(&item.get("path"), causes);
        check_mode(&item.get("mode"), causes);
    }
}

fn check_mode(mode: &Field<'_>, causes: &mut Vec<Cause>) {
    if mode.int().is_some_and(|m| !(0..=0o777).contains(&m)) {
        causes.push(mode.invalid("must be a number between 0 and 0777 (octal), both inclusive"));
    }
}

fn check_path(path: &Field<'_>, causes: &mut Vec<Cause>) {
    if path.is_empty() {
        causes.push(path.required(""));
    } else if path.str().starts_with('/') {
        causes.push(path.invalid("must be a relative path"));
    } else if path.str().split('/').any(|part| part == "..") {
        causes.push(path.invalid("must not contain '..'"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn causes(volume: Value) -> Vec<String> {
        let volumes = json!({ "volumes": [volume] });
        let mut causes = Vec::new();
        check_all(&Field::of(&volumes, "volumes"), &mut causes);
        causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
    }

    #[test]
    fn volumes_that_a_machine_does_not_have_are_refused_by_name() {
        let found = causes(json!({"name": "a", "persistentVolumeClaim": {"claimName": "b"}}));
        assert_eq!(
            found,
            [
                "volumes[0].persistentVolumeClaim: Forbidden: volumes of this type are not supported; use one of configMap, \
              downwardAPI, emptyDir, hostPath, projected, secret"
            ]
        );
    }

    #[test]
    fn a_volume_has_one_source_and_paths_stay_inside() {
        assert_eq!(causes(json!({"name": "a"})), ["volumes[0]: Required value: must specify a volume type"]);
        assert_eq!(causes(json!({"name": "a", "emptyDir": {}, "secret": {"secretName": "s"}})).len(), 1);
        let escaping = json!({"name": "a", "configMap": {"name": "c", "items": [{"key": "k", "path": "../x"}]}});
        assert_eq!(
            causes(escaping),
            ["volumes[0].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'"]
        );
    }
}
