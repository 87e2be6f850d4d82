//! What `get`, `describe`, `explain` and their like print.

use std::time::Duration;

use testkit::{Running, Session};

crate::scenarios!(
    lists_are_printed_in_every_form,
    jsonpath_filters_and_ranges_work,
    pods_and_deployments_have_their_columns,
    services_have_their_columns,
    lists_are_sorted_selected_and_paged,
    several_kinds_are_listed_at_once,
    watches_print_each_change,
    describe_tells_the_story_of_a_pod,
    explain_documents_fields,
    api_resources_are_listed_with_short_names,
    events_say_what_happened,
    nodes_are_shown,
);

fn two_config_maps(s: &Session<'_>) {
    s.sh("kubectl create configmap a --from-literal=k=1 && kubectl create configmap b --from-literal=k=2").ok();
    s.sh("kubectl label cm a b test=output && kubectl label cm a tier=front").ok();
}

fn lists_are_printed_in_every_form(s: &Session<'_>) {
    two_config_maps(s);
    let get = |form: &str| s.sh(&format!("kubectl get cm -l test=output {form}")).ok();
    assert_eq!(get("-o name"), "configmap/a\nconfigmap/b");
    let table: Vec<Vec<String>> =
        get("").lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    assert_eq!(table[0], ["NAME", "DATA", "AGE"]);
    assert_eq!(table[1][..2], ["a", "1"]);
    assert!(get("--show-labels").lines().nth(1).unwrap().ends_with("test=output,tier=front"));
    assert!(get("-L tier").lines().next().unwrap().ends_with("TIER"));
    assert!(!get("--no-headers").contains("NAME"));
    assert_eq!(get("-o custom-columns=NAME:.metadata.name,K:.data.k"), "NAME   K\na      1\nb      2");
    assert_eq!(get("-o go-template='{{range .items}}{{.metadata.name}}={{.data.k}};{{end}}'"), "a=1;b=2;");
    let json: serde_json::Value = serde_json::from_str(&get("-o json")).unwrap();
    assert_eq!((&json["kind"], &json["items"][1]["data"]["k"]), (&"List".into(), &"2".into()));
    let yaml = get("-o yaml");
    assert!(
        yaml.starts_with("apiVersion: v1\nitems:\n- apiVersion: v1\n  data:\n    k: \"1\"\n  kind: ConfigMap"),
        "{yaml}"
    );
    assert!(s.sh("kubectl get cm a -o yaml --show-managed-fields").ok().contains("manager: kubectl-create"));
    assert!(!s.sh("kubectl get cm a -o yaml").ok().contains("managedFields"));
}

