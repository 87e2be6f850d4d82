//! The schema of RequestAuthentication.

use super::authorization_policy::target;
use super::schema::{Schema, duration, flag, list, object, selector, text, texts};

pub(super) fn spec() -> Schema {
    object(
        "Which tokens workloads accept.",
        [
            ("selector", selector()),
            ("targetRef", target()),
            ("targetRefs", list("The objects that it is for, instead of a selector.", target()).items(0, 16)),
            ("jwtRules", list("The issuers that are believed.", rule()).items(0, 4096)),
        ],
    )
}

fn rule() -> Schema {
    object(
        "An issuer, and where its tokens and keys are found.",
        [
            ("issuer", text("The claim `iss` of its tokens.")),
            ("audiences", texts("The claim `aud` must have one of them, if there are any.")),
            ("jwksUri", text("Where the keys are.")),
            ("jwks_uri", text("The same as `jwksUri`.")),
            ("jwks", text("The keys themselves, as a JSON Web Key Set.")),
            ("fromHeaders", list("The headers in which a token may be.", header())),
            ("fromParams", texts("The query parameters in which a token may be.")),
            ("fromCookies", texts("The cookies in which a token may be.")),
            ("outputPayloadToHeader", text("A header that tells the application the token's claims, in base64url.")),
            ("outputClaimToHeaders", list("Headers that tell the application single claims.", claim())),
            ("forwardOriginalToken", flag("Whether the application gets the token, too.")),
            ("timeout", duration("How long fetching the keys may take.")),
            ("spaceDelimitedClaims", texts("Claims whose text is a list of words.").items(0, 64)),
        ],
    )
    .required(&["issuer"])
}

fn header() -> Schema {
    object(
        "A header in which a token may be.",
        [("name", text("Its name.")), ("prefix", text("What stands before the token."))],
    )
    .required(&["name"])
}

fn claim() -> Schema {
    object("A header for a claim.", [("header", text("The header.")), ("claim", text("The claim; `a.b` is nested."))])
}
