//! What the kinds of authentication.istio.io/v1alpha1 may say.

use serde_json::Value;

use super::finding::{Findings, Subject, items, text};
use super::request_authentication::check_keys;

/// The name of a policy for everything.
const DEFAULT: &str = "default";

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let targets = items(&subject.spec["targets"]);
    let (named, whole) = (subject.name == DEFAULT, targets.is_empty());
    let why = format!("authentication policy named {DEFAULT:?} must not have any target rules");
    findings.refuse_if(named && !whole, why);
    let why = format!("authentication policy {:?} without target rules must be named {DEFAULT:?}", subject.name);
    findings.refuse_if(!named && whole, why);
    for target in targets {
        let name = text(&target["name"]);
        findings.refuse_if(
            api::name::check_label(name).is_err(),
            format_args!("target name {name:?} must be a valid label"),
        );
        for port in items(&target["ports"]) {
            let number = port["number"].as_u64();
            let valid = !text(&port["name"]).is_empty() || matches!(number, Some(1..=65535));
            findings.refuse_if(!valid, "port number must be in the range 1..65535, or the port must have a name");
        }
    }
    check_methods(subject.spec, findings);
}

pub(super) fn check_mesh(subject: &Subject<'_>, findings: &mut Findings) {
    let Subject { name, spec, .. } = subject;
    let why = format!("cluster-scoped authentication policy name must be {DEFAULT:?}, found {name:?}");
    findings.refuse_if(*name != DEFAULT, why);
    let why = "cluster-scoped authentication policy must not have targets";
    findings.refuse_if(!items(&spec["targets"]).is_empty(), why);
    check_methods(spec, findings);
}

/// How callers and users show who they are.
fn check_methods(spec: &Value, findings: &mut Findings) {
    for origin in items(&spec["origins"]) {
        let jwt = &origin["jwt"];
        if !jwt.is_object() {
            findings.refuse("origin authentication method must be jwt");
            continue;
        }
        findings.refuse_if(text(&jwt["issuer"]).is_empty(), "issuer must be non-empty string");
        check_keys(jwt, findings);
    }
}
