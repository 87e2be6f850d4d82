//! Bad input: each kind of it gets the error that Kubernetes gives.

use testkit::Session;

crate::scenarios!(
    unknown_and_duplicate_fields_are_refused,
    wrong_types_are_refused,
    invalid_values_are_refused_field_by_field,
    names_must_be_valid,
    immutable_fields_cannot_change,
    a_stale_object_does_not_replace_a_newer_one,
    what_is_too_large_is_refused,
    unknown_kinds_and_namespaces_are_refused,
    an_unknown_image_says_how_to_add_one,
    malformed_requests_get_a_status,
    expired_revisions_are_gone,
);

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: busybox}]
";

fn refused(s: &Session<'_>, manifest: &str) -> String {
    s.sh_with_input("kubectl apply -f -", manifest.as_bytes()).fails()
}

fn unknown_and_duplicate_fields_are_refused(s: &Session<'_>) {
    let unknown = refused(s, &DEPLOYMENT.replace("replicas: 0", "replicas: 0\n  bogus: 1"));
    assert!(unknown.contains("strict decoding error: unknown field \"spec.bogus\""), "{unknown}");
    let nested = refused(s, &DEPLOYMENT.replace("name: web, image", "name: web, imag: x, image"));
    assert!(nested.contains("unknown field \"spec.template.spec.containers[0].imag\""), "{nested}");
    let warned = s.sh_with_input(
        "kubectl apply --validate=warn -f -",
        DEPLOYMENT.replace("replicas: 0", "replicas: 0\n  bogus: 1").as_bytes(),
    );
    assert!(warned.stderr.contains("Warning: unknown field \"spec.bogus\""), "{}", warned.transcript());
    assert_eq!(warned.ok(), "deployment.apps/web created");
    assert_eq!(
        s.sh("kubectl get deployment web -o jsonpath='{.spec.bogus}'").ok(),
        "",
        "what is unknown is not stored"
    );
}

fn wrong_types_are_refused(s: &Session<'_>) {
    let text = refused(s, &DEPLOYMENT.replace("replicas: 0", "replicas: three"));
    assert!(text.contains("spec.replicas") && text.contains("BadRequest"), "{text}");
    let list = refused(s, &DEPLOYMENT.replace("[{name: web, image: busybox}]", "{name: web}"));
    assert!(list.contains("spec.template.spec.containers"), "{list}");
    let patched = s.apply(DEPLOYMENT);
    assert_eq!(patched, "deployment.apps/web created");
    let patch = s.sh("kubectl patch deployment web -p '{\"spec\":{\"replicas\":\"many\"}}'").fails();
    assert!(patch.contains("replicas"), "{patch}");
}

fn invalid_values_are_refused_field_by_field(s: &Session<'_>) {
    let negative = refused(s, &DEPLOYMENT.replace("replicas: 0", "replicas: -1"));
    assert!(
        negative.contains(
            "The Deployment \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        ),
        "{negative}"
    );
    let labels = refused(s, &DEPLOYMENT.replace("labels: {app: web}", "labels: {app: other}"));
    assert!(labels.contains("`selector` does not match template `labels`"), "{labels}");
    let service = "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{name: a, port: 70000}, {name: a, port: 0}]}}";
    let ports = refused(s, service);
    for text in [
        "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
        "spec.ports[1].name: Duplicate value: \"a\"",
    ] {
        assert!(ports.contains(text), "{text:?} is missing: {ports}");
    }
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {restartPolicy: Sometimes, containers: []}}";
    let pod = refused(s, pod);
    assert!(
        pod.contains("spec.containers: Required value")
            && pod.contains("restartPolicy: Unsupported value: \"Sometimes\""),
        "{pod}"
    );
}

fn names_must_be_valid(s: &Session<'_>) {
    let name = refused(s, "{apiVersion: v1, kind: ConfigMap, metadata: {name: Bad_Name}}");
    assert!(name.contains("The ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain"), "{name}");
    let key = refused(s, "{apiVersion: v1, kind: ConfigMap, metadata: {name: good}, data: {'a/b': c}}");
    assert!(key.contains("data[a/b]: Invalid value: \"a/b\": a valid config key must consist of"), "{key}");
    let service = s.sh("kubectl create service clusterip 1st --tcp=80").fails();
    assert!(service.contains("a DNS-1035 label must consist of"), "{service}");
    let namespace = s.sh("kubectl create namespace a.b").fails();
    assert!(namespace.contains("a lowercase RFC 1123 label must consist of"), "{namespace}");
}

fn immutable_fields_cannot_change(s: &Session<'_>) {
    s.apply(DEPLOYMENT);
    let selector = refused(s, &DEPLOYMENT.replace("app: web", "app: other"));
    assert!(selector.contains("spec.selector: Invalid value") && selector.contains("field is immutable"), "{selector}");
    s.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: fixed}, immutable: true, data: {a: b}}");
    let fixed = s.sh("kubectl patch cm fixed --type merge -p '{\"data\":{\"a\":\"c\"}}'").fails();
    assert!(fixed.contains("data: Forbidden: field is immutable when `immutable` is set"), "{fixed}");
    s.apply("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}");
    let address = s.sh("kubectl patch svc web --type merge -p '{\"spec\":{\"clusterIP\":\"10.1.2.3\"}}'").fails();
    assert!(address.contains("field is immutable") || address.contains("may not change once set"), "{address}");
    s.sh("kubectl run one --image=busybox --command -- sleep 600").ok();
    let pod = s.sh("kubectl patch pod one -p '{\"spec\":{\"hostname\":\"other\"}}'").fails();
    assert!(pod.contains("pod updates may not change fields other than"), "{pod}");
}

