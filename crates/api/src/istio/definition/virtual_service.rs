//! The schema of VirtualService.

use super::schema::{
    Property, Schema, duration, flag, fraction, integer, labels, list, map, object, text, texts, unsigned, word,
};

pub(super) fn spec() -> Schema {
    object(
        "Routes for calls of hosts.",
        [
            ("hosts", texts("The hosts.")),
            ("gateways", texts("The gateways that it is for; `mesh`, which is the default, is all sidecars.")),
            ("http", list("Routes for HTTP; the first that matches is taken.", http())),
            ("tls", list("Routes for TLS that is passed through.", tls())),
            ("tcp", list("Routes for everything else.", tcp())),
            ("exportTo", texts("The namespaces that see it: `*`, `.` or names.")),
        ],
    )
}

/// A service, or a subset of it.
pub(super) fn destination() -> Schema {
    object(
        "A service, or a subset of it.",
        [
            ("host", text("The service.")),
            ("subset", text("The subset, which a destination rule defines.")),
            ("port", object("The port.", [("number", unsigned("The number."))])),
        ],
    )
    .required(&["host"])
}

fn routes(more: Option<Property>) -> Schema {
    let fields = [
        ("destination", destination()),
        ("weight", integer("Its share relative to the others; of a single one it has no meaning.")),
    ];
    let route = object("A destination with its share.", fields.into_iter().chain(more)).required(&["destination"]);
    list("Where calls go, by weight.", route)
}

/// Conditions that every protocol has.
fn caller() -> Vec<Property> {
    vec![
        ("port", unsigned("The service's port, or the server's of a gateway.")),
        ("sourceLabels", labels("Labels of the caller.")),
        ("gateways", texts("The gateways, if not those of the object.")),
        ("sourceNamespace", text("The caller's namespace.")),
    ]
}

fn subnets() -> Property {
    ("destinationSubnets", texts("Addresses or CIDRs of the destination."))
}

fn tcp() -> Schema {
    let source = ("sourceSubnet", text("Address or CIDR of the caller."));
    let condition = object("All of it must match.", caller().into_iter().chain([subnets(), source]));
    let matches = list("One of them must match; none match everything.", condition);
    object("A route for connections.", [("match", matches), ("route", routes(None))])
}

fn tls() -> Schema {
    let names = ("sniHosts", texts("Server names, possibly with a wildcard."));
    let condition = object("All of it must match.", caller().into_iter().chain([subnets(), names]));
    let matches = list("One of them must match.", condition.required(&["sniHosts"]));
    object("A route for TLS connections by server name.", [("match", matches), ("route", routes(None))])
        .required(&["match"])
}

/// How a text is matched.
fn pattern(description: &str) -> Schema {
    object(
        description,
        [
            ("exact", text("The whole text.")),
            ("prefix", text("Its beginning.")),
            ("regex", text("A regular expression (RE2) for the whole text.")),
        ],
    )
    .at_most_one(&["exact", "prefix", "regex"])
}

fn http() -> Schema {
    let headers = || ("headers", header_operations());
    let mirror = object("Where copies go.", [("destination", destination()), ("percentage", percent())]);
    object(
        "A route for requests.",
        [
            ("name", text("The name of the route, for logs.")),
            ("match", list("One of them must match; none match everything.", request())),
            ("route", routes(Some(headers()))),
            ("redirect", redirect()),
            ("directResponse", direct_response()),
            (
                "delegate",
                object(
                    "Another virtual service that has the routes.",
                    [("name", text("Its name.")), ("namespace", text("Its namespace, if it is another."))],
                ),
            ),
            ("rewrite", rewrite()),
            ("timeout", duration("How long a request may take.")),
            ("retries", retries()),
            ("fault", fault()),
            ("mirror", destination()),
            ("mirrors", list("Where copies of requests go.", mirror.required(&["destination"]))),
            ("mirrorPercent", unsigned("Percent of requests that are copied; the old form.").nullable()),
            ("mirror_percent", unsigned("Percent of requests that are copied; the oldest form.").nullable()),
            ("mirrorPercentage", percent()),
            ("corsPolicy", cors()),
            headers(),
        ],
    )
}

