//! Findings in the Static Analysis Results Interchange Format, version 2.1.0.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use xds::Severity;
use xds::analysis::Finding;

use super::document::{Document, Place};
use super::report::{locate, origin};

/// A log with one run.
pub(super) fn log(findings: &[&Finding], documents: &[Document]) -> Value {
    let rules: BTreeMap<&str, Value> = findings.iter().map(|finding| (finding.code, rule(finding))).collect();
    let results: Vec<Value> = findings.iter().map(|finding| result(finding, documents)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "isthmus",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.into_values().collect::<Vec<_>>(),
            }},
            "results": results,
        }],
    })
}

fn rule(finding: &Finding) -> Value {
    let mut rule = json!({ "id": finding.code, "name": finding.name });
    if let Some(page) = finding.documentation_url() {
        rule["helpUri"] = page.into();
    }
    rule
}

fn result(finding: &Finding, documents: &[Document]) -> Value {
    let level = match finding.severity {
        Severity::Info => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let text = match &finding.fix {
        Some(fix) => format!("{} To fix it: {fix}.", finding.message),
        None => finding.message.clone(),
    };
    let mut location = json!({ "logicalLocations": [{ "fullyQualifiedName": origin(finding), "kind": "object" }] });
    if let Some((file, Place { line, column })) = locate(finding, documents) {
        location["physicalLocation"] = json!({
            "artifactLocation": { "uri": file },
            "region": { "startLine": line, "startColumn": column },
        });
    }
    json!({ "ruleId": finding.code, "level": level, "message": { "text": text }, "locations": [location] })
}
