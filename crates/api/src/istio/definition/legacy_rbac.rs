//! The schemas of rbac.istio.io/v1alpha1.

use super::schema::{Schema, labels, list, numbers, object, text, texts, word};

pub(super) fn role() -> Schema {
    let constraint = object(
        "A condition.",
        [
            ("key", text("The attribute: `destination.port`, `request.headers[NAME]`, …")),
            ("values", texts("One of them must match.")),
        ],
    );
    let rule = object(
        "Matches a call if every list does; a list matches if one of its values does.",
        [
            ("services", texts("The services, by their full names; a `*` may stand at either end.")),
            ("hosts", texts("Hosts.")),
            ("notHosts", texts("Hosts that do not match.")),
            ("paths", texts("Paths.")),
            ("notPaths", texts("Paths that do not match.")),
            ("methods", texts("Methods.")),
            ("notMethods", texts("Methods that do not match.")),
            ("ports", numbers("Ports.")),
            ("notPorts", numbers("Ports that do not match.")),
            ("constraints", list("Further conditions, all of which must hold.", constraint)),
        ],
    );
    object("What may be done to services of a namespace.", [("rules", list("The rules; one must match.", rule))])
}

pub(super) fn binding() -> Schema {
    let subject = object(
        "Matches a caller if everything that is set does.",
        [
            ("user", text("An identity; `*` is anybody.")),
            ("group", text("A group of the request's token.")),
            ("properties", labels("Attributes of the caller.")),
            ("names", texts("Identities.")),
            ("notNames", texts("Identities that do not match.")),
            ("groups", texts("Groups.")),
            ("notGroups", texts("Groups that do not match.")),
            ("namespaces", texts("Namespaces.")),
            ("notNamespaces", texts("Namespaces that do not match.")),
            ("ips", texts("Addresses or CIDRs.")),
            ("notIps", texts("Addresses or CIDRs that do not match.")),
        ],
    );
    let role = object("The role.", [("kind", text("`ServiceRole`.")), ("name", text("The role's name."))]);
    object(
        "Who has a role.",
        [
            ("subjects", list("The callers; one must match.", subject)),
            ("roleRef", role),
            ("role", text("The role's name, instead of a reference.")),
            ("mode", enforcement("Whether the binding decides.")),
        ],
    )
}

pub(super) fn config() -> Schema {
    let target =
        |description| object(description, [("services", texts("Full names.")), ("namespaces", texts("Namespaces."))]);
    object(
        "Which services roles are for.",
        [
            ("mode", word("All, some or none.", &["OFF", "ON", "ON_WITH_INCLUSION", "ON_WITH_EXCLUSION"])),
            ("inclusion", target("With ON_WITH_INCLUSION: these.")),
            ("exclusion", target("With ON_WITH_EXCLUSION: not these.")),
            ("enforcement_mode", enforcement("The same as `enforcementMode`.")),
            ("enforcementMode", enforcement("Whether roles decide.")),
        ],
    )
}

fn enforcement(description: &str) -> Schema {
    word(description, &["ENFORCED", "PERMISSIVE"])
}
