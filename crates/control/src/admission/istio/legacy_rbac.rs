//! What the kinds of rbac.istio.io/v1alpha1 may say, in Istio 1.4's words.

use super::finding::{Findings, Subject, is_set, items, none_set, text};

/// The only name that the configuration may have.
const DEFAULT: &str = "default";

pub(super) fn check_role(subject: &Subject<'_>, findings: &mut Findings) {
    let rules = items(&subject.spec["rules"]);
    findings.refuse_if(rules.is_empty(), "at least 1 rule must be specified");
    for (index, rule) in rules.iter().enumerate() {
        let none = items(&rule["services"]).is_empty();
        findings.refuse_if(none, format_args!("at least 1 service must be specified for rule {index}"));
        for (place, constraint) in items(&rule["constraints"]).iter().enumerate() {
            let of = format!("constraint {place} in rule {index}");
            let empty = text(&constraint["key"]).is_empty();
            findings.refuse_if(empty, format_args!("key cannot be empty for {of}"));
            let none = items(&constraint["values"]).is_empty();
            findings.refuse_if(none, format_args!("at least 1 value must be specified for {of}"));
        }
    }
}

pub(super) fn check_binding(subject: &Subject<'_>, findings: &mut Findings) {
    const FIELDS: [&str; 10] =
        ["user", "group", "names", "notNames", "groups", "notGroups", "namespaces", "notNamespaces", "ips", "notIps"];
    let spec = subject.spec;
    let subjects = items(&spec["subjects"]);
    findings.refuse_if(subjects.is_empty(), "at least 1 subject must be specified");
    for (index, subject) in subjects.iter().enumerate() {
        let properties = subject["properties"].as_object().is_some_and(|all| !all.is_empty());
        let empty = !properties && none_set(subject, &FIELDS);
        let why = format!("empty subjects are not allowed. Found an empty subject at index {index}");
        findings.refuse_if(empty, why);
    }
    let ways = ["roleRef", "role", "actions"].iter().filter(|field| is_set(&spec[**field])).count();
    findings.refuse_if(ways != 1, "exactly one of `roleRef`, `role`, or `actions` must be specified");
    if spec["roleRef"].is_object() {
        let kind = text(&spec["roleRef"]["kind"]);
        let why = format!("kind set to {kind:?}, currently the only supported value is \"ServiceRole\"");
        findings.refuse_if(kind != "ServiceRole", why);
        findings.refuse_if(text(&spec["roleRef"]["name"]).is_empty(), "`name` in `roleRef` cannot be empty");
    }
}

pub(super) fn check_config(subject: &Subject<'_>, findings: &mut Findings) {
    check_named(subject, "RbacConfig", findings);
    findings.warn_if(true, "RbacConfig is deprecated: use ClusterRbacConfig, or AuthorizationPolicy");
}

pub(super) fn check_cluster_config(subject: &Subject<'_>, findings: &mut Findings) {
    check_named(subject, "ClusterRbacConfig", findings);
}

fn check_named(subject: &Subject<'_>, kind: &str, findings: &mut Findings) {
    let Subject { name, spec, .. } = subject;
    findings.refuse_if(*name != DEFAULT, format_args!("{kind} has invalid name({name}), name must be {DEFAULT:?}"));
    let missing = |field: &str| !spec[field].is_object();
    let mode = text(&spec["mode"]);
    let why = "inclusion cannot be null (use 'inclusion: {}' if none)";
    findings.refuse_if(mode == "ON_WITH_INCLUSION" && missing("inclusion"), why);
    let why = "exclusion cannot be null (use 'exclusion: {}' if none)";
    findings.refuse_if(mode == "ON_WITH_EXCLUSION" && missing("exclusion"), why);
}
