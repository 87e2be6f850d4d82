//! Istio's kinds, and sidecars, as far as they show without a proxy that runs.

use testkit::Session;

crate::of_the_api!(
    istios_kinds_have_their_names_and_columns,
    istios_kinds_are_explained,
    fields_that_istio_does_not_have_are_refused,
    what_istio_refuses_is_refused_in_its_words,
    manifests_are_given_sidecars,
    the_meshs_configuration_must_be_readable,
);

const VIRTUAL_SERVICE: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: [reviews]
  gateways: [mesh]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
";

fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

fn istios_kinds_have_their_names_and_columns(s: &Session<'_>) {
    assert_eq!(s.apply(VIRTUAL_SERVICE), "virtualservice.networking.istio.io/routes created");
    let services = s.sh("kubectl get vs").ok();
    let services = rows(&services);
    assert_eq!(services[0], ["NAME", "GATEWAYS", "HOSTS", "AGE"]);
    assert_eq!(services[1][..3], ["routes", r#"["mesh"]"#, r#"["reviews"]"#]);
    s.apply("{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: r}, spec: {host: reviews}}");
    assert_eq!(rows(&s.sh("kubectl get dr").ok())[0], ["NAME", "HOST", "AGE"]);
    let entry = "{apiVersion: networking.istio.io/v1beta1, kind: ServiceEntry, metadata: {name: e}, spec: {hosts: [a.b], \
        location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}}";
    s.apply(entry);
    assert_eq!(rows(&s.sh("kubectl get se").ok())[1][..4], ["e", r#"["a.b"]"#, "MESH_EXTERNAL", "DNS"]);
    s.apply("{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p}, spec: {mtls: {mode: STRICT}}}");
    assert_eq!(rows(&s.sh("kubectl get pa").ok())[1][..2], ["p", "STRICT"]);
    s.apply("{apiVersion: security.istio.io/v1beta1, kind: AuthorizationPolicy, metadata: {name: a}, spec: {action: ALLOW}}");
    assert_eq!(rows(&s.sh("kubectl get ap").ok())[1][..2], ["a", "ALLOW"]);
    let all = s.sh("kubectl get istio-io -o name").ok();
    assert_eq!(all.lines().count(), 5, "{all}");
    s.sh("kubectl delete vs,dr,se,pa,ap --all").ok();
}

fn istios_kinds_are_explained(s: &Session<'_>) {
    let route = s.sh("kubectl explain vs.spec.http.route").ok();
    assert!(route.contains("destination") && route.contains("Where calls go, by weight."), "{route}");
    let mode = s.sh("kubectl explain pa.spec.mtls.mode --api-version=security.istio.io/v1beta1").ok();
    assert!(["UNSET", "DISABLE", "PERMISSIVE", "STRICT"].iter().all(|word| mode.contains(word)), "{mode}");
}

fn fields_that_istio_does_not_have_are_refused(s: &Session<'_>) {
    let apply = |manifest: &str| s.sh_with_input("kubectl apply -f -", manifest.as_bytes()).fails();
    let unknown = apply(&VIRTUAL_SERVICE.replace("gateways:", "gatways:"));
    assert!(unknown.contains("unknown field \"spec.gatways\""), "{unknown}");
    let mode =
        "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p}, spec: {mtls: {mode: ON}}}";
    let unsupported = apply(&mode.replace("ON", "'ON'"));
    assert!(unsupported.contains("spec.mtls.mode: Unsupported value: \"ON\""), "{unsupported}");
}

fn what_istio_refuses_is_refused_in_its_words(s: &Session<'_>) {
    let policy = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: wrong}, \
        spec: {rules: [{to: [{operation: {ports: [http]}}]}]}}";
    let refused = s.sh_with_input("kubectl apply -f -", policy.as_bytes()).fails();
    let expected = format!(
        "admission webhook \"validation.istio.io\" denied the request: configuration is invalid: invalid policy wrong.{}: \
         bad port (http)",
        s.namespace
    );
    assert!(refused.contains("Error from server: error when creating") && refused.contains(&expected), "{refused}");
}

fn manifests_are_given_sidecars(s: &Session<'_>) {
    let isthmus = crate::binary().display();
    s.write("tcp-echo.yaml", &std::fs::read_to_string("samples/tcp-echo/tcp-echo.yaml").unwrap());
    let injected = s.sh(&format!("{isthmus} kube-inject -f tcp-echo.yaml")).ok();
    assert_eq!(injected.matches("name: istio-proxy").count(), 1, "{injected}");
    let applied = format!("bash -c 'kubectl apply --dry-run=server -f <({isthmus} kube-inject -f tcp-echo.yaml)'");
    assert_eq!(
        s.sh(&applied).ok(),
        "service/tcp-echo created (server dry run)\ndeployment.apps/tcp-echo created (server dry run)"
    );
    let piped = s.sh_with_input(&format!("{isthmus} kube-inject -f -"), injected.as_bytes()).ok();
    assert_eq!(piped, injected, "what has a sidecar gets no second one");
    let broken = s.sh_with_input(&format!("{isthmus} kube-inject -f -"), b"kind: Pod\n---\n{").fails();
    assert!(broken.contains("standard input: document 2: "), "{broken}");
    let missing = s.sh(&format!("{isthmus} kube-inject -f absent.yaml")).fails();
    assert!(missing.contains("cannot read absent.yaml"), "{missing}");
}

fn the_meshs_configuration_must_be_readable(s: &Session<'_>) {
    let change = |mesh: &str| {
        format!(
            "kubectl -n istio-system patch configmap istio --dry-run=server -p '{{\"data\":{{\"mesh\":\"{mesh}\"}}}}'"
        )
    };
    let refused = s.sh(&change("connectTimeout: soon")).fails();
    assert!(refused.contains("data[mesh].connectTimeout: Invalid value: \"soon\" is not a duration"), "{refused}");
    s.sh(&change("accessLogFile: /dev/stdout")).ok();
}
