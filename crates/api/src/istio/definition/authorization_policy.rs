//! The schema of AuthorizationPolicy.

use super::schema::{Schema, list, object, selector, text, texts, word};

pub(super) fn spec() -> Schema {
    object(
        "Who may do what to workloads.",
        [
            ("selector", selector()),
            ("targetRef", target()),
            ("targetRefs", list("The objects that it is for, instead of a selector.", target()).items(0, 16)),
            (
                "rules",
                list("The rules; a call matches if one of them does, and no rule matches nothing.", rule())
                    .items(0, 512),
            ),
            ("action", word("What happens to calls that a rule matches.", &["ALLOW", "DENY", "AUDIT", "CUSTOM"])),
            (
                "provider",
                object(
                    "Who decides if the action is CUSTOM.",
                    [("name", text("One of the mesh's extension providers."))],
                ),
            ),
        ],
    )
}

pub(super) fn target() -> Schema {
    object(
        "An object that it is for.",
        [
            ("group", text("The object's API group.")),
            ("kind", text("The object's kind.")),
            ("name", text("The object's name.")),
            ("namespace", text("The object's namespace, which must be the policy's.")),
        ],
    )
    .required(&["kind", "name"])
}

fn rule() -> Schema {
    object(
        "Matches if a `from`, a `to` and every `when` does; what is absent matches everything.",
        [
            ("from", list("Callers.", object("A caller.", [("source", source())])).items(0, 512)),
            ("to", list("Operations.", object("An operation.", [("operation", operation())]))),
            ("when", list("Further conditions.", condition())),
        ],
    )
}

fn source() -> Schema {
    object(
        "Matches a caller if each list does; a list matches if one of its values does.",
        [
            ("principals", texts("Identities from the peer's certificate, as `cluster.local/ns/default/sa/sleep`.")),
            ("notPrincipals", texts("Identities that do not match.")),
            ("requestPrincipals", texts("Identities from a request's token (HTTP).")),
            ("notRequestPrincipals", texts("Identities from a request's token that do not match (HTTP).")),
            ("namespaces", texts("Namespaces of the peer's identity.")),
            ("notNamespaces", texts("Namespaces that do not match.")),
            (
                "serviceAccounts",
                texts("Service accounts of the peer's identity: `NAMESPACE/NAME`, or `NAME` here.").items(0, 16),
            ),
            ("notServiceAccounts", texts("Service accounts that do not match.").items(0, 16)),
            ("trustDomains", texts("Trust domains of the peer's identity.")),
            ("notTrustDomains", texts("Trust domains that do not match.")),
            ("ipBlocks", texts("Addresses or CIDRs of the peer.")),
            ("notIpBlocks", texts("Addresses or CIDRs that do not match.")),
            ("remoteIpBlocks", texts("Addresses or CIDRs of the original client, as trusted proxies report it.")),
            ("notRemoteIpBlocks", texts("Addresses or CIDRs of the original client that do not match.")),
        ],
    )
}

fn operation() -> Schema {
    object(
        "Matches an operation if each list does; a list matches if one of its values does.",
        [
            ("hosts", texts("Hosts (HTTP).")),
            ("notHosts", texts("Hosts that do not match (HTTP).")),
            ("ports", texts("The workload's ports.")),
            ("notPorts", texts("Ports that do not match.")),
            ("methods", texts("Methods (HTTP).")),
            ("notMethods", texts("Methods that do not match (HTTP).")),
            ("paths", texts("Paths (HTTP).")),
            ("notPaths", texts("Paths that do not match (HTTP).")),
        ],
    )
}

fn condition() -> Schema {
    object(
        "A condition on an attribute.",
        [
            ("key", text("The attribute: `source.ip`, `destination.port`, `connection.sni`, …")),
            ("values", texts("One of them must match, if there are any.")),
            ("notValues", texts("None of them may match.")),
        ],
    )
    .required(&["key"])
}
