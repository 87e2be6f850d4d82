//! The schema of ServiceEntry and WorkloadEntry.

use super::schema::{Schema, labels, list, map, object, text, texts, unsigned, word, workload_selector};

pub(super) fn spec() -> Schema {
    let resolutions = ["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"];
    object(
        "A service outside of Kubernetes, or another name for workloads inside.",
        [
            ("hosts", texts("Its names.").items(1, 256)),
            ("addresses", texts("Its virtual addresses, or CIDRs.").items(0, 256)),
            ("ports", list("Its ports.", port().required(&["number", "name"])).items(0, 256)),
            ("location", word("Whether it is part of the mesh.", &["MESH_EXTERNAL", "MESH_INTERNAL"])),
            ("resolution", word("How its endpoints are found.", &resolutions)),
            ("endpoints", list("Its endpoints.", workload()).items(0, 4096)),
            ("workloadSelector", workload_selector()),
            ("exportTo", texts("The namespaces that see it: `*`, `.`, `~` or names.")),
            ("subjectAltNames", texts("The names of which a server's certificate must have one.")),
        ],
    )
    .required(&["hosts"])
}

/// A port of a service, a gateway or a sidecar.
pub(super) fn port() -> Schema {
    object(
        "A port.",
        [
            ("number", unsigned("The number.")),
            ("protocol", text("What is spoken there: `HTTP`, `HTTPS`, `HTTP2`, `GRPC`, `MONGO`, `TLS` or `TCP`.")),
            ("name", text("The name.")),
            ("targetPort", unsigned("The endpoints' port, if it is another.")),
        ],
    )
}

pub(super) fn workload() -> Schema {
    object(
        "A workload that is no pod.",
        [
            ("address", text("An address, a DNS name, or `unix://` and a path.")),
            ("ports", map("Its ports, by the name of the service's port.", unsigned("The number."))),
            ("labels", labels("Its labels.")),
            ("network", text("Its network.")),
            ("locality", text("Its place: `region/zone/subzone`.")),
            ("weight", unsigned("Its share relative to others.")),
            ("serviceAccount", text("Its service account in the object's namespace.")),
        ],
    )
}
