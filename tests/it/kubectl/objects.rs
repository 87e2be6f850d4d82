//! Creating, changing and deleting objects.

use testkit::Session;

crate::scenarios!(
    namespaces_are_created_labelled_and_deleted,
    deleting_a_namespace_deletes_what_is_in_it,
    apply_creates_configures_and_leaves_alone,
    apply_with_a_selector_takes_what_it_selects,
    apply_removes_what_the_file_no_longer_has,
    secrets_and_config_maps_are_created_from_literals_and_files,
    tls_secrets_are_created_from_pem_files,
    services_are_patched_in_three_ways,
    labels_and_annotations_are_set_and_removed,
    objects_are_replaced_and_edited,
    diff_shows_what_apply_would_change,
    dry_runs_change_nothing,
    deletion_takes_names_files_selectors_and_all,
    wait_returns_when_its_condition_holds,
    dependents_are_deleted_with_their_owner,
    finalizers_hold_deletion_back,
    generated_names_are_unique,
);

const CONFIG_MAP: &str = "
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
  labels: {app: a}
data:
  colour: red
  size: large
";

fn namespaces_are_created_labelled_and_deleted(s: &Session<'_>) {
    let name = format!("{}-more", s.namespace);
    assert_eq!(s.sh(&format!("kubectl create namespace {name}")).ok(), format!("namespace/{name} created"));
    let again = s.sh(&format!("kubectl create namespace {name}")).fails();
    assert!(
        again.contains(&format!("Error from server (AlreadyExists): namespaces \"{name}\" already exists")),
        "{again}"
    );
    let label = format!("kubectl label namespace {name} istio-injection=enabled");
    assert_eq!(s.sh(&label).ok(), format!("namespace/{name} labeled"));
    assert_eq!(s.sh(&label).ok(), format!("namespace/{name} not labeled"));
    let get =
        format!("kubectl get namespace {name} -o jsonpath='{{.metadata.labels.istio-injection}} {{.status.phase}}'");
    assert_eq!(s.sh(&get).ok(), "enabled Active");
    assert!(s.sh(&format!("kubectl delete ns {name}")).ok().contains(&format!("namespace \"{name}\" deleted")));
    let gone = s.sh(&format!("kubectl get ns {name}")).fails();
    assert!(gone.contains(&format!("Error from server (NotFound): namespaces \"{name}\" not found")), "{gone}");
}

fn deleting_a_namespace_deletes_what_is_in_it(s: &Session<'_>) {
    let name = format!("{}-more", s.namespace);
    s.sh(&format!("kubectl create namespace {name}")).ok();
    s.sh(&format!("kubectl -n {name} create configmap a --from-literal=k=v")).ok();
    s.sh(&format!("kubectl delete namespace {name}")).ok();
    s.sh(&format!("kubectl create namespace {name}")).ok();
    let left = s.sh(&format!("kubectl -n {name} get configmap a")).fails();
    assert!(left.contains("NotFound"), "{left}");
    s.sh(&format!("kubectl delete namespace {name}")).ok();
}

fn apply_creates_configures_and_leaves_alone(s: &Session<'_>) {
    assert_eq!(s.apply(CONFIG_MAP), "configmap/settings created");
    assert_eq!(s.apply(CONFIG_MAP), "configmap/settings unchanged");
    assert_eq!(s.apply(&CONFIG_MAP.replace("red", "blue")), "configmap/settings configured");
    assert_eq!(s.sh("kubectl get cm settings -o jsonpath='{.data.colour}'").ok(), "blue");
    assert_eq!(s.sample("tcp-echo/tcp-echo.yaml"), "service/tcp-echo created\ndeployment.apps/tcp-echo created");
    assert_eq!(s.sample("tcp-echo/tcp-echo.yaml"), "service/tcp-echo unchanged\ndeployment.apps/tcp-echo unchanged");
}

fn apply_with_a_selector_takes_what_it_selects(s: &Session<'_>) {
    let manifest = std::fs::read_to_string("samples/helloworld/helloworld.yaml").unwrap();
    s.write("helloworld.yaml", &manifest);
    assert_eq!(s.sh("kubectl apply -f helloworld.yaml -l service=helloworld").ok(), "service/helloworld created");
    let v1 = s.sh_with_input("kubectl apply -f - -l version=v1", manifest.as_bytes()).ok();
    assert_eq!(v1, "deployment.apps/helloworld-v1 created");
    assert_eq!(s.sh("kubectl get deployments -o name").ok(), "deployment.apps/helloworld-v1");
}