fn a_stale_object_does_not_replace_a_newer_one(s: &Session<'_>) {
    s.sh("kubectl create cm a --from-literal=k=1 && kubectl get cm a -o yaml > stale.yaml").ok();
    s.sh("kubectl patch cm a --type merge -p '{\"data\":{\"k\":\"2\"}}'").ok();
    let stale = s.sh("kubectl replace -f stale.yaml").fails();
    assert!(
        stale.contains("Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"),
        "{stale}"
    );
    assert_eq!(s.sh("kubectl get cm a -o jsonpath='{.data.k}'").ok(), "2");
}

fn what_is_too_large_is_refused(s: &Session<'_>) {
    s.sh("head -c 1100000 /dev/zero | tr '\\0' a > big").ok();
    let big = s.sh("kubectl create configmap big --from-file=big").fails();
    assert!(big.contains("ConfigMap \"big\" is invalid") && big.contains("Too long"), "{big}");
    s.sh("head -c 4000000 /dev/zero | tr '\\0' a > huge").ok();
    let huge = s.sh("kubectl create configmap huge --from-file=huge").fails();
    assert!(huge.to_lowercase().contains("too large"), "{huge}");
    s.sh("kubectl get cm").ok();
}

fn unknown_kinds_and_namespaces_are_refused(s: &Session<'_>) {
    let kind = refused(s, "{apiVersion: example.com/v1, kind: Bogus, metadata: {name: a}}");
    assert!(kind.contains("no matches for kind \"Bogus\" in version \"example.com/v1\""), "{kind}");
    let namespace = s.sh("kubectl -n nowhere create configmap a").fails();
    assert!(namespace.contains("namespaces \"nowhere\" not found"), "{namespace}");
}

fn an_unknown_image_says_how_to_add_one(s: &Session<'_>) {
    s.sh("kubectl run odd --image=example.com/no-such-image:1 --restart=Never").ok();
    let reason = "kubectl get pod odd -o jsonpath='{..waiting.reason}' | grep -c -E 'ErrImagePull|ImagePullBackOff'";
    s.until_prints(reason, "1");
    let told = s.sh("kubectl get events --field-selector involvedObject.name=odd").ok();
    assert!(told.contains("isthmus image add") && told.contains("example.com/no-such-image:1"), "{told}");
}

fn malformed_requests_get_a_status(s: &Session<'_>) {
    if !testkit::program("curl") {
        return;
    }
    for (part, file) in [("certificate", "cert.pem"), ("key", "key.pem")] {
        let data = format!("{{.users[0].user.client-{part}-data}}");
        s.sh(&format!("kubectl config view --raw --minify -o jsonpath='{data}' | base64 -d > {file}")).ok();
    }
    let server = s.sh("kubectl config view --raw --minify -o jsonpath='{.clusters[0].cluster.server}'").ok();
    let ask = |line: &str| -> serde_json::Value {
        let done = s.sh(&format!("curl -sk --cert cert.pem --key key.pem {}", line.replace("URL", &server)));
        serde_json::from_slice(&done.bytes).unwrap_or_else(|_| panic!("{}", done.transcript()))
    };
    let maps = format!("URL/api/v1/namespaces/{}/configmaps", s.namespace);
    let broken = ask(&format!("-H 'Content-Type: application/json' -d '{{' {maps}"));
    assert_eq!((&broken["kind"], &broken["code"]), (&"Status".into(), &400.into()), "{broken}");
    let media = ask(&format!("-H 'Content-Type: text/plain' -d 'x' {maps}"));
    assert_eq!((&media["reason"], &media["code"]), (&"UnsupportedMediaType".into(), &415.into()), "{media}");
    let kind =
        ask(&format!("-H 'Content-Type: application/json' -d '{{\"kind\":\"Secret\",\"apiVersion\":\"v1\"}}' {maps}"));
    assert_eq!(kind["code"], 400, "{kind}");
    let path = ask("URL/no/such/path");
    assert_eq!((&path["kind"], &path["code"]), (&"Status".into(), &404.into()), "{path}");
    let method = ask(&format!("-X PUT {maps}"));
    assert_eq!((&method["reason"], &method["code"]), (&"MethodNotAllowed".into(), &405.into()), "{method}");
    let selector = ask(&format!("'{maps}?labelSelector=a%3D%3D%3Db'"));
    assert_eq!(selector["code"], 400, "{selector}");
    let limit = ask(&format!("'{maps}?limit=many'"));
    assert_eq!(limit["code"], 400, "{limit}");
    let token = ask(&format!("'{maps}?continue=nonsense'"));
    assert_eq!(token["code"], 400, "{token}");
}

fn expired_revisions_are_gone(s: &Session<'_>) {
    let path = format!("/api/v1/namespaces/{}/configmaps", s.namespace);
    let future = s
        .sh(&format!(
            "kubectl get --raw '{path}?resourceVersion=999999999&resourceVersionMatch=NotOlderThan&timeoutSeconds=1'"
        ))
        .fails();
    assert!(future.contains("Too large resource version"), "{future}");
    let invalid = s.sh(&format!("kubectl get --raw '{path}?watch=true&resourceVersion=abc'")).fails();
    assert!(invalid.contains("resource version") || invalid.contains("resourceVersion"), "{invalid}");
}
