//! HorizontalPodAutoscalers, which are stored and shown; nothing measures load here, so nothing acts on them.

use api::{ApiError, Cause, name};
use apiserver::{Operation, Review};
use serde_json::json;

use super::field::{Field, default, object_at};
use super::{check_name, verdict};

/// Defaults and validation of a HorizontalPodAutoscaler.
pub(super) fn review(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete || !review.subresource.is_empty() {
        return Ok(());
    }
    if let Some(spec) = object_at(review.object, &["spec"]) {
        default(spec, "minReplicas", 1);
        let target = json!({ "type": "Utilization", "averageUtilization": 80 });
        let cpu = json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } });
        if spec["targetCPUUtilizationPercentage"].is_null() {
            default(spec, "metrics", json!([cpu]));
        }
    }
    if review.operation == Operation::Create {
        review.warnings.push("this cluster measures no load: the autoscaler is stored and has no effect".to_owned());
    }
    let spec = Field::of(review.object, "spec");
    let mut causes: Vec<Cause> = check_name(review.name, name::check_subdomain).into_iter().collect();
    let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    causes.extend(least.at_least(1));
    if most.int().is_none_or(|n| n < 1) {
        causes.push(most.invalid("must be greater than 0"));
    } else if most.int() < least.int() {
        causes.push(most.invalid("must be greater than or equal to `minReplicas`"));
    }
    for field in ["kind", "name"] {
        let field = spec.get("scaleTargetRef").get(field);
        causes.extend(field.named(name::check_path_segment));
    }
    verdict(review, "autoscaling", "HorizontalPodAutoscaler", causes)
}
