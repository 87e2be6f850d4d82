//! Roles and their bindings.

use api::{ApiError, Cause, name};
use apiserver::{Operation, Review};
use serde_json::Value;

use super::field::{Field, default_text, items_mut};
use super::{check_name, verdict};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Validation of a Role or ClusterRole.
pub(super) fn review(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete {
        return Ok(());
    }
    let cluster = &*review.resource.resource == "clusterroles";
    let mut causes: Vec<Cause> = check_name(review.name, name::check_path_segment).into_iter().collect();
    let rules = Field::of(review.object, "rules");
    rules.items().for_each(|rule| check_rule(&rule, cluster, &mut causes));
    verdict(review, GROUP, if cluster { "ClusterRole" } else { "Role" }, causes)
}

fn check_rule(rule: &Field<'_>, cluster: bool, causes: &mut Vec<Cause>) {
    let given = |field: &str| rule.get(field).items().next().is_some();
    if !given("verbs") {
        causes.push(rule.get("verbs").required("verbs must contain at least one value"));
    }
    if given("nonResourceURLs") {
        let urls = rule.get("nonResourceURLs");
        if !cluster {
            causes.push(urls.invalid("namespaced rules cannot apply to non-resource URLs"));
        }
        if given("apiGroups") || given("resources") || given("resourceNames") {
            causes.push(urls.invalid("rules cannot apply to both regular resources and non-resource URLs"));
        }
        return;
    }
    if !given("apiGroups") {
        causes.push(rule.get("apiGroups").required("resource rules must supply at least one api group"));
    }
    if !given("resources") {
        causes.push(rule.get("resources").required("resource rules must supply at least one resource"));
    }
}

/// Defaults and validation of a RoleBinding or ClusterRoleBinding.
pub(super) fn review_binding(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete {
        return Ok(());
    }
    let cluster = &*review.resource.resource == "clusterrolebindings";
    if let Some(reference) = review.object.get_mut("roleRef") {
        default_text(reference, "apiGroup", GROUP);
    }
    items_mut(review.object, "subjects").for_each(default_subject);
    let mut causes: Vec<Cause> = check_name(review.name, name::check_path_segment).into_iter().collect();
    check_binding(review.object, cluster, &mut causes);
    if let Some(old) = review.old
        && old["roleRef"] != review.object["roleRef"]
    {
        causes.push(Field::of(review.object, "roleRef").invalid("cannot change roleRef"));
    }
    verdict(review, GROUP, if cluster { "ClusterRoleBinding" } else { "RoleBinding" }, causes)
}

fn default_subject(subject: &mut Value) {
    let group = if subject["kind"] == "ServiceAccount" { "" } else { GROUP };
    if !group.is_empty() {
        default_text(subject, "apiGroup", group);
    }
}

fn check_binding(binding: &Value, cluster: bool, causes: &mut Vec<Cause>) {
    let reference = Field::of(binding, "roleRef");
    causes.extend(reference.get("apiGroup").one_of(&[GROUP]));
    let kinds: &[&str] = if cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
    causes.extend(reference.get("kind").one_of(kinds));
    causes.extend(reference.get("name").named(name::check_path_segment));
    let subjects = Field::of(binding, "subjects");
    for subject in subjects.items() {
        if subject.get("name").is_empty() {
            causes.push(subject.get("name").required(""));
        }
        let group = subject.get("apiGroup");
        match subject.get("kind").str() {
            "ServiceAccount" => {
                if !group.is_empty() {
                    causes.push(Cause::unsupported(group.path.clone(), group.value, &[""]));
                }
                if subject.get("namespace").is_empty() {
                    causes.push(subject.get("namespace").required(""));
                }
            }
            "User" | "Group" => causes.extend(group.one_of(&[GROUP])),
            _ => causes.extend(subject.get("kind").one_of(&["ServiceAccount", "User", "Group"])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn users_get_their_group_and_accounts_need_a_namespace() {
        let mut binding = json!({
            "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}],
        });
        items_mut(&mut binding, "subjects").for_each(default_subject);
        assert_eq!(binding["subjects"][0]["apiGroup"], GROUP);
        let mut causes = Vec::new();
        check_binding(&binding, false, &mut causes);
        assert_eq!(causes.len(), 1);
        assert_eq!(causes[0].field, "subjects[1].namespace");
    }

    #[test]
    fn a_rule_says_what_may_be_done_to_what() {
        let role = json!({"rules": [{"resources": ["pods"], "verbs": ["get"]}]});
        let mut causes = Vec::new();
        check_rule(&Field::of(&role, "rules").items().next().unwrap(), false, &mut causes);
        assert_eq!(causes[0].field, "rules[0].apiGroups");
    }
}
