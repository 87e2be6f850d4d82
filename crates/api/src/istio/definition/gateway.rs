//! The schema of Gateway.

use super::schema::{Schema, flag, labels, list, object, text, texts, word};
use super::service_entry::port;

pub(super) fn spec() -> Schema {
    object(
        "What gateway workloads listen for.",
        [
            ("selector", labels("The labels of the gateway's pods.")),
            ("servers", list("What is listened for.", server())),
        ],
    )
}

fn server() -> Schema {
    object(
        "One port with the hosts that it serves.",
        [
            ("port", port().required(&["number", "protocol", "name"])),
            ("bind", text("The address that is bound.")),
            ("hosts", texts("The hosts, each possibly as `NAMESPACE/HOST`.")),
            ("tls", tls()),
            ("defaultEndpoint", text("Where traffic goes without a route: an address and a port.")),
            ("name", text("The server's own name.")),
        ],
    )
    .required(&["port", "hosts"])
}

/// How a server speaks TLS.
pub(super) fn tls() -> Schema {
    let modes = ["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"];
    let versions = ["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"];
    object(
        "How TLS is spoken.",
        [
            ("httpsRedirect", flag("Whether requests in plaintext are sent to HTTPS.")),
            ("mode", word("Whether TLS ends here, and who must have a certificate.", &modes)),
            ("serverCertificate", text("The file of the certificate chain.")),
            ("privateKey", text("The file of the key.")),
            ("caCertificates", text("The file of the authorities that clients' certificates must come from.")),
            ("caCrl", text("The file of what these authorities have revoked.")),
            ("credentialName", text("The name of a secret, instead of files.")),
            ("credentialNames", texts("The names of secrets with different kinds of keys.").items(1, 2)),
            ("caCertCredentialName", text("The name of a secret with the authorities alone.")),
            (
                "tlsCertificates",
                list(
                    "Files of certificates with different kinds of keys.",
                    object(
                        "The files of one certificate.",
                        [
                            ("serverCertificate", text("The file of the certificate chain.")),
                            ("privateKey", text("The file of the key.")),
                            ("caCertificates", text("Not used.")),
                        ],
                    ),
                )
                .items(1, 2),
            ),
            ("subjectAltNames", texts("Names of which a client's certificate must have one.")),
            ("verifyCertificateSpki", texts("Hashes of keys of which a client's certificate must have one.")),
            ("verifyCertificateHash", texts("Hashes of certificates of which a client must have one.")),
            ("minProtocolVersion", word("The least version of TLS.", &versions)),
            ("maxProtocolVersion", word("The greatest version of TLS.", &versions)),
            ("cipherSuites", texts("The cipher suites, if not the usual ones.")),
            ("insecureSkipVerify", flag("Whether clients' certificates are taken unverified.").nullable()),
        ],
    )
}
