//! The schema of EnvoyFilter, with the form that it had up to Istio 1.4.

use super::authorization_policy::target;
use super::schema::{
    Schema, anything, integer, labels, list, object, port_number, text, texts, word, workload_selector,
};

pub(super) fn spec() -> Schema {
    object(
        "Changes to what proxies are told, in Envoy's own words.",
        [
            ("workloadSelector", workload_selector()),
            ("targetRefs", list("The objects that it is for, instead of a selector.", target()).items(0, 16)),
            ("configPatches", list("The patches, in order.", patch())),
            ("priority", integer("When it is applied: lower ones first.")),
            ("workloadLabels", labels("The labels of the workloads, up to Istio 1.4.")),
            ("filters", list("Filters to insert, up to Istio 1.4.", inserted())),
        ],
    )
}

fn patch() -> Schema {
    let kinds = [
        "INVALID",
        "LISTENER",
        "FILTER_CHAIN",
        "NETWORK_FILTER",
        "HTTP_FILTER",
        "ROUTE_CONFIGURATION",
        "VIRTUAL_HOST",
        "HTTP_ROUTE",
        "CLUSTER",
        "EXTENSION_CONFIG",
        "BOOTSTRAP",
        "LISTENER_FILTER",
    ];
    let operations = ["INVALID", "MERGE", "ADD", "REMOVE", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "REPLACE"];
    let classes = ["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"];
    object(
        "A change.",
        [
            ("applyTo", word("What is changed.", &kinds)),
            ("match", place().at_most_one(&["listener", "routeConfiguration", "cluster", "waypoint"])),
            (
                "patch",
                object(
                    "How.",
                    [
                        ("operation", word("The operation.", &operations)),
                        ("value", anything("What is put in, in the JSON form of Envoy's messages.")),
                        ("filterClass", word("Among which filters one is inserted.", &classes)),
                    ],
                ),
            ),
        ],
    )
}

fn place() -> Schema {
    let contexts = ["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"];
    let proxy = object(
        "The proxy.",
        [
            ("proxyVersion", text("A regular expression for its version.")),
            ("metadata", labels("What its metadata must have.")),
        ],
    );
    let cluster = object(
        "The cluster.",
        [
            ("portNumber", port_number("The service's port.")),
            ("service", text("The service.")),
            ("subset", text("The subset.")),
            ("name", text("The name, instead of the others.")),
        ],
    );
    object(
        "Where; every part that is set must match.",
        [
            ("context", word("The direction.", &contexts)),
            ("proxy", proxy),
            ("listener", listener()),
            ("routeConfiguration", route()),
            ("cluster", cluster),
        ],
    )
}

fn listener() -> Schema {
    let inner = object("A filter in it, if it is an HTTP connection manager.", [("name", text("The name."))]);
    let filter = object("A filter in it.", [("name", text("The name.")), ("subFilter", inner)]);
    let chain = object(
        "The chain.",
        [
            ("name", text("The name.")),
            ("sni", text("One of the server names that it matches.")),
            ("transportProtocol", text("The transport protocol that it matches.")),
            ("applicationProtocols", text("The application protocols that it matches, separated by commas.")),
            ("filter", filter),
            ("destinationPort", port_number("The port that it matches.")),
        ],
    );
    object(
        "The listener.",
        [
            ("portNumber", port_number("The port.")),
            ("portName", text("How the port's name begins.")),
            ("filterChain", chain),
            ("listenerFilter", text("A filter that looks at connections before a chain is chosen.")),
            ("name", text("The name.")),
        ],
    )
}

fn route() -> Schema {
    let actions = ["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"];
    let route = object("The route.", [("name", text("The name.")), ("action", word("What it does.", &actions))]);
    let host = object(
        "The virtual host.",
        [("name", text("The name.")), ("domainName", text("A domain of it.")), ("route", route)],
    );
    object(
        "The route table.",
        [
            ("portNumber", port_number("The port.")),
            ("portName", text("The name of a gateway's port.")),
            ("gateway", text("The gateway, as NAMESPACE/NAME.")),
            ("vhost", host),
            ("name", text("The name.")),
        ],
    )
}

fn inserted() -> Schema {
    let listener = object(
        "Where.",
        [
            ("portNumber", port_number("The port.")),
            ("portNamePrefix", text("How the port's name begins.")),
            ("listenerType", word("The direction.", &["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY"])),
            ("listenerProtocol", word("What the listener speaks.", &["ALL", "HTTP", "TCP"])),
            ("address", texts("The addresses of which it has one.")),
        ],
    );
    let position = object(
        "Among the others.",
        [
            ("index", word("First, last, or beside another.", &["FIRST", "LAST", "BEFORE", "AFTER"])),
            ("relativeTo", text("The other.")),
        ],
    );
    object(
        "A filter to insert.",
        [
            ("listenerMatch", listener),
            ("insertPosition", position),
            ("filterType", word("Which kind of filter it is.", &["INVALID", "HTTP", "NETWORK"])),
            ("filterName", text("Its name.")),
            ("filterConfig", anything("Its configuration.")),
        ],
    )
}