fn apply_removes_what_the_file_no_longer_has(s: &Session<'_>) {
    s.apply(CONFIG_MAP);
    s.sh("kubectl patch cm settings --type merge -p '{\"data\":{\"mine\":\"yes\"}}'").ok();
    s.apply(&CONFIG_MAP.replace("  size: large\n", ""));
    assert_eq!(s.sh("kubectl get cm settings -o jsonpath='{.data}'").ok(), r#"{"colour":"red","mine":"yes"}"#);
}

fn secrets_and_config_maps_are_created_from_literals_and_files(s: &Session<'_>) {
    s.write("motd", "hello\nworld\n");
    let secret = "kubectl create secret generic keys --from-literal=user=admin --from-file=motd";
    assert_eq!(s.sh(secret).ok(), "secret/keys created");
    assert_eq!(s.sh("kubectl get secret keys -o jsonpath='{.type} {.data.user}'").ok(), "Opaque YWRtaW4=");
    assert_eq!(s.sh("kubectl get secret keys -o go-template='{{.data.motd | base64decode}}'").ok(), "hello\nworld");
    let description = s.sh("kubectl describe secret keys").ok();
    assert!(description.contains("motd:  12 bytes") && description.contains("user:  5 bytes"), "{description}");

    let config_map = "kubectl create configmap settings --from-literal=colour=red --from-file=motd";
    assert_eq!(s.sh(config_map).ok(), "configmap/settings created");
    assert_eq!(s.sh("kubectl get cm settings -o jsonpath='{.data.colour} {.data.motd}'").ok(), "red hello\nworld");
    let description = s.sh("kubectl describe configmap settings").ok();
    assert!(description.contains("colour:\n----\nred"), "{description}");
    let again = s.sh(config_map).fails();
    assert!(again.contains("configmaps \"settings\" already exists"), "{again}");
}

fn tls_secrets_are_created_from_pem_files(s: &Session<'_>) {
    if !testkit::program("openssl") {
        return;
    }
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem \
                -days 1 -subj /CN=example.com";
    s.sh(make).ok();
    assert_eq!(s.sh("kubectl create secret tls gateway --key key.pem --cert cert.pem").ok(), "secret/gateway created");
    assert_eq!(s.sh("kubectl get secret gateway -o jsonpath='{.type}'").ok(), "kubernetes.io/tls");
    let same = "kubectl get secret gateway -o jsonpath='{.data.tls\\.crt}' | base64 -d | cmp - cert.pem";
    s.sh(same).ok();
}

fn services_are_patched_in_three_ways(s: &Session<'_>) {
    s.sample("tcp-echo/tcp-echo.yaml");
    let ports = "kubectl get service tcp-echo -o jsonpath='{.spec.ports[*].port}'";
    let patch = |arguments: &str| s.sh(&format!("kubectl patch service tcp-echo {arguments}"));
    let strategic = patch(r#"-p '{"spec":{"ports":[{"port":9002,"name":"third"}]}}'"#).ok();
    assert_eq!(strategic, "service/tcp-echo patched");
    assert_eq!(s.sh(ports).ok(), "9002 9000 9001", "the merge key is the port, and what is new comes first");
    patch(r#"--type strategic -p '{"spec":{"ports":[{"port":9002,"$patch":"delete"}]}}'"#).ok();
    assert_eq!(s.sh(ports).ok(), "9000 9001");
    patch(r#"--type json -p '[{"op":"replace","path":"/spec/ports/1/port","value":9005}]'"#).ok();
    assert_eq!(s.sh(ports).ok(), "9000 9005");
    patch(r#"--type merge -p '{"spec":{"ports":[{"port":9000,"name":"tcp"}]}}'"#).ok();
    assert_eq!(s.sh(ports).ok(), "9000");
    assert_eq!(
        patch(r#"--type merge -p '{"spec":{"ports":[{"port":9000,"name":"tcp"}]}}'"#).ok(),
        "service/tcp-echo patched (no change)"
    );
    let failed = patch(r#"--type json -p '[{"op":"test","path":"/spec/ports/0/port","value":1}]'"#).fails();
    assert!(
        failed.contains("testing value /spec/ports/0/port failed") || failed.contains("/spec/ports/0/port"),
        "{failed}"
    );

    let image = r#"kubectl patch deployment tcp-echo -p '{"spec":{"template":{"spec":{"containers":[{"name":"tcp-echo","env":[{"name":"A","value":"1"}]}]}}}}'"#;
    s.sh(image).ok();
    let container =
        "kubectl get deployment tcp-echo -o jsonpath='{.spec.template.spec.containers[*].image} {..env[0].value}'";
    assert_eq!(s.sh(container).ok(), "docker.io/istio/tcp-echo-server:1.3 1");
}

fn labels_and_annotations_are_set_and_removed(s: &Session<'_>) {
    s.apply(CONFIG_MAP);
    s.sh("kubectl label cm settings tier=front").ok();
    let taken = s.sh("kubectl label cm settings tier=back").fails();
    assert!(taken.contains("--overwrite"), "{taken}");
    s.sh("kubectl label cm settings tier=back --overwrite").ok();
    s.sh("kubectl annotate cm settings note='a b'").ok();
    assert_eq!(
        s.sh("kubectl get cm -l 'tier in (back),app!=b' -o jsonpath='{.items[0].metadata.annotations.note}'").ok(),
        "a b"
    );
    s.sh("kubectl label cm settings tier-").ok();
    assert_eq!(s.sh("kubectl get cm -l '!tier,app' -o name").ok(), "configmap/settings");
    let bad = s.sh("kubectl label cm settings tier='not valid'").fails();
    assert!(bad.contains("a valid label must be"), "{bad}");
}

fn objects_are_replaced_and_edited(s: &Session<'_>) {
    s.sh("kubectl create configmap settings --from-literal=colour=red").ok();
    let replace = "kubectl get cm settings -o yaml | sed s/red/blue/ | kubectl replace -f -";
    assert_eq!(s.sh(replace).ok(), "configmap/settings replaced");
    let edited = s.with("KUBE_EDITOR", "sed -i s/blue/green/").sh("kubectl edit cm settings").ok();
    assert_eq!(edited, "configmap/settings edited");
    assert_eq!(s.sh("kubectl get cm settings -o jsonpath='{.data.colour}'").ok(), "green");
    s.sample("tcp-echo/tcp-echo.yaml");
    let edited =
        s.with("KUBE_EDITOR", "sed -i 's/replicas: 1/replicas: 0/'").sh("kubectl edit deployment tcp-echo").ok();
    assert_eq!(edited, "deployment.apps/tcp-echo edited");
    assert_eq!(s.sh("kubectl get deployment tcp-echo -o jsonpath='{.spec.replicas}'").ok(), "0");
    let missing = s.sh_with_input("kubectl replace -f -", CONFIG_MAP.replace("settings", "other").as_bytes()).fails();
    assert!(missing.contains("configmaps \"other\" not found"), "{missing}");
}

fn diff_shows_what_apply_would_change(s: &Session<'_>) {
    if !testkit::program("diff") {
        return;
    }
    s.apply(CONFIG_MAP);
    let same = s.sh_with_input("kubectl diff -f -", CONFIG_MAP.as_bytes());
    assert_eq!((same.code, same.stdout()), (0, String::new()), "{}", same.stderr);
    let other = s.sh_with_input("kubectl diff -f -", CONFIG_MAP.replace("red", "blue").as_bytes());
    assert_eq!(other.code, 1, "{}", other.transcript());
    assert!(other.stdout().contains("-  colour: red\n+  colour: blue"), "{}", other.transcript());
    assert_eq!(s.sh("kubectl get cm settings -o jsonpath='{.data.colour}'").ok(), "red");
}

fn dry_runs_change_nothing(s: &Session<'_>) {
    let created = s.sh("kubectl create configmap a --from-literal=k=v --dry-run=server").ok();
    assert_eq!(created, "configmap/a created (server dry run)");
    let printed = s.sh("kubectl create configmap a --from-literal=k=v --dry-run=client -o yaml").ok();
    assert!(printed.contains("kind: ConfigMap"), "{printed}");
    assert!(s.sh("kubectl get cm a").fails().contains("NotFound"));
    s.apply(CONFIG_MAP);
    assert!(s.sh("kubectl delete cm settings --dry-run=server").ok().ends_with("(server dry run)"));
    s.sh("kubectl patch cm settings --dry-run=server --type merge -p '{\"data\":{\"colour\":\"blue\"}}'").ok();
    assert_eq!(s.sh("kubectl get cm settings -o jsonpath='{.data.colour}'").ok(), "red");
}

fn deletion_takes_names_files_selectors_and_all(s: &Session<'_>) {
    for name in ["a", "b", "c", "d", "e"] {
        s.sh(&format!("kubectl create configmap {name} --from-literal=k={name}")).ok();
    }
    s.sh("kubectl label cm b c tier=back").ok();
    // Newer versions of kubectl also say from which namespace.
    let deleted = |line: &str, names: &[&str]| {
        let said = s.sh(line).ok();
        for name in names {
            assert!(said.contains(&format!("configmap \"{name}\" deleted")), "{said}");
        }
    };
    deleted("kubectl delete cm a", &["a"]);
    deleted("kubectl delete cm -l tier=back", &["b", "c"]);
    s.write("settings.yaml", CONFIG_MAP);
    s.sh("kubectl apply -f settings.yaml").ok();
    deleted("kubectl delete -f settings.yaml", &["settings"]);
    let missing = s.sh("kubectl delete -f settings.yaml").fails();
    assert!(missing.contains("configmaps \"settings\" not found"), "{missing}");
    assert_eq!(s.sh("kubectl delete -f settings.yaml --ignore-not-found").ok(), "");
    assert_eq!(s.sh("kubectl delete cm nothing --ignore-not-found=true").ok(), "");
    deleted("kubectl delete cm --all", &["d", "e"]);
}

fn wait_returns_when_its_condition_holds(s: &Session<'_>) {
    s.sample("tcp-echo/tcp-echo.yaml");
    let available = s.sh("kubectl wait deployment/tcp-echo --for=condition=Available --timeout=60s").ok();
    assert_eq!(available, "deployment.apps/tcp-echo condition met");
    s.sh("kubectl wait pod -l app=tcp-echo --for=condition=Ready --timeout=60s").ok();
    s.sh("kubectl wait pod -l app=tcp-echo --for=jsonpath='{.status.phase}'=Running --timeout=60s").ok();
    let waiting = s.start("kubectl wait deployment/tcp-echo --for=delete --timeout=60s");
    s.sh("kubectl delete deployment tcp-echo").ok();
    assert_eq!(waiting.wait(), 0);
    s.apply(CONFIG_MAP);
    let late = s.sh("kubectl wait cm/settings --for=jsonpath='{.data.colour}'=blue --timeout=1s").fails();
    assert!(late.contains("timed out waiting for the condition"), "{late}");
}

fn dependents_are_deleted_with_their_owner(s: &Session<'_>) {
    s.apply(CONFIG_MAP);
    let uid = s.sh("kubectl get cm settings -o jsonpath='{.metadata.uid}'").ok();
    let dependent = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: dependent, ownerReferences: [\
         {{apiVersion: v1, kind: ConfigMap, name: settings, uid: {uid}}}]}}}}"
    );
    s.apply(&dependent);
    s.apply(&dependent.replace("name: dependent", "name: orphan"));
    s.sh("kubectl patch cm orphan --type json -p '[{\"op\":\"remove\",\"path\":\"/metadata/ownerReferences\"}]'").ok();
    s.sh("kubectl delete cm settings").ok();
    s.sh("kubectl wait cm/dependent --for=delete --timeout=30s").ok();
    s.sh("kubectl get cm orphan").ok();

    s.sample("tcp-echo/tcp-echo.yaml");
    s.sh("kubectl wait deployment/tcp-echo --for=condition=Available --timeout=60s").ok();
    s.sh("kubectl delete deployment tcp-echo --cascade=orphan").ok();
    assert_eq!(s.sh("kubectl get rs -o jsonpath='{.items[*].metadata.ownerReferences}'").ok(), "");
    s.sh("kubectl delete rs -l app=tcp-echo --cascade=foreground").ok();
    s.until_prints("kubectl get pods -o name", "");
}

fn finalizers_hold_deletion_back(s: &Session<'_>) {
    s.apply(&CONFIG_MAP.replace("labels: {app: a}", "finalizers: [example.com/hold]"));
    s.sh("kubectl delete cm settings --wait=false").ok();
    assert_ne!(s.sh("kubectl get cm settings -o jsonpath='{.metadata.deletionTimestamp}'").ok(), "");
    s.sh("kubectl patch cm settings --type merge -p '{\"metadata\":{\"finalizers\":null}}'").ok();
    assert!(s.sh("kubectl get cm settings").fails().contains("NotFound"));
}

fn generated_names_are_unique(s: &Session<'_>) {
    let manifest = "{apiVersion: v1, kind: ConfigMap, metadata: {generateName: made-}}";
    for _ in 0..2 {
        let made = s.sh_with_input("kubectl create -f -", manifest.as_bytes()).ok();
        assert!(made.starts_with("configmap/made-") && made.len() == "configmap/made-12345 created".len(), "{made}");
    }
    assert_eq!(s.sh("kubectl get cm -o name | grep -c made-").ok(), "2");
}
