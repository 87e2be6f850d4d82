//! The schema of Telemetry.

use super::authorization_policy::target;
use super::schema::{Schema, duration, flag, fraction, list, map, object, selector, text, word};

pub(super) fn spec() -> Schema {
    object(
        "What proxies tell of the traffic.",
        [
            ("selector", selector()),
            ("targetRef", target()),
            ("targetRefs", list("The objects that it is for, instead of a selector.", target()).items(0, 16)),
            ("tracing", list("Traces.", tracing())),
            ("metrics", list("Metrics.", metrics())),
            ("accessLogging", list("Access logs.", access_logging())),
        ],
    )
}

fn providers() -> Schema {
    let provider = object("A provider.", [("name", text("One of the mesh's extension providers."))]);
    list("Who gets them; none is what the wider scope says.", provider.required(&["name"]))
}

fn mode() -> Schema {
    word("Which side of a call is meant.", &["CLIENT_AND_SERVER", "CLIENT", "SERVER"])
}

fn tracing() -> Schema {
    let source = |description| {
        object(description, [("name", text("The name.")), ("defaultValue", text("The value where there is none."))])
            .required(&["name"])
    };
    let tag = object(
        "The value of a tag.",
        [
            ("literal", object("A constant.", [("value", text("The value."))]).required(&["value"])),
            ("environment", source("A variable of the proxy's environment.")),
            ("header", source("A header of the request.")),
        ],
    );
    object(
        "Traces.",
        [
            ("match", object("Of which calls.", [("mode", mode())])),
            ("providers", providers()),
            (
                "randomSamplingPercentage",
                fraction("How many of a hundred calls are traced that nobody has decided about.")
                    .nullable()
                    .at_most(100),
            ),
            ("disableSpanReporting", flag("Whether spans are not reported.").nullable()),
            ("customTags", map("Further tags of spans.", tag)),
            ("enableIstioTags", flag("Whether Istio's own tags are set.").nullable()),
            ("useRequestIdForTraceSampling", flag("Whether the request's id decides what is traced.").nullable()),
        ],
    )
}

fn metrics() -> Schema {
    let which = object(
        "Which metrics.",
        [
            ("metric", text("One of Istio's: `REQUEST_COUNT`, …")),
            ("customMetric", text("Another one.")),
            ("mode", mode()),
        ],
    );
    let tag = object(
        "What becomes of a label.",
        [
            ("operation", word("Whether it is set.", &["UPSERT", "REMOVE"])),
            ("value", text("Its value, in the Common Expression Language.")),
        ],
    );
    let change = object(
        "A change.",
        [
            ("match", which),
            ("disabled", flag("Whether they are not counted.").nullable()),
            ("tagOverrides", map("Changes to labels.", tag)),
        ],
    );
    object(
        "Metrics.",
        [
            ("providers", providers()),
            ("overrides", list("What is counted in another way than Istio does.", change)),
            ("reportingInterval", duration("How often metrics are reported.")),
        ],
    )
}

fn access_logging() -> Schema {
    object(
        "Access logs.",
        [
            ("match", object("Of which calls.", [("mode", mode())])),
            ("providers", providers()),
            ("disabled", flag("Whether there are none.").nullable()),
            (
                "filter",
                object(
                    "Which entries are kept.",
                    [("expression", text("A condition in the Common Expression Language."))],
                ),
            ),
        ],
    )
}
