//! Istio's annotations of pods, services and namespaces: unknown, at the wrong kind, with a wrong value, or of old.

use super::world::{Item, Kind, NAMESPACE, POD, SERVICE, World, is_of_the_system};
use super::{Finding, Rule};
use crate::Severity;

const MISPLACED: Rule = Rule("IST0107", "MisplacedAnnotation", Severity::Warning);
const UNKNOWN: Rule = Rule("IST0108", "UnknownAnnotation", Severity::Warning);
const INVALID: Rule = Rule("IST0125", "InvalidAnnotation", Severity::Warning);
const DEPRECATED: Rule = Rule("IST0135", "DeprecatedAnnotation", Severity::Info);

/// What an annotation's value must be.
#[derive(Clone, Copy)]
enum Form {
    Any,
    Boolean,
    Number,
    /// `*`, or port numbers with commas between them.
    Ports,
    /// `*`, or CIDRs with commas between them.
    Ranges,
    /// One of these.
    OneOf(&'static [&'static str]),
}

/// An annotation: its name, the kinds that may have it, its value, and whether it is of old.
struct Known(&'static str, &'static [&'static str], Form, bool);

const PODS: &[&str] = &["Pod"];
const SERVICES: &[&str] = &["Service"];
const GATEWAYS: &[&str] = &["Gateway"];
const EVERYTHING: &[&str] = &[];

/// Istio's annotations (istio.io, "Resource Annotations").
const KNOWN: &[Known] = &[
    Known("alpha.istio.io/canonical-serviceaccounts", SERVICES, Form::Any, false),
    Known("alpha.istio.io/kubernetes-serviceaccounts", SERVICES, Form::Any, false),
    Known("ambient.istio.io/bypass-inbound-capture", PODS, Form::Boolean, false),
    Known("ambient.istio.io/dns-capture", PODS, Form::Boolean, false),
    Known("ambient.istio.io/redirection", PODS, Form::Any, false),
    Known("ambient.istio.io/waypoint-inbound-binding", GATEWAYS, Form::Any, false),
    Known("galley.istio.io/analyze-suppress", EVERYTHING, Form::Any, false),
    Known("gateway.istio.io/controller-version", GATEWAYS, Form::Any, false),
    Known("gateway.istio.io/name-override", GATEWAYS, Form::Any, false),
    Known("gateway.istio.io/service-account", GATEWAYS, Form::Any, false),
    Known("inject.istio.io/templates", PODS, Form::Any, false),
    Known("install.operator.istio.io/chart-owner", EVERYTHING, Form::Any, false),
    Known("install.operator.istio.io/owner-generation", EVERYTHING, Form::Any, false),
    Known("install.operator.istio.io/version", EVERYTHING, Form::Any, false),
    Known("istio.io/dry-run", &["AuthorizationPolicy"], Form::Boolean, false),
    Known("istio.io/reroute-virtual-interfaces", PODS, Form::Any, false),
    Known("istio.io/rev", PODS, Form::Any, false),
    Known("networking.istio.io/exportTo", SERVICES, Form::Any, false),
    Known("networking.istio.io/service-type", GATEWAYS, Form::Any, false),
    Known("networking.istio.io/traffic-distribution", &["Service", "Namespace"], Form::Any, false),
    Known("policy.istio.io/check", PODS, Form::Any, true),
    Known("policy.istio.io/checkBaseRetryWaitTime", PODS, Form::Any, true),
    Known("policy.istio.io/checkMaxRetryWaitTime", PODS, Form::Any, true),
    Known("policy.istio.io/checkRetries", PODS, Form::Any, true),
    Known("policy.istio.io/lang", PODS, Form::Any, true),
    Known("prometheus.istio.io/merge-metrics", PODS, Form::Boolean, false),
    Known("proxy.istio.io/config", PODS, Form::Any, false),
    Known("proxy.istio.io/overrides", PODS, Form::Any, false),
    Known("readiness.status.sidecar.istio.io/applicationPorts", PODS, Form::Ports, true),
    Known("readiness.status.sidecar.istio.io/failureThreshold", PODS, Form::Number, false),
    Known("readiness.status.sidecar.istio.io/initialDelaySeconds", PODS, Form::Number, false),
    Known("readiness.status.sidecar.istio.io/periodSeconds", PODS, Form::Number, false),
    Known("sidecar.istio.io/agentLogLevel", PODS, Form::Any, false),
    Known("sidecar.istio.io/bootstrapOverride", PODS, Form::Any, false),
    Known("sidecar.istio.io/componentLogLevel", PODS, Form::Any, false),
    Known("sidecar.istio.io/controlPlaneAuthPolicy", PODS, Form::Any, true),
    Known("sidecar.istio.io/discoveryAddress", PODS, Form::Any, true),
    Known("sidecar.istio.io/enableCoreDump", PODS, Form::Boolean, false),
    Known("sidecar.istio.io/extraStatTags", PODS, Form::Any, false),
    Known("sidecar.istio.io/inject", PODS, Form::Boolean, true),
    Known("sidecar.istio.io/interceptionMode", PODS, Form::OneOf(&["REDIRECT", "TPROXY", "NONE"]), false),
    Known("sidecar.istio.io/logLevel", PODS, Form::Any, false),
    Known("sidecar.istio.io/nativeSidecar", PODS, Form::Boolean, false),
    Known("sidecar.istio.io/proxyCPU", PODS, Form::Any, false),
    Known("sidecar.istio.io/proxyCPULimit", PODS, Form::Any, false),
    Known("sidecar.istio.io/proxyImage", PODS, Form::Any, false),
    Known("sidecar.istio.io/proxyImageType", PODS, Form::Any, false),
    Known("sidecar.istio.io/proxyMemory", PODS, Form::Any, false),
    Known("sidecar.istio.io/proxyMemoryLimit", PODS, Form::Any, false),
    Known("sidecar.istio.io/rewriteAppHTTPProbers", PODS, Form::Boolean, false),
    Known("sidecar.istio.io/statsCompression", PODS, Form::OneOf(&["gzip", "brotli", "zstd"]), false),
    Known("sidecar.istio.io/statsHistogramBuckets", PODS, Form::Any, false),
    Known("sidecar.istio.io/statsInclusionPrefixes", PODS, Form::Any, true),
    Known("sidecar.istio.io/statsInclusionRegexps", PODS, Form::Any, true),
    Known("sidecar.istio.io/statsInclusionSuffixes", PODS, Form::Any, true),
    Known("sidecar.istio.io/status", PODS, Form::Any, false),
    Known("sidecar.istio.io/userVolume", PODS, Form::Any, false),
    Known("sidecar.istio.io/userVolumeMount", PODS, Form::Any, false),
    Known("status.sidecar.istio.io/port", PODS, Form::Number, false),
    Known("topology.istio.io/controlPlaneClusters", &["Namespace"], Form::Any, false),
    Known("traffic.istio.io/nodeSelector", SERVICES, Form::Any, false),
    Known("traffic.sidecar.istio.io/excludeInboundPorts", PODS, Form::Ports, false),
    Known("traffic.sidecar.istio.io/excludeInterfaces", PODS, Form::Any, false),
    Known("traffic.sidecar.istio.io/excludeOutboundIPRanges", PODS, Form::Ranges, false),
    Known("traffic.sidecar.istio.io/excludeOutboundPorts", PODS, Form::Ports, false),
    Known("traffic.sidecar.istio.io/includeInboundPorts", PODS, Form::Ports, false),
    Known("traffic.sidecar.istio.io/includeOutboundIPRanges", PODS, Form::Ranges, false),
    Known("traffic.sidecar.istio.io/includeOutboundPorts", PODS, Form::Ports, false),
    Known("traffic.sidecar.istio.io/kubevirtInterfaces", PODS, Form::Any, true),
];

/// The kinds whose annotations are looked at, beside those that have templates of pods.
const KINDS: [Kind; 3] = [NAMESPACE, POD, SERVICE];

/// Istio's annotations that have no effect, or not for long.
pub(super) fn annotations(world: &World<'_>, found: &mut Vec<Finding>) {
    let outer = KINDS.into_iter().flat_map(|kind| world.of(kind)).filter(|item| !is_of_the_system(item.namespace()));
    for item in outer {
        check(&item, item.kind(), "metadata.annotations", &item.value["metadata"]["annotations"], found);
    }
    for (item, template) in world.templates().filter(|(item, _)| !is_of_the_system(item.namespace())) {
        check(&item, item.kind(), "metadata.annotations", &item.value["metadata"]["annotations"], found);
        let at = "spec.template.metadata.annotations";
        check(&item, "Pod", at, &template["metadata"]["annotations"], found);
    }
}

fn check(item: &Item<'_>, kind: &str, at: &str, annotations: &serde_json::Value, found: &mut Vec<Finding>) {
    for (name, value) in annotations.as_object().into_iter().flatten() {
        let istio =
            name.split_once('/').is_some_and(|(domain, _)| domain == "istio.io" || domain.ends_with(".istio.io"));
        if !istio {
            continue;
        }
        let Some(Known(_, kinds, form, deprecated)) = KNOWN.iter().find(|known| known.0 == name) else {
            found.push(UNKNOWN.at(item, at, format!("Unknown annotation: {name}")));
            continue;
        };
        if !kinds.is_empty() && !kinds.contains(&kind) {
            let message = format!("Misplaced annotation: {name} can only be applied to {}", kinds.join(", "));
            found.push(MISPLACED.at(item, at, message));
            continue;
        }
        if *deprecated {
            let message = format!("Annotation {name:?} has been deprecated and may not work in future Istio versions.");
            let finding = DEPRECATED.at(item, at, message);
            found.push(match name.as_str() {
                "sidecar.istio.io/inject" => finding.with_fix("use the label of the same name"),
                _ => finding,
            });
        }
        if let Some(problem) = value.as_str().and_then(|value| form.problem(value)) {
            found.push(INVALID.at(item, at, format!("Invalid annotation {name}: {problem}")));
        }
    }
}

impl Form {
    /// What is wrong with a value.
    fn problem(self, value: &str) -> Option<String> {
        let listed = |valid: fn(&str) -> bool, what: &str| {
            let mut items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
            let wrong = if value.trim() == "*" { None } else { items.find(|item| !valid(item)) };
            wrong.map(|wrong| format!("{wrong:?} is not {what}"))
        };
        match self {
            Form::Any => None,
            Form::Boolean => {
                let valid = ["true", "false", "enabled", "disabled"].contains(&value.to_ascii_lowercase().as_str());
                (!valid).then(|| format!("{value:?} is not true or false"))
            }
            Form::Number => value.parse::<u32>().is_err().then(|| format!("{value:?} is not a number")),
            Form::Ports => listed(|item| item.parse::<u16>().is_ok(), "a port"),
            Form::Ranges => listed(|item| item.parse::<ipnet::IpNet>().is_ok(), "a CIDR"),
            Form::OneOf(values) => {
                (!values.contains(&value)).then(|| format!("{value:?} is not one of {}", values.join(", ")))
            }
        }
    }
}
