//! "Mesh Federation": two clusters share bookinfo over HTTP.

use super::{Amendment, Aside, Change, Edition, Errand, Seed, on_both_data_planes};

const DOCUMENT: Seed =
    Seed { file: "001_c19038e393622829.txt", edition: &EDITION, clusters: 2, begins: "## Initial setup" };

/// How the page looks: the colour of its stars, or what it has instead.
const STARS: &str = r#"
stars() {
    page=$(curl -fsS --cookie "user=$1" "http://$PAGE_HOST/productpage") || return
    case $page in
        *'color="black"'*) echo black;;
        *'color="red"'*) echo red;;
        *'Ratings service is currently unavailable'*) echo unavailable;;
        *'Error fetching'*) echo error;;
        *) echo none;;
    esac
}
several() { for i in $(seq 20); do stars; done; }
"#;

const EDITION: Edition = Edition {
    substitutions: &[
        ("@samples", "samples"),
        (".yaml@", ".yaml"),
        // Istio's chart for gateways. Its values stay as they are.
        (
            "helm template install/kubernetes/helm/istio/ --name istio --namespace istio-private-gateways \
             -x charts/gateways/templates/deployment.yaml -x charts/gateways/templates/service.yaml \
             -x charts/gateways/templates/serviceaccount.yaml -x charts/gateways/templates/autoscale.yaml \
             -x charts/gateways/templates/role.yaml -x charts/gateways/templates/rolebindings.yaml \
             --set global.istioNamespace=istio-system -f -",
            "isthmus gateway render -n istio-private-gateways -f -",
        ),
    ],
    amendments: &[
        // The text says: in each of the clusters.
        Amendment {
            at: "In each of the clusters, deploy the [sleep]",
            change: Change::Run(
                "for context in $CTX_CLUSTER1 $CTX_CLUSTER2; do
                    kubectl label --context=$context namespace default istio-injection=enabled &&
                    kubectl apply --context=$context -f samples/sleep/sleep.yaml || break
                done",
            ),
        },
        // The document shows another service than the one it asks for.
        Amendment {
            at: "kubectl get svc istio-private-ingressgateway -n istio-private-gateways --context=$CTX_CLUSTER2",
            change: Change::Prints("istio-private-ingressgateway LoadBalancer 10.0.0.1 10.0.0.2 15443:31380/TCP 17h"),
        },
        // Istio's chart for the mesh's configuration, of which one setting is changed.
        Amendment {
            at: "Enable Envoy access logs for `cluster1`",
            change: Change::Run(
                "kubectl get configmap istio -n istio-system --context=$CTX_CLUSTER1 -o yaml |
                 sed 's#^  mesh: |#&\\n    accessLogFile: /dev/stdout#' | kubectl replace --context=$CTX_CLUSTER1 -f -",
            ),
        },
        Amendment {
            at: "Enable Envoy access logs for `cluster2`",
            change: Change::Run(
                "kubectl get configmap istio -n istio-system --context=$CTX_CLUSTER2 -o yaml |
                 sed 's#^  mesh: |#&\\n    accessLogFile: /dev/stdout#' | kubectl replace --context=$CTX_CLUSTER2 -f -",
            ),
        },
    ],
    asides: &[
        // The bookshop, and a gateway of its own for the public, which Istio's installation brings along.
        Aside { phrase: "[apply default destination rules]", errand: Errand::Run(STARS) },
        Aside {
            phrase: "[apply default destination rules]",
            errand: Errand::Run(
                "kubectl apply --context=$CTX_CLUSTER1 -f samples/bookinfo/platform/kube/bookinfo.yaml \
                    -f samples/bookinfo/networking/destination-rule-all-mtls.yaml \
                    -f samples/bookinfo/networking/bookinfo-gateway.yaml &&
                 isthmus gateway render istio-ingressgateway -n istio-system --port http2:80:8080 \
                    --label app=istio-ingressgateway --label istio=ingressgateway |
                    kubectl apply --context=$CTX_CLUSTER1 -f -",
            ),
        },
        Aside {
            phrase: "[apply default destination rules]",
            errand: Errand::Run(
                "export PAGE_HOST=$(kubectl get service istio-ingressgateway -n istio-system --context=$CTX_CLUSTER1 \
                    -o jsonpath='{.status.loadBalancer.ingress[0].ip}')",
            ),
        },
        looks("verify that the reviews appear without stars", "stars", "none"),
        looks("verify that it continues to work as before", "several", "none"),
        looks("You will see that now the ratings with black starts appear", "stars jason", "black"),
        looks("for the rest of the users the local version is used", "several", "none"),
        looks("see reviews with black stars appear roughly 50% of the time", "several", "none\nblack"),
        looks("Notice the `Ratings service is currently unavailable` error", "several", "unavailable"),
        looks("verify that the ratings are now displayed correctly", "several", "black"),
        looks("see reviews with black and red stars appear roughly 50:50", "several", "black\nred"),
        looks("The red stars are displayed correctly, since they are shown by", "several", "unavailable\nred"),
        looks("## Apply Istio RBAC on the second cluster", "several", "black\nred"),
        looks("It means that the authorized access is allowed", "several", "black\nred"),
        looks("verify that everything is working as before.", "several", "black\nred"),
        looks("the `Ratings service is currently unavailable` message is shown.", "several", "unavailable\nred"),
        // What the logs are looked at for.
        Aside { phrase: "Check the logs of the private ingress gateway", errand: Errand::Run("several") },
        looks(
            "## Cleanup",
            "kubectl logs -l istio=private-ingressgateway --context=$CTX_CLUSTER2 -n istio-private-gateways --tail=-1 |
                grep -om1 '\"GET /bookinfo/myreviews/v3/reviews/0 HTTP/[12.]*\" 200'| sed 's#HTTP/[12.]*#HTTP#'",
            "\"GET /bookinfo/myreviews/v3/reviews/0 HTTP\" 200",
        ),
        looks(
            "## Cleanup",
            "kubectl logs -l istio=private-egressgateway --context=$CTX_CLUSTER1 -n istio-private-gateways --tail=-1 |
                grep -om1 '\"GET /ratings/0 HTTP/[12.]*\" 403' | sed 's#HTTP/[12.]*#HTTP#'",
            "\"GET /ratings/0 HTTP\" 403",
        ),
    ],
};

const fn looks(phrase: &'static str, script: &'static str, prints: &'static str) -> Aside {
    Aside { phrase, errand: Errand::Look(script, prints) }
}

on_both_data_planes!(mesh_federation_runs_as_it_is_written);