fn jsonpath_filters_and_ranges_work(s: &Session<'_>) {
    two_config_maps(s);
    let get = |path: &str| s.sh(&format!("kubectl get cm -l test=output -o jsonpath='{path}'")).ok();
    assert_eq!(get(r#"{range .items[*]}{.metadata.name}{"\t"}{.data.k}{"\n"}{end}"#), "a\t1\nb\t2");
    assert_eq!(get(r#"{.items[?(@.metadata.name=="b")].data.k}"#), "2");
    assert_eq!(get("{.items..metadata.name}"), "a b");
    assert_eq!(get("{.items[-1:].metadata.name} {.kind}"), "b List");
}

fn pods_and_deployments_have_their_columns(s: &Session<'_>) {
    s.sample("tcp-echo/tcp-echo.yaml");
    s.sh("kubectl rollout status deployment/tcp-echo --timeout=60s").ok();
    let rows = |line: &str| -> Vec<Vec<String>> {
        s.sh(line).ok().lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let deployments = rows("kubectl get deployments");
    assert_eq!(deployments[0], ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]);
    assert_eq!(deployments[1][..4], ["tcp-echo", "1/1", "1", "1"]);
    let wide = rows("kubectl get deploy -o wide");
    assert_eq!(wide[0][5..], ["CONTAINERS", "IMAGES", "SELECTOR"]);
    assert_eq!(wide[1][5..], ["tcp-echo", "docker.io/istio/tcp-echo-server:1.3", "app=tcp-echo,version=v1"]);
    let pods = rows("kubectl get pods");
    assert_eq!(pods[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(pods[1][1..4], ["1/1", "Running", "0"]);
    let pod = &rows("kubectl get pods -o wide --no-headers")[0];
    let address = s.sh("kubectl get pods -o jsonpath='{.items[0].status.podIP}'").ok();
    assert!(pod.contains(&address), "{pod:?} should show {address}");
    let sets = rows("kubectl get rs");
    assert_eq!(
        (&sets[0][..4], &sets[1][1..4]),
        (
            ["NAME", "DESIRED", "CURRENT", "READY"].map(String::from).as_slice(),
            ["1", "1", "1"].map(String::from).as_slice()
        )
    );
}

fn services_have_their_columns(s: &Session<'_>) {
    s.sample("tcp-echo/tcp-echo.yaml");
    let table = s.sh("kubectl get service tcp-echo").ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]);
    assert_eq!((rows[1][1], rows[1][3], rows[1][4]), ("ClusterIP", "<none>", "9000/TCP,9001/TCP"));
    s.sh("kubectl patch service tcp-echo -p '{\"spec\":{\"type\":\"LoadBalancer\"}}'").ok();
    s.sh("kubectl wait service/tcp-echo --for=jsonpath='{.status.loadBalancer.ingress[0].ip}' --timeout=30s").ok();
    let address = s.sh("kubectl get svc tcp-echo -o jsonpath='{.status.loadBalancer.ingress[0].ip}'").ok();
    let row = s.sh("kubectl get svc tcp-echo --no-headers").ok();
    assert!(row.contains(&address) && row.contains("9000:3"), "{row}");
}

fn lists_are_sorted_selected_and_paged(s: &Session<'_>) {
    two_config_maps(s);
    let names = |arguments: &str| s.sh(&format!("kubectl get cm -l test=output -o name {arguments}")).ok();
    assert_eq!(names("--sort-by=.data.k"), "configmap/a\nconfigmap/b");
    assert_eq!(names("--field-selector metadata.name=b"), "configmap/b");
    assert_eq!(names("--field-selector metadata.name!=b"), "configmap/a");
    assert_eq!(names("--chunk-size=1"), "configmap/a\nconfigmap/b");
    let everywhere = s.sh("kubectl get cm -A -l test=output --no-headers").ok();
    assert!(everywhere.lines().any(|line| line.starts_with(&s.namespace)), "{everywhere}");
    let unknown = s.sh("kubectl get cm --field-selector spec.bogus=1").fails();
    assert!(unknown.contains("\"spec.bogus\" is not a known field selector"), "{unknown}");
    assert_eq!(
        s.sh("kubectl get cm -l test=nothing").stderr.trim(),
        format!("No resources found in {} namespace.", s.namespace)
    );
}

fn several_kinds_are_listed_at_once(s: &Session<'_>) {
    s.sample("tcp-echo/tcp-echo.yaml");
    let names = s.sh("kubectl get svc,deploy -o name").ok();
    assert_eq!(names, "service/tcp-echo\ndeployment.apps/tcp-echo");
    let prefixes = ["pod/tcp-echo-", "service/tcp-echo ", "deployment.apps/tcp-echo ", "replicaset.apps/tcp-echo-"];
    // What the controllers make comes a little later than what was applied.
    testkit::until("all of the four kinds in one list", std::time::Duration::from_secs(60), || {
        let all = s.sh("kubectl get all").ok();
        prefixes.iter().all(|prefix| all.lines().any(|line| line.starts_with(prefix))).then_some(())
    });
    assert_eq!(s.sh("kubectl get svc/tcp-echo deploy/tcp-echo -o name").ok(), names);
}

fn watches_print_each_change(s: &Session<'_>) {
    s.sh("kubectl create configmap a --from-literal=k=1").ok();
    let form = r#"-o jsonpath='{.metadata.name}={.data.k}{"\n"}'"#;
    let watch = s.start(&format!("kubectl get cm --watch {form}"));
    let table = s.start("kubectl get cm --watch-only --output-watch-events --field-selector metadata.name=b");
    watch.line_with("a=1");
    s.sh("kubectl patch cm a --type merge -p '{\"data\":{\"k\":\"2\"}}'").ok();
    watch.line_with("a=2");
    change_until_watched(s, &table);
    watch.line_with("b=");
    s.sh("kubectl delete cm b").ok();
    table.line_with("DELETED");
}

/// Changes `b` until the watch, which says nothing when it begins, shows a change.
fn change_until_watched(s: &Session<'_>, watch: &Running) {
    s.sh("kubectl create configmap b --from-literal=n=0").ok();
    let mut n = 0;
    testkit::until("the watch has begun", Duration::from_secs(30), || {
        n += 1;
        s.sh(&format!("kubectl patch cm b --type merge -p '{{\"data\":{{\"n\":\"{n}\"}}}}'")).ok();
        watch.lines().iter().any(|line| line.starts_with("MODIFIED") || line.starts_with("ADDED")).then_some(())
    });
}

fn describe_tells_the_story_of_a_pod(s: &Session<'_>) {
    s.sample("tcp-echo/tcp-echo.yaml");
    s.sh("kubectl rollout status deployment/tcp-echo --timeout=60s").ok();
    let pod = s.sh("kubectl describe pod -l app=tcp-echo").ok();
    for text in [
        "Controlled By:  ReplicaSet/tcp-echo-",
        "Image:         docker.io/istio/tcp-echo-server:1.3",
        "Ready:          True",
        "Scheduled",
        "Started",
    ] {
        assert!(pod.contains(text), "{text:?} is missing:\n{pod}");
    }
    let deployment = s.sh("kubectl describe deployment tcp-echo").ok();
    for text in
        ["StrategyType:           RollingUpdate", "1 desired | 1 updated | 1 total | 1 available", "ScalingReplicaSet"]
    {
        assert!(deployment.contains(text), "{text:?} is missing:\n{deployment}");
    }
    let service = s.sh("kubectl describe service tcp-echo").ok();
    assert!(service.contains("Endpoints:") && service.contains(":9000"), "{service}");
}

fn explain_documents_fields(s: &Session<'_>) {
    let replicas = s.sh("kubectl explain deployment.spec.replicas").ok();
    assert!(replicas.contains("GROUP:      apps") && replicas.contains("FIELD: replicas <integer>"), "{replicas}");
    let containers = s.sh("kubectl explain pods.spec.containers").ok();
    assert!(
        containers.contains("FIELD: containers <[]Container>") && containers.contains("  image\t<string>"),
        "{containers}"
    );
    assert!(s.sh("kubectl explain service --recursive").ok().contains("clusterIP"));
    let unknown = s.sh("kubectl explain service.spec.bogus").fails();
    assert!(unknown.contains("field \"bogus\" does not exist"), "{unknown}");
}

fn api_resources_are_listed_with_short_names(s: &Session<'_>) {
    let table = s.sh("kubectl api-resources").ok();
    let row = |name: &str| -> Vec<&str> {
        table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|row| row[0] == name)
            .unwrap_or_else(|| panic!("{name}: {table}"))
    };
    assert_eq!(row("deployments"), ["deployments", "deploy", "apps/v1", "true", "Deployment"]);
    assert_eq!(row("namespaces"), ["namespaces", "ns", "v1", "false", "Namespace"]);
    assert_eq!(row("endpointslices"), ["endpointslices", "discovery.k8s.io/v1", "true", "EndpointSlice"]);
    assert_eq!(row("horizontalpodautoscalers")[1..3], ["hpa", "autoscaling/v2"]);
    assert_eq!(row("customresourcedefinitions")[1], "crd,crds");
    let verbs = s.sh("kubectl api-resources --api-group=apps -o wide").ok();
    assert!(verbs.contains("create,delete,deletecollection,get,list,patch,update,watch"), "{verbs}");
    let versions = s.sh("kubectl api-versions").ok();
    assert!(versions.lines().any(|line| line == "apps/v1") && versions.lines().any(|line| line == "v1"), "{versions}");
    let unknown = s.sh("kubectl get bogus").fails();
    assert!(unknown.contains("the server doesn't have a resource type \"bogus\""), "{unknown}");
    let version = s.sh("kubectl version").ok();
    assert!(version.contains("Server Version: v1."), "{version}");
    assert!(s.sh("kubectl cluster-info").ok().contains("Kubernetes control plane"));
}

fn events_say_what_happened(s: &Session<'_>) {
    s.sample("tcp-echo/tcp-echo.yaml");
    s.sh("kubectl rollout status deployment/tcp-echo --timeout=60s").ok();
    let reasons = "kubectl get events -o jsonpath='{range .items[*]}{.reason} {.involvedObject.kind}{\"\\n\"}{end}' | sort -u | tr '\\n' ,";
    let seen = s.sh(reasons).ok();
    for reason in
        ["ScalingReplicaSet Deployment", "SuccessfulCreate ReplicaSet", "Scheduled Pod", "Created Pod", "Started Pod"]
    {
        assert!(seen.contains(reason), "{reason} is missing: {seen}");
    }
    assert!(s.sh("kubectl get events").ok().starts_with("LAST SEEN   TYPE     REASON"));
    assert!(s.sh("kubectl events --for deployment/tcp-echo").ok().contains("ScalingReplicaSet"));
}

fn nodes_are_shown(s: &Session<'_>) {
    let node = s.sh("kubectl get nodes --no-headers").ok();
    assert_eq!(node.split_whitespace().nth(1), Some("Ready"), "{node}");
    assert!(s.sh("kubectl describe nodes").ok().contains("InternalIP:"));
}