fn request() -> Schema {
    let own = [
        ("name", text("The name of the condition, for logs.")),
        ("uri", pattern("The path.")),
        ("scheme", pattern("The scheme.")),
        ("method", pattern("The method.")),
        ("authority", pattern("The host.")),
        ("headers", map("Headers; one without a pattern must only be there.", pattern("The value."))),
        ("queryParams", map("Parameters in the query.", pattern("The value."))),
        ("ignoreUriCase", flag("Whether the path's case does not matter.")),
        ("withoutHeaders", map("Headers that must not match.", pattern("The value."))),
        ("statPrefix", text("Begins the names of metrics.")),
    ];
    object("All of it must match.", caller().into_iter().chain(own))
}

fn percent() -> Schema {
    object("A share.", [("value", fraction("Percent."))])
}

fn header_operations() -> Schema {
    let operations = |what: &str| {
        object(
            what,
            [
                ("set", labels("Headers that get a value.")),
                ("add", labels("Headers that get a value beside those that they have.")),
                ("remove", texts("Headers that are removed.")),
            ],
        )
    };
    object("Changes of headers.", [("request", operations("In requests.")), ("response", operations("In responses."))])
}

fn redirect() -> Schema {
    object(
        "An answer that sends the caller elsewhere.",
        [
            ("uri", text("The path there.")),
            ("prefixRewrite", text("What replaces the matched prefix of the path.")),
            ("authority", text("The host there.")),
            ("port", unsigned("The port there.")),
            ("derivePort", word("Where the port is from.", &["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"])),
            ("scheme", text("The scheme there.")),
            ("redirectCode", unsigned("The status; 301 if not given.")),
        ],
    )
    .at_most_one(&["port", "derivePort"])
}

fn direct_response() -> Schema {
    let body = object("The body.", [("string", text("As text.")), ("bytes", text("In base64."))]);
    object(
        "An answer without asking anybody.",
        [("status", unsigned("The status.")), ("body", body.at_most_one(&["string", "bytes"]))],
    )
    .required(&["status"])
}

fn rewrite() -> Schema {
    object(
        "What is changed in requests.",
        [
            ("uri", text("The path, or what of it was matched by a prefix.")),
            ("authority", text("The host.")),
            (
                "uriRegexRewrite",
                object(
                    "The path by a regular expression.",
                    [("match", text("The expression.")), ("rewrite", text(r"What replaces it, with `\1` for groups."))],
                ),
            ),
        ],
    )
}

fn retries() -> Schema {
    object(
        "What happens to requests that fail.",
        [
            ("attempts", integer("How often they are tried again.")),
            ("perTryTimeout", duration("How long one try may take.")),
            ("retryOn", text("Which failures count, by Envoy's names.")),
            ("retryRemoteLocalities", flag("Whether endpoints in other places are tried.").nullable()),
            ("retryIgnorePreviousHosts", flag("Whether endpoints that failed are avoided.").nullable()),
            ("backoff", duration("The least time between tries.")),
        ],
    )
}

fn fault() -> Schema {
    let delay = object(
        "Requests that are held back.",
        [
            ("percentage", percent()),
            ("percent", integer("Percent; the old form.")),
            ("fixedDelay", duration("For how long.")),
            ("exponentialDelay", duration("Not used.")),
        ],
    );
    let abort = object(
        "Requests that are refused.",
        [
            ("percentage", percent()),
            ("httpStatus", integer("With this status.")),
            ("grpcStatus", text("With this status of gRPC.")),
            ("http2Error", text("Not used.")),
        ],
    );
    object(
        "Faults that are made on purpose.",
        [
            ("delay", delay.at_most_one(&["fixedDelay", "exponentialDelay"])),
            ("abort", abort.at_most_one(&["httpStatus", "grpcStatus", "http2Error"])),
        ],
    )
}

fn cors() -> Schema {
    object(
        "Which pages of other origins may call.",
        [
            ("allowOrigin", texts("Origins; the old form.")),
            ("allowOrigins", list("Origins.", pattern("An origin."))),
            ("allowMethods", texts("Methods.")),
            ("allowHeaders", texts("Headers of requests.")),
            ("exposeHeaders", texts("Headers of responses that pages may see.")),
            ("maxAge", duration("How long the answer to a preflight holds.")),
            ("allowCredentials", flag("Whether pages may send credentials.").nullable()),
            (
                "unmatchedPreflights",
                word("What happens to preflights of other origins.", &["UNSPECIFIED", "FORWARD", "IGNORE"]),
            ),
        ],
    )
}
