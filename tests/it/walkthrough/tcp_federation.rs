//! "Perform mesh federation for TCP services": three clusters share echo servers.

use super::{Amendment, Aside, Change, Edition, Errand, Seed, on_both_data_planes};

const DOCUMENT: Seed =
    Seed { file: "000_a7234b0ccd3b6f8d.txt", edition: &EDITION, clusters: 3, begins: "## Initial setup" };

const EDITION: Edition = Edition {
    substitutions: &[
        ("@samples", "samples"),
        (".yaml@", ".yaml"),
        (
            "https://raw.githubusercontent.com/istio/istio/533221ef3369834ae44eaa4abcddf67c2d3dc549/samples/tcp-echo/tcp-echo.yaml",
            "samples/tcp-echo/tcp-echo-services.yaml",
        ),
        ("https://raw.githubusercontent.com/istio/istio/533221ef3369834ae44eaa4abcddf67c2d3dc549/", ""),
    ],
    amendments: &[
        Amendment { at: "Check that unauthorized access is denied.", change: Change::Prints("") },
        // The policy before lets c4 alone use port 31401, and the egress gateway of c1 has the certificate of c1.
        Amendment {
            at: "pressing `Ctrl-C`. 1. Check the services can be called from the first cluster as previously.",
            change: Change::Prints(""),
        },
        // The document applies what it means to delete.
        Amendment {
            at: "kubectl delete -n sample -l app=tcp-echo,version=v2",
            change: Change::Run(
                "kubectl delete -n sample --context=$CTX_CLUSTER3 -f samples/tcp-echo/tcp-hello-echo.yaml &&
                 kubectl delete -n sample --context=$CTX_CLUSTER3 -l app=tcp-echo,version=v2 \
                    -f samples/tcp-echo/tcp-echo-services.yaml &&
                 kubectl delete -n sample --context=$CTX_CLUSTER3 -l service=tcp-echo \
                    -f samples/tcp-echo/tcp-echo-services.yaml",
            ),
        },
    ],
    asides: &[
        // A setup that several documents have in common, in our words.
        Aside {
            phrase: "## Initial setup",
            errand: Errand::Run(
                "for context in $CTX_CLUSTER1 $CTX_CLUSTER2 $CTX_CLUSTER3; do
                    kubectl label --context=$context namespace default istio-injection=enabled || break
                done",
            ),
        },
        Aside {
            phrase: "## Perform one-time setup of private gateways",
            errand: Errand::Follow("docs/private-gateways.md"),
        },
        Aside {
            phrase: "## Perform one-time setup of private gateways",
            errand: Errand::Run("CLUSTER2_INGRESS_HOST=$C2_ADDRESS CLUSTER3_INGRESS_HOST=$C3_ADDRESS"),
        },
        Aside {
            phrase: "### Delete the private gateways",
            errand: Errand::Run(
                "for context in $CTX_CLUSTER1 $CTX_CLUSTER2 $CTX_CLUSTER3; do
                    kubectl delete --context=$context namespace istio-private-gateways || break
                done",
            ),
        },
    ],
};

on_both_data_planes!(mesh_federation_for_tcp_runs_as_it_is_written);
