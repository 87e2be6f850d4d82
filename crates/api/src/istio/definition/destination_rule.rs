//! The schema of DestinationRule.

use super::schema::{
    Property, Schema, duration, flag, fraction, integer, labels, list, map, object, selector, text, texts, unsigned,
    word,
};

pub(super) fn spec() -> Schema {
    object(
        "Policies for traffic to a host, after routing.",
        [
            ("host", text("The service.")),
            ("trafficPolicy", traffic_policy()),
            ("subsets", list("Named parts of the service's endpoints.", subset())),
            ("exportTo", texts("The namespaces that see the rule: `*`, `.` or names.")),
            ("workloadSelector", selector()),
        ],
    )
    .required(&["host"])
}

fn subset() -> Schema {
    object(
        "Endpoints with certain labels, or simply a name for other policies towards all of them.",
        [
            ("name", text("The name.")),
            ("labels", labels("The labels that an endpoint must have.")),
            ("trafficPolicy", traffic_policy()),
        ],
    )
    .required(&["name"])
}

/// What a whole policy and the policy of a port have in common.
fn policies() -> Vec<Property> {
    vec![
        ("loadBalancer", load_balancer()),
        ("connectionPool", connection_pool()),
        ("outlierDetection", outlier_detection()),
        ("tls", tls()),
    ]
}

fn traffic_policy() -> Schema {
    let port = object("A port.", [("number", unsigned("The number."))]);
    let of_port = object("The policy of one port.", policies().into_iter().chain([("port", port)]));
    let others = [
        (
            "portLevelSettings",
            list("Policies of single ports, which replace all others for their port.", of_port).items(0, 4096),
        ),
        (
            "tunnel",
            object(
                "How connections go through another proxy.",
                [
                    ("protocol", text("`CONNECT` or `POST`.")),
                    ("targetHost", text("The host that the other proxy connects to.")),
                    ("targetPort", unsigned("Its port.")),
                ],
            )
            .required(&["targetHost", "targetPort"]),
        ),
        (
            "proxyProtocol",
            object(
                "A header that says who the client is.",
                [("version", word("The header's version.", &["V1", "V2"]))],
            ),
        ),
        (
            "retryBudget",
            object(
                "How many retries there may be beside other requests.",
                [
                    ("percent", fraction("Percent of the requests.").at_least(0).at_most(100).nullable()),
                    ("minRetryConcurrency", unsigned("So many may always be.")),
                    ("budgetInterval", duration("The time over which requests are counted.")),
                ],
            ),
        ),
    ];
    object("How to reach endpoints.", policies().into_iter().chain(others))
}

/// How many connections may be open.
pub(super) fn connection_pool() -> Schema {
    let keep_alive = object(
        "Keep-alive probes.",
        [
            ("probes", unsigned("How many go unanswered before the connection is dead.")),
            ("time", duration("How long a connection is silent before the first.")),
            ("interval", duration("How far they are apart.")),
        ],
    );
    let tcp = object(
        "Of every protocol.",
        [
            ("maxConnections", integer("How many connections may be open.")),
            ("connectTimeout", duration("How long one may take to open.")),
            ("tcpKeepalive", keep_alive),
            ("maxConnectionDuration", duration("How long one may live.")),
            ("idleTimeout", duration("How long one may be silent.")),
        ],
    );
    let ping = object(
        "Pings on connections of HTTP/2.",
        [("interval", duration("How far they are apart.")), ("timeout", duration("How long the answer may take."))],
    );
    let http = object(
        "Of HTTP.",
        [
            ("http1MaxPendingRequests", integer("How many requests may wait for a connection.")),
            ("http2MaxRequests", integer("How many requests may be under way.")),
            ("maxRequestsPerConnection", integer("How many requests a connection carries; 0 is any number.")),
            ("maxRetries", integer("How many retries may be under way.")),
            ("idleTimeout", duration("How long a connection may be without a request.")),
            ("h2UpgradePolicy", word("Whether HTTP/1.1 becomes HTTP/2.", &["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"])),
            ("useClientProtocol", flag("Whether the caller's version of HTTP is used.")),
            ("maxConcurrentStreams", integer("How many streams a connection of HTTP/2 carries at a time.")),
            ("http2KeepAlive", ping),
        ],
    );
    object("How many connections may be open.", [("tcp", tcp), ("http", http)])
}

