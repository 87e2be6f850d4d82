//! Patches of Envoy's configuration that do nothing, or not always the same.

use super::world::{ENVOY_FILTER, World, field, items};
use super::{Finding, Rule};
use crate::Severity;

const RELATIVE: Rule = Rule("IST0151", "EnvoyFilterUsesRelativeOperation", Severity::Warning);
const RELATIVE_TO_VERSION: Rule =
    Rule("IST0155", "EnvoyFilterUsesRelativeOperationWithProxyVersion", Severity::Warning);
const REPLACE: Rule = Rule("IST0152", "EnvoyFilterUsesReplaceOperationIncorrectly", Severity::Error);
const ADD: Rule = Rule("IST0153", "EnvoyFilterUsesAddOperationIncorrectly", Severity::Error);
const REMOVE: Rule = Rule("IST0154", "EnvoyFilterUsesRemoveOperationIncorrectly", Severity::Error);

/// Operations whose outcome depends on what is there already.
const RELATIVE_OPERATIONS: [&str; 5] = ["INSERT_BEFORE", "INSERT_AFTER", "REPLACE", "MERGE", "REMOVE"];

/// Operations that do not fit what they are applied to.
pub(super) fn operations(world: &World<'_>, found: &mut Vec<Finding>) {
    for item in world.of(ENVOY_FILTER) {
        let patches = items(field(item.spec(), "configPatches", "config_patches"));
        let prioritized = item.spec()["priority"].as_i64().is_some_and(|priority| priority != 0);
        for (i, patch) in patches.iter().enumerate() {
            let at = format!("spec.configPatches[{i}].patch.operation");
            let target = field(patch, "applyTo", "apply_to").as_str().unwrap_or_default();
            let merged = ["ROUTE_CONFIGURATION", "HTTP_ROUTE"].contains(&target);
            let proxy = &patch["match"]["proxy"];
            let of_version = field(proxy, "proxyVersion", "proxy_version").as_str().is_some_and(|v| !v.is_empty());
            let operation = patch["patch"]["operation"].as_str().unwrap_or_default();
            if of_version && !prioritized && RELATIVE_OPERATIONS.contains(&operation) {
                let message = "This EnvoyFilter does not have a priority and has a relative patch operation (NSTERT_BEFORE/AFTER, \
                    REPLACE, MERGE, DELETE) and proxyVersion set which can cause the EnvoyFilter not to be applied during an \
                    upgrade. Using the INSERT_FIRST or ADD option or setting the priority may help in ensuring the EnvoyFilter \
                    is applied correctly.";
                found.push(RELATIVE_TO_VERSION.at(&item, at.clone(), message));
            }
            match operation {
                "INSERT_BEFORE" | "INSERT_AFTER" if !prioritized => {
                    let message = "This EnvoyFilter does not have a priority and has a relative patch operation set which can \
                        cause the EnvoyFilter not to be applied. Using the INSERT_FIRST or ADD option or setting the priority \
                        may help in ensuring the EnvoyFilter is applied correctly.";
                    found.push(RELATIVE.at(&item, at, message));
                }
                "REPLACE" if !["HTTP_FILTER", "NETWORK_FILTER"].contains(&target) => {
                    let message = "The REPLACE operation is only valid for HTTP_FILTER and NETWORK_FILTER.";
                    found.push(REPLACE.at(&item, at, message));
                }
                "ADD" if merged => {
                    let message =
                        "The ADD operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.";
                    found.push(ADD.at(&item, at, message));
                }
                "REMOVE" if merged => {
                    let message = "The REMOVE operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.";
                    found.push(REMOVE.at(&item, at, message));
                }
                _ => {}
            }
        }
    }
}
