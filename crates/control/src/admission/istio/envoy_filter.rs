//! What an EnvoyFilter may say, in both of its forms.

use serde_json::Value;

use super::finding::{Findings, Subject, check_selector, is_set, items, text};

/// The filter that has others in it, by its names.
const HCM: [&str; 2] = ["envoy.filters.network.http_connection_manager", "envoy.http_connection_manager"];

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let spec = subject.spec;
    let selector = is_set(&spec["workloadSelector"]);
    let both = "only one of targetRefs or workloadSelector can be set";
    findings.refuse_if(selector && is_set(&spec["targetRefs"]), both);
    check_selector(&spec["workloadSelector"]["labels"], findings);
    let (patches, filters) = (items(&spec["configPatches"]), items(&spec["filters"]));
    findings.warn_if(
        patches.is_empty() && filters.is_empty(),
        "EnvoyFilter without configPatches and without filters has no effect",
    );
    findings.warn_if(
        !filters.is_empty(),
        "`filters` is the form of up to Istio 1.4; newer versions only know configPatches",
    );
    patches.iter().for_each(|patch| check_patch(patch, findings));
    filters.iter().for_each(|filter| check_filter(filter, findings));
}

fn check_patch(patch: &Value, findings: &mut Findings) {
    if !is_set(&patch["patch"]) {
        return findings.refuse("Envoy filter: missing patch");
    }
    let operation = text(&patch["patch"]["operation"]);
    if matches!(operation, "" | "INVALID") {
        return findings.refuse("Envoy filter: missing patch operation");
    }
    if operation != "REMOVE" && !is_set(&patch["patch"]["value"]) {
        return findings.refuse("Envoy filter: missing patch value for non-remove operation");
    }
    let kind = text(&patch["applyTo"]);
    findings.refuse_if(matches!(kind, "" | "INVALID"), "Envoy filter: missing applyTo");
    check_place(kind, &patch["match"], findings);
    let fits = match operation {
        "INSERT_BEFORE" | "INSERT_AFTER" | "INSERT_FIRST" => {
            matches!(kind, "NETWORK_FILTER" | "HTTP_FILTER" | "LISTENER_FILTER" | "HTTP_ROUTE")
        }
        "REPLACE" => matches!(kind, "NETWORK_FILTER" | "HTTP_FILTER" | "LISTENER_FILTER" | "VIRTUAL_HOST"),
        _ => true,
    };
    let why = format!("Envoy filter: operation {operation} is not for {kind}: it has no effect");
    findings.warn_if(!fits && !kind.is_empty(), why);
}

fn check_place(kind: &str, place: &Value, findings: &mut Findings) {
    let of = |field: &str| !place[field].is_null();
    match kind {
        "LISTENER" | "FILTER_CHAIN" | "NETWORK_FILTER" | "HTTP_FILTER" | "LISTENER_FILTER" => {
            let other = of("routeConfiguration") || of("cluster");
            let why = "Envoy filter: applyTo for listener class objects cannot have non listener match";
            findings.refuse_if(other, why);
        }
        "ROUTE_CONFIGURATION" | "VIRTUAL_HOST" | "HTTP_ROUTE" => {
            let why = "Envoy filter: applyTo for http route class objects cannot have non route configuration match";
            findings.refuse_if(of("listener") || of("cluster"), why);
        }
        "CLUSTER" => {
            let why = "Envoy filter: applyTo for cluster class objects cannot have non cluster match";
            findings.refuse_if(of("listener") || of("routeConfiguration"), why);
        }
        _ => {}
    }
    let filter = &place["listener"]["filterChain"]["filter"];
    if filter.is_null() {
        return;
    }
    findings.refuse_if(text(&filter["name"]).is_empty(), "Envoy filter: filter match has no name to match on");
    if filter["subFilter"].is_null() {
        return;
    }
    let only = "Envoy filter: subfilter match can be used with applyTo HTTP_FILTER only";
    findings.refuse_if(kind != "HTTP_FILTER", only);
    let manager = HCM.contains(&text(&filter["name"]));
    let needed =
        "Envoy filter: subfilter match requires filter match with envoy.filters.network.http_connection_manager";
    findings.refuse_if(!manager, needed);
    let nameless = text(&filter["subFilter"]["name"]).is_empty();
    findings.refuse_if(nameless, "Envoy filter: subfilter match has no name to match on");
}

fn check_filter(filter: &Value, findings: &mut Findings) {
    let position = &filter["insertPosition"];
    let relative = matches!(text(&position["index"]), "BEFORE" | "AFTER");
    let lost = relative && text(&position["relativeTo"]).is_empty();
    findings.refuse_if(lost, "Envoy filter: missing relativeTo filter with BEFORE/AFTER index");
    findings.refuse_if(matches!(text(&filter["filterType"]), "" | "INVALID"), "Envoy filter: missing filter type");
    findings.refuse_if(text(&filter["filterName"]).is_empty(), "Envoy filter: missing filter name");
    findings.refuse_if(filter["filterConfig"].is_null(), "Envoy filter: missing filter config");
}
