//! The schema of PeerAuthentication.

use super::schema::{Schema, map, object, selector, word};

pub(super) fn spec() -> Schema {
    object(
        "Whether workloads take mutual TLS, plaintext, or both.",
        [
            ("selector", selector()),
            ("mtls", mode()),
            ("portLevelMtls", map("The mode of single ports of the workload; only with a selector.", mode())),
        ],
    )
}

fn mode() -> Schema {
    let modes = ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"];
    object("What is accepted.", [("mode", word("The mode; UNSET is what the next wider scope says.", &modes))])
}
