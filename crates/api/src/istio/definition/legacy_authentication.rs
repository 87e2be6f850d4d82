//! The schema of Policy and MeshPolicy.

use super::schema::{Schema, flag, list, object, port_number, text, texts, word};

pub(super) fn spec() -> Schema {
    let port = object("A port.", [("number", port_number("Its number.")), ("name", text("Its name."))]);
    let target =
        object("A service.", [("name", text("Its short name.")), ("ports", list("Its ports; none is all.", port))]);
    let tls = object(
        "Mutual TLS.",
        [
            ("mode", word("Whether plaintext is taken, too.", &["STRICT", "PERMISSIVE"])),
            ("allowTls", flag("Whether a caller may have no certificate.")),
        ],
    );
    let peer = object("A way.", [("mtls", tls.nullable())]);
    object(
        "What services accept.",
        [
            ("targets", list("The services; none is all.", target)),
            ("peers", list("How callers show who they are; none is in plaintext.", peer)),
            ("peerIsOptional", flag("Whether callers may go without.")),
            ("origins", list("How users show who they are.", object("A way.", [("jwt", jwt())]))),
            ("originIsOptional", flag("Whether users may go without.")),
            ("principalBinding", word("Who is taken for the one who asks.", &["USE_PEER", "USE_ORIGIN"])),
        ],
    )
}

fn jwt() -> Schema {
    let path = || {
        object(
            "A path.",
            [
                ("exact", text("All of it.")),
                ("prefix", text("How it begins.")),
                ("suffix", text("How it ends.")),
                ("regex", text("A regular expression for all of it.")),
            ],
        )
    };
    let trigger = object(
        "Requests that need a token.",
        [("excludedPaths", list("Paths that do not.", path())), ("includedPaths", list("Paths that do.", path()))],
    );
    object(
        "An issuer of tokens.",
        [
            ("issuer", text("The claim `iss` of its tokens.")),
            ("audiences", texts("The claim `aud` must have one of them, if there are any.")),
            ("jwksUri", text("Where the keys are.")),
            ("jwks", text("The keys themselves.")),
            ("jwtHeaders", texts("The headers in which a token may be.")),
            ("jwtParams", texts("The query parameters in which a token may be.")),
            ("triggerRules", list("The requests that need a token; none is all.", trigger)),
        ],
    )
}
