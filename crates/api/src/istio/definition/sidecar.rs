//! The schema of Sidecar.

use super::destination_rule::connection_pool;
use super::gateway::tls;
use super::schema::{Schema, list, object, text, texts, word, workload_selector};
use super::service_entry::port;
use super::virtual_service::destination;

pub(super) fn spec() -> Schema {
    object(
        "What proxies are told.",
        [
            ("workloadSelector", workload_selector()),
            ("ingress", list("Listeners for what comes in, instead of those for the workload's services.", ingress())),
            ("egress", list("What may be called; nothing given is everything.", egress())),
            ("inboundConnectionPool", connection_pool()),
            (
                "outboundTrafficPolicy",
                object(
                    "What happens to calls of hosts that are not known.",
                    [
                        ("mode", word("Whether they pass.", &["REGISTRY_ONLY", "ALLOW_ANY"])),
                        ("egressProxy", destination()),
                    ],
                ),
            ),
        ],
    )
}

fn capture_mode() -> Schema {
    word("How traffic gets to the listener.", &["DEFAULT", "IPTABLES", "NONE"])
}

fn ingress() -> Schema {
    object(
        "A listener for what comes in.",
        [
            ("port", port()),
            ("bind", text("The address that is bound.")),
            ("captureMode", capture_mode()),
            ("defaultEndpoint", text("Where the application is: an address and a port, or `unix://` and a path.")),
            ("tls", tls()),
            ("connectionPool", connection_pool()),
        ],
    )
    .required(&["port"])
}

fn egress() -> Schema {
    object(
        "Hosts that may be called.",
        [
            ("port", port()),
            ("bind", text("The address that is bound.")),
            ("captureMode", capture_mode()),
            (
                "hosts",
                texts("`NAMESPACE/HOST`, where the namespace is `*` for any, `.` for the object's and `~` for none."),
            ),
        ],
    )
    .required(&["hosts"])
}
