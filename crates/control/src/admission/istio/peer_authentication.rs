//! What a PeerAuthentication may say.

use super::finding::{Findings, Subject, check_selector};

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let spec = subject.spec;
    let labels = &spec["selector"]["matchLabels"];
    let selects = labels.as_object().is_some_and(|labels| !labels.is_empty());
    if let Some(ports) = spec["portLevelMtls"].as_object() {
        let everywhere = "mesh/namespace peer authentication cannot have port level mTLS";
        findings.refuse_if(!selects && !ports.is_empty(), everywhere);
        findings.refuse_if(ports.is_empty(), "port level mTLS, if defined, must have at least one element");
        for port in ports.keys() {
            findings.refuse_if(!matches!(port.parse::<u16>(), Ok(1..)), "port must be in range 1..65535");
        }
    }
    findings.warn_if(spec["selector"].is_object() && !selects, "workload selector specified without labels");
    check_selector(labels, findings);
}
