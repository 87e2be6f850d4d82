//! Jobs.

use api::{ApiError, Cause, name};
use apiserver::{Operation, Review};
use serde_json::{Value, json};

use super::field::{Field, default, default_text, object_at, set};
use super::{check_name, pod, selector, verdict};

/// The labels that tie a Job's pods to it, the old spelling and the new.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// Defaults, the generated selector, and validation of a Job.
pub(super) fn review(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete || !review.subresource.is_empty() {
        return Ok(());
    }
    let uid = Field::of(review.object, "metadata").get("uid").str().to_owned();
    if let Some(spec) = object_at(review.object, &["spec"]) {
        defaults(spec);
        let generated = review.old.map(|old| &old["spec"]).is_none_or(|old| has_generated_selector(old, &uid));
        if spec["manualSelector"] != json!(true) && generated {
            generate_selector(spec, &uid, review.name);
        }
    }
    let spec = Field::of(review.object, "spec");
    let mut causes: Vec<Cause> = check_name(review.name, name::check_subdomain).into_iter().collect();
    check(&spec, &mut causes);
    if let Some(old) = review.old {
        check_update(&old["spec"], &spec, &mut causes);
    }
    verdict(review, "batch", "Job", causes)
}

fn defaults(spec: &mut Value) {
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        set(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    default_text(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default_text(spec, "podReplacementPolicy", "TerminatingOrFailed");
    if let Some(template) = object_at(spec, &["template"]) {
        pod::default_template(template);
    }
}

/// Whether the stored Job selects by its uid; then an update need not repeat the selector.
fn has_generated_selector(old: &Value, uid: &str) -> bool {
    old["selector"]["matchLabels"][UID_LABELS[0]] == uid
}

fn generate_selector(spec: &mut Value, uid: &str, name: &str) {
    if spec["selector"]["matchLabels"].is_null() {
        set(spec, "selector", json!({ "matchLabels": { UID_LABELS[0]: uid } }));
    }
    if let Some(labels) = object_at(spec, &["template", "metadata", "labels"]) {
        UID_LABELS.iter().for_each(|label| default(labels, label, uid));
        NAME_LABELS.iter().for_each(|label| default(labels, label, name));
    }
}

fn check(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    for field in ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"] {
        causes.extend(spec.get(field).at_least(0));
    }
    selector::check_workload(spec, "job", causes);
    let template = spec.get("template");
    pod::check_template(&template, causes);
    let policy = template.get("spec").get("restartPolicy");
    if policy.str() == "Always" {
        causes.push(Cause { message: format!("Required value: {VALID_POLICIES}"), ..policy.required("") });
    }
    let mode = spec.get("completionMode");
    if !mode.value.is_null() && mode.str() != "NonIndexed" {
        causes.push(Cause::unsupported(mode.path.clone(), mode.value, &["NonIndexed"]));
    }
    for field in ["podFailurePolicy", "successPolicy", "backoffLimitPerIndex", "maxFailedIndexes", "managedBy"] {
        let field = spec.get(field);
        if !field.value.is_null() {
            causes.push(field.forbidden("is not supported"));
        }
    }
    causes.extend(spec.get("podReplacementPolicy").one_of(&["TerminatingOrFailed", "Failed"]));
}

const VALID_POLICIES: &str = "valid values: \"OnFailure\", \"Never\"";

fn check_update(old: &Value, spec: &Field<'_>, causes: &mut Vec<Cause>) {
    for field in ["completions", "selector", "template", "completionMode"] {
        causes.extend(spec.get(field).unchanged(&old[field]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Value {
        let mut spec = json!({"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "a", "image": "a"}]}}});
        defaults(&mut spec);
        generate_selector(&mut spec, "u", "j");
        json!({ "spec": spec })
    }

    #[test]
    fn a_job_runs_once_unless_it_says_otherwise() {
        let job = job();
        let spec = Field::of(&job, "spec");
        let mut causes = Vec::new();
        check(&spec, &mut causes);
        assert_eq!(causes, []);
        assert_eq!((&spec.value["completions"], &spec.value["parallelism"]), (&json!(1), &json!(1)));
        assert_eq!(spec.value["template"]["metadata"]["labels"]["controller-uid"], "u");
        assert_eq!(spec.value["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], "u");
    }

    #[test]
    fn a_job_that_restarts_for_ever_is_refused() {
        let mut job = job();
        job["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
        let mut causes = Vec::new();
        check(&Field::of(&job, "spec"), &mut causes);
        assert_eq!(causes[0].field, "spec.template.spec.restartPolicy");
        assert!(causes[0].message.contains("OnFailure"));
    }

    #[test]
    fn the_template_of_a_job_is_immutable() {
        let (old, mut new) = (job(), job());
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("b");
        let mut causes = Vec::new();
        check_update(&old["spec"], &Field::of(&new, "spec"), &mut causes);
        assert_eq!(causes[0].field, "spec.template");
        assert!(causes[0].message.ends_with("field is immutable"));
    }
}
