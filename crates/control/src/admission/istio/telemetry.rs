//! What a Telemetry may say.

use serde_json::Value;

use super::finding::{Findings, Subject, check_scope, is_set, items, none_set, text};

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let spec = subject.spec;
    check_scope(spec, findings);
    let tracing = items(&spec["tracing"]);
    findings.warn_if(tracing.len() > 1, "multiple tracing is not currently supported");
    for trace in tracing {
        findings.warn_if(items(&trace["providers"]).len() > 1, "multiple providers is not currently supported");
        let percentage = trace["randomSamplingPercentage"].as_f64().unwrap_or_default();
        findings
            .refuse_if(!(0.0..=100.0).contains(&percentage), "randomSamplingPercentage must be in range [0.0, 100.0]");
        check_tags(&trace["customTags"], findings);
    }
    for list in ["tracing", "metrics", "accessLogging"] {
        let providers = items(&spec[list]).iter().flat_map(|entry| items(&entry["providers"]));
        for provider in providers {
            findings.refuse_if(text(&provider["name"]).is_empty(), format_args!("{list}: provider name is required"));
        }
    }
    for change in items(&spec["metrics"]).iter().flat_map(|metrics| items(&metrics["overrides"])) {
        for (name, tag) in change["tagOverrides"].as_object().into_iter().flatten() {
            let (removes, value) = (text(&tag["operation"]) == "REMOVE", is_set(&tag["value"]));
            let why = format!("tagOverrides.{name}: tag value must not be set when operation is REMOVE");
            findings.refuse_if(removes && value, why);
            let why = format!("tagOverrides.{name}: tag value must be set when operation is UPSERT");
            findings.refuse_if(!removes && !value, why);
        }
    }
}

fn check_tags(tags: &Value, findings: &mut Findings) {
    for (name, tag) in tags.as_object().into_iter().flatten() {
        findings.refuse_if(name.is_empty(), "tag name may not be empty");
        let none = none_set(tag, &["literal", "environment", "header"]);
        findings.refuse_if(none, format_args!("tag {name:?} must have a literal, environment or header value"));
        for (kind, field) in [("literal", "value"), ("environment", "name"), ("header", "name")] {
            let empty = tag[kind].is_object() && text(&tag[kind][field]).is_empty();
            findings.refuse_if(empty, format_args!("{kind} tag {field} may not be empty"));
        }
    }
}
