//! Deployments and ReplicaSets.

use api::{ApiError, Cause, name};
use apiserver::{Operation, Review};
use serde_json::{Value, json};

use super::field::{Field, default, default_text, object_at};
use super::{check_name, pod, pod_spec, selector, verdict};

/// Defaults and validation of a Deployment.
pub(super) fn review(review: &mut Review<'_>) -> Result<(), ApiError> {
    if !is_written(review) {
        return Ok(());
    }
    if let Some(spec) = object_at(review.object, &["spec"]) {
        default_workload(spec);
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
        default_strategy(spec);
    }
    let spec = Field::of(review.object, "spec");
    let mut causes = check_workload(review, &spec, "deployment");
    check_strategy(&spec.get("strategy"), &mut causes);
    causes.extend(spec.get("revisionHistoryLimit").at_least(0));
    let deadline = spec.get("progressDeadlineSeconds");
    causes.extend(deadline.at_least(0));
    if deadline.int() <= Some(spec.get("minReadySeconds").int().unwrap_or(0)) {
        causes.push(deadline.invalid("must be greater than minReadySeconds"));
    }
    warn(review);
    verdict(review, "apps", "Deployment", causes)
}

/// Defaults and validation of a ReplicaSet.
pub(super) fn review_replica_set(review: &mut Review<'_>) -> Result<(), ApiError> {
    if !is_written(review) {
        return Ok(());
    }
    if let Some(spec) = object_at(review.object, &["spec"]) {
        default_workload(spec);
    }
    let causes = check_workload(review, &Field::of(review.object, "spec"), "replica set");
    verdict(review, "apps", "ReplicaSet", causes)
}

fn is_written(review: &Review<'_>) -> bool {
    review.operation != Operation::Delete && matches!(review.subresource, "" | "scale")
}

fn default_workload(spec: &mut Value) {
    default(spec, "replicas", 1);
    if let Some(template) = object_at(spec, &["template"]) {
        pod::default_template(template);
    }
}

fn default_strategy(spec: &mut Value) {
    let Some(strategy) = object_at(spec, &["strategy"]) else { return };
    default_text(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate"
        && let Some(rolling) = object_at(strategy, &["rollingUpdate"])
    {
        default(rolling, "maxUnavailable", "25%");
        default(rolling, "maxSurge", "25%");
    }
}

fn check_workload(review: &Review<'_>, spec: &Field<'_>, kind: &str) -> Vec<Cause> {
    let mut causes: Vec<Cause> = check_name(review.name, name::check_subdomain).into_iter().collect();
    causes.extend(spec.get("replicas").at_least(0));
    causes.extend(spec.get("minReadySeconds").at_least(0));
    selector::check_workload(spec, kind, &mut causes);
    if let Some(old) = review.old {
        causes.extend(spec.get("selector").unchanged(&old["spec"]["selector"]));
    }
    let template = spec.get("template");
    pod::check_template(&template, &mut causes);
    causes.extend(template.get("spec").get("restartPolicy").one_of(&["Always"]));
    let deadline = template.get("spec").get("activeDeadlineSeconds");
    if !deadline.value.is_null() {
        causes.push(deadline.forbidden(format!("activeDeadlineSeconds in {} is not Supported", kind_name(kind))));
    }
    causes
}

fn kind_name(kind: &str) -> &'static str {
    if kind == "deployment" { "Deployment" } else { "ReplicaSet" }
}

fn check_strategy(strategy: &Field<'_>, causes: &mut Vec<Cause>) {
    causes.extend(strategy.get("type").one_of(&["Recreate", "RollingUpdate"]));
    let rolling = strategy.get("rollingUpdate");
    if strategy.get("type").str() == "Recreate" {
        if !rolling.value.is_null() {
            causes.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'"));
        }
        return;
    }
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    let amounts = [check_amount(&unavailable, causes), check_amount(&surge, causes)];
    if amounts == [Some(0), Some(0)] {
        causes.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
    }
    if amounts[0].is_some_and(|n| n > 100) && unavailable.value.is_string() {
        causes.push(unavailable.invalid("must not be greater than 100%"));
    }
}

/// Checks a count or a percentage, and returns its number.
fn check_amount(amount: &Field<'_>, causes: &mut Vec<Cause>) -> Option<i64> {
    let number = match amount.value {
        Value::String(text) => text.strip_suffix('%').and_then(|n| n.parse::<u32>().ok()).map(i64::from),
        other => other.as_i64(),
    };
    match number {
        None => causes.push(amount.invalid(
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used \
             for validation is '[0-9]+%')",
        )),
        Some(n) if n < 0 => causes.push(amount.invalid("must be greater than or equal to 0")),
        Some(_) => {}
    }
    number
}

/// Warns once, when the template is new.
fn warn(review: &mut Review<'_>) {
    let template = Field::of(review.object, "spec").get("template");
    let known = review.old.map(|old| &old["spec"]["template"]);
    if known.unwrap_or(&json!(null)) != template.value {
        pod_spec::warn(&template.get("spec"), review.warnings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strategy_causes(strategy: Value) -> Vec<String> {
        let spec = json!({ "strategy": strategy });
        let mut causes = Vec::new();
        check_strategy(&Field::of(&spec, "strategy"), &mut causes);
        causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
    }

    #[test]
    fn a_rolling_update_must_be_able_to_move() {
        let stuck = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}});
        assert_eq!(
            strategy_causes(stuck),
            ["strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"]
        );
        let both = json!({"type": "Recreate", "rollingUpdate": {}});
        assert_eq!(
            strategy_causes(both),
            ["strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"]
        );
    }

    #[test]
    fn the_selector_must_select_the_template() {
        let spec = json!({"spec": {"selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "b"}}}}});
        let mut causes = Vec::new();
        selector::check_workload(&Field::of(&spec, "spec"), "deployment", &mut causes);
        assert_eq!(causes[0].message, "Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`");
    }
}