fn load_balancer() -> Schema {
    let simple = ["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"];
    let warmup = object(
        "How a new endpoint gets to its full share.",
        [
            ("duration", duration("How long that takes.")),
            ("minimumPercent", fraction("The share in percent to begin with.").at_least(0).at_most(100).nullable()),
            ("aggression", fraction("How quickly the share grows.").at_least(0).nullable()),
        ],
    )
    .required(&["duration"]);
    object(
        "How an endpoint is chosen.",
        [
            ("simple", word("A policy without parameters.", &simple)),
            ("consistentHash", consistent_hash()),
            ("localityLbSetting", locality()),
            ("zoneAwareLbSetting", zone_aware()),
            ("warmupDurationSecs", duration("How long a new endpoint takes to its full share.")),
            ("warmup", warmup),
        ],
    )
    .at_most_one(&["simple", "consistentHash"])
}

fn consistent_hash() -> Schema {
    let attribute = object("An attribute.", [("name", text("Its name.")), ("value", text("Its value."))]);
    let cookie = object(
        "A cookie.",
        [
            ("name", text("The name.")),
            ("path", text("The path that it is set for.")),
            ("ttl", duration("How long it holds; one that callers do not bring is made only if this is given.")),
            ("attributes", list("Further attributes.", attribute.required(&["name"]))),
        ],
    );
    let size = |what: &str, name: &'static str| object(what, [(name, unsigned("The size of the table."))]);
    object(
        "By a hash of the request or the caller.",
        [
            ("httpHeaderName", text("Of a header.")),
            ("httpCookie", cookie.required(&["name"])),
            ("useSourceIp", flag("Of the caller's address.")),
            ("httpQueryParameterName", text("Of a parameter in the query.")),
            ("ringHash", size("Endpoints lie on a ring.", "minimumRingSize")),
            ("maglev", size("Endpoints lie in a table.", "tableSize")),
            ("minimumRingSize", unsigned("The old place of the ring's size.")),
        ],
    )
    .at_most_one(&["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"])
}

fn failover() -> Schema {
    let pair = object(
        "Where the traffic of one region fails over to.",
        [("from", text("The callers' region.")), ("to", text("The region that is next."))],
    );
    list("Where the traffic of a region goes when its endpoints fail.", pair)
}

fn failover_priority() -> Schema {
    texts("Labels by which endpoints are preferred that share their values with the caller.")
}

fn locality() -> Schema {
    let shares = object(
        "Shares of the traffic from one place.",
        [
            ("from", text("The callers' place: `region/zone/subzone`, with `*` for any rest.")),
            ("to", map("Percent by place.", unsigned("Percent."))),
        ],
    );
    object(
        "Which places are preferred.",
        [
            ("distribute", list("Shares of the traffic from a place, by place of the endpoints.", shares)),
            ("failover", failover()),
            ("failoverPriority", failover_priority()),
            ("enabled", flag("Whether place matters at all.").nullable()),
        ],
    )
}

fn zone_aware() -> Schema {
    object(
        "Which zones are preferred.",
        [
            ("enabled", flag("Whether zones matter at all.").nullable()),
            ("minClusterSize", unsigned("With fewer endpoints they do not.").at_least(1).nullable()),
            ("failover", failover()),
            ("failoverPriority", failover_priority()),
        ],
    )
}

fn outlier_detection() -> Schema {
    object(
        "When an endpoint is left alone for a while.",
        [
            ("consecutiveErrors", integer("Failures in a row; the old name of gateway errors.")),
            ("splitExternalLocalOriginErrors", flag("Whether failures of the connection are counted apart.")),
            ("consecutiveLocalOriginFailures", unsigned("Failures of the connection in a row.").nullable()),
            ("consecutiveGatewayErrors", unsigned("Gateway errors in a row; on TCP, failed connections.").nullable()),
            ("consecutive5xxErrors", unsigned("Server errors in a row.").nullable()),
            ("interval", duration("How often endpoints are looked at.")),
            (
                "baseEjectionTime",
                duration("How long an endpoint is left alone, times the number of times that it was."),
            ),
            ("maxEjectionPercent", integer("At most this share of endpoints is left alone.")),
            ("minHealthPercent", integer("With fewer healthy endpoints than this share, health is disregarded.")),
            (
                "outlierDetectionHttpErrorCodes",
                list("Which statuses are errors.", unsigned("A status.").at_least(100).at_most(599)),
            ),
        ],
    )
}

fn tls() -> Schema {
    object(
        "Encryption of connections.",
        [
            ("mode", word("The mode; not given is DISABLE.", &["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"])),
            ("clientCertificate", text("The file of the client's certificate chain.")),
            ("privateKey", text("The file of the client's key.")),
            ("caCertificates", text("The file of the authorities that the server's certificate must come from.")),
            ("caCrl", text("The file of what these authorities have revoked.")),
            ("credentialName", text("The name of a secret, instead of files.")),
            ("subjectAltNames", texts("Names of which the server's certificate must have one.")),
            ("sni", text("The server name in the handshake.")),
            ("insecureSkipVerify", flag("Whether the server's certificate is taken unverified.").nullable()),
        ],
    )
}
