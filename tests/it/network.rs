//! Who reaches whom, by which name and address.

use testkit::Session;

crate::scenarios!(
    services_are_reached_by_every_name_and_address,
    clusters_reach_one_another_at_load_balancers_only,
    node_ports_answer_on_the_outer_network,
    a_headless_service_is_its_pods,
    external_names_are_aliases,
    endpoints_written_by_hand_are_served,
    a_service_without_endpoints_refuses,
    a_pod_reaches_itself_through_its_service,
    services_change_their_type,
    requests_are_spread_over_the_pods,
    the_world_outside_is_not_resolved,
    named_ports_are_found_in_the_pod,
);

/// A pod to ask from and a pod that answers, both ready.
fn sleep_and_echo(s: &Session<'_>) {
    s.sample("sleep/sleep.yaml");
    s.sample("tcp-echo/tcp-echo.yaml");
    s.sh("kubectl rollout status deployment/sleep --timeout=60s").ok();
    s.sh("kubectl rollout status deployment/tcp-echo --timeout=60s").ok();
}

/// What `host` at `port` answers to a line from the sleep pod.
fn ask(s: &Session<'_>, host: &str, port: &str) -> testkit::Done {
    s.sh(&format!("kubectl exec deploy/sleep -c sleep -- sh -c 'echo world | nc -w 5 {host} {port}'"))
}

/// Applies a service with this name and spec.
fn service(s: &Session<'_>, name: &str, spec: &str) {
    s.apply(&format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}}}}}"));
}

fn look_up(s: &Session<'_>, name: &str) -> testkit::Done {
    s.sh(&format!("kubectl exec deploy/sleep -- getent ahostsv4 {name} | sed 's/ .*//' | sort -u"))
}

fn services_are_reached_by_every_name_and_address(s: &Session<'_>) {
    sleep_and_echo(s);
    let service = s.sh("kubectl get svc tcp-echo -o jsonpath='{.spec.clusterIP}'").ok();
    let pod = s.sh("kubectl get pod -l app=tcp-echo -o jsonpath='{.items[0].status.podIP}'").ok();
    let in_namespace = format!("tcp-echo.{}", s.namespace);
    let full = format!("{in_namespace}.svc.cluster.local");
    for host in ["tcp-echo", &in_namespace, &format!("{in_namespace}.svc"), &full, &format!("{full}."), &service, &pod]
    {
        assert_eq!(ask(s, host, "9000").ok(), "hello world", "{host}");
    }
    assert_eq!(ask(s, "tcp-echo", "9001").ok(), "hello world");
    assert_eq!(ask(s, &pod, "9002").ok(), "hello world", "the pod listens where its service has no port");
    ask(s, "tcp-echo", "9002").fails();
    // As the walkthroughs write it: without options, and it returns.
    let line = "kubectl exec deploy/sleep -c sleep -- sh -c 'echo \"port 9000\" | nc tcp-echo 9000'";
    assert_eq!(s.sh(line).ok(), "hello port 9000");
}

fn clusters_reach_one_another_at_load_balancers_only(s: &Session<'_>) {
    sleep_and_echo(s);
    let far = s.federation.session("c2");
    far.sample("tcp-echo/tcp-echo.yaml");
    far.sh("kubectl rollout status deployment/tcp-echo --timeout=60s").ok();
    let pod = far.sh("kubectl get pod -l app=tcp-echo -o jsonpath='{.items[0].status.podIP}'").ok();
    let address = far.sh("kubectl get svc tcp-echo -o jsonpath='{.spec.clusterIP}'").ok();
    ask(s, &pod, "9000").fails();
    ask(s, &address, "9000").fails();
    far.sh("kubectl patch svc tcp-echo -p '{\"spec\":{\"type\":\"LoadBalancer\"}}'").ok();
    far.sh("kubectl wait svc/tcp-echo --for=jsonpath='{.status.loadBalancer.ingress[0].ip}' --timeout=30s").ok();
    let balancer = far.sh("kubectl get svc tcp-echo -o jsonpath='{.status.loadBalancer.ingress[0].ip}'").ok();
    let line = format!("kubectl exec deploy/sleep -- sh -c 'echo far | nc -w 5 {balancer} 9000'");
    s.until_prints(&line, "hello far");
    let outer = s.federation.command(&format!("run -- sh -c 'echo outer | nc -w 5 -N {balancer} 9000'"));
    if testkit::program("nc") {
        s.until_prints(&outer, "hello outer");
    }
    far.sh("kubectl delete svc tcp-echo").ok();
    testkit::until("the address is given back", std::time::Duration::from_secs(30), || {
        (ask(s, &balancer, "9000").code != 0).then_some(())
    });
}

fn node_ports_answer_on_the_outer_network(s: &Session<'_>) {
    if !testkit::program("nc") {
        return;
    }
    sleep_and_echo(s);
    s.sh("kubectl patch svc tcp-echo -p '{\"spec\":{\"type\":\"NodePort\"}}'").ok();
    let port = s.sh("kubectl get svc tcp-echo -o jsonpath='{.spec.ports[0].nodePort}'").ok();
    assert!((30000..32768).contains(&port.parse::<u16>().unwrap()), "{port}");
    let node =
        s.sh("kubectl get node -o jsonpath='{.items[0].status.addresses[?(@.type==\"InternalIP\")].address}'").ok();
    s.until_prints(
        &s.federation.command(&format!("run -- sh -c 'echo node | nc -w 5 -N {node} {port}'")),
        "hello node",
    );
    s.until_prints(&format!("kubectl exec deploy/sleep -- sh -c 'echo pod | nc -w 5 {node} {port}'"), "hello pod");
    let taken = s.sh(&format!("kubectl create service nodeport other --tcp=80 --node-port={port}")).fails();
    assert!(taken.contains("provided port is already allocated"), "{taken}");
}

fn a_headless_service_is_its_pods(s: &Session<'_>) {
    sleep_and_echo(s);
    s.sh("kubectl scale deployment tcp-echo --replicas=2 && kubectl rollout status deployment/tcp-echo --timeout=60s")
        .ok();
    service(s, "bare", "clusterIP: None, selector: {app: tcp-echo}, ports: [{name: tcp, port: 9000}]");
    let pods = "kubectl get pods -l app=tcp-echo -o jsonpath='{range .items[*]}{.status.podIP}{\"\\n\"}{end}' | sort";
    let pods = s.sh(pods).ok();
    assert_eq!(pods.lines().count(), 2);
    s.until_prints("kubectl exec deploy/sleep -- getent ahostsv4 bare | sed 's/ .*//' | sort -u", &pods);
    assert_eq!(ask(s, "bare", "9000").ok(), "hello world");
}

fn external_names_are_aliases(s: &Session<'_>) {
    sleep_and_echo(s);
    service(s, "alias", &format!("type: ExternalName, externalName: tcp-echo.{}.svc.cluster.local", s.namespace));
    let line = "kubectl exec deploy/sleep -- sh -c 'echo alias | nc -w 5 alias 9000'";
    s.until_prints(line, "hello alias");
    let row = s.sh("kubectl get svc alias --no-headers").ok();
    assert!(row.contains("ExternalName   <none>"), "{row}");
}

fn endpoints_written_by_hand_are_served(s: &Session<'_>) {
    sleep_and_echo(s);
    let pod = s.sh("kubectl get pod -l app=tcp-echo -o jsonpath='{.items[0].status.podIP}'").ok();
    service(s, "manual", "ports: [{name: tcp, port: 80, targetPort: 9000}]");
    let endpoints = format!(
        "{{apiVersion: v1, kind: Endpoints, metadata: {{name: manual}}, \
         subsets: [{{addresses: [{{ip: {pod}}}], ports: [{{name: tcp, port: 9000}}]}}]}}"
    );
    s.apply(&endpoints);
    s.until_prints("kubectl exec deploy/sleep -- sh -c 'echo manual | nc -w 5 manual 80'", "hello manual");
    service(s, "sliced", "ports: [{name: tcp, port: 80}]");
    let slice = format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
         metadata: {{name: sliced-1, labels: {{kubernetes.io/service-name: sliced}}}}, \
         endpoints: [{{addresses: ['{pod}'], conditions: {{ready: true}}}}], ports: [{{name: tcp, port: 9001, protocol: TCP}}]}}"
    );
    s.apply(&slice);
    s.until_prints("kubectl exec deploy/sleep -- sh -c 'echo sliced | nc -w 5 sliced 80'", "hello sliced");
}

fn a_service_without_endpoints_refuses(s: &Session<'_>) {
    sleep_and_echo(s);
    service(s, "empty", "selector: {app: nobody}, ports: [{port: 80}]");
    let refused = s.sh("kubectl exec deploy/sleep -- curl -sS -m 5 http://empty/").fails();
    assert!(refused.contains("exit code 7"), "a refusal, not a timeout (28): {refused}");
    s.sh("kubectl scale deployment tcp-echo --replicas=0").ok();
    s.until_prints("kubectl exec deploy/sleep -- curl -s -m 5 http://tcp-echo:9000/ -o /dev/null; echo $?", "7");
}

fn a_pod_reaches_itself_through_its_service(s: &Session<'_>) {
    s.sample("httpbin/httpbin.yaml");
    s.sh("kubectl rollout status deployment/httpbin --timeout=60s").ok();
    let own = "kubectl exec deploy/httpbin -- curl -s -m 5 -o /dev/null -w '%{http_code}' http://httpbin:8000/get";
    s.until_prints(own, "200");
}

fn services_change_their_type(s: &Session<'_>) {
    sleep_and_echo(s);
    let patch = |spec: &str| s.sh(&format!("kubectl patch svc tcp-echo --type merge -p '{{\"spec\":{spec}}}'")).ok();
    let get = |path: &str| s.sh(&format!("kubectl get svc tcp-echo -o jsonpath='{{{path}}}'")).ok();
    let address = get(".spec.clusterIP");
    patch(r#"{"type":"LoadBalancer"}"#);
    s.sh("kubectl wait svc/tcp-echo --for=jsonpath='{.status.loadBalancer.ingress[0].ip}' --timeout=30s").ok();
    assert_eq!(get(".spec.clusterIP"), address);
    patch(r#"{"type":"ClusterIP"}"#);
    s.until_prints("kubectl get svc tcp-echo -o jsonpath='{.status.loadBalancer.ingress}'", "");
    assert_eq!(get(".spec.ports[*].nodePort"), "");
    patch(r#"{"type":"ExternalName","externalName":"example.com","clusterIP":null,"clusterIPs":null}"#);
    assert_eq!(get(".spec.clusterIP"), "");
    patch(r#"{"type":"ClusterIP","externalName":null}"#);
    assert_ne!(get(".spec.clusterIP"), "");
    s.until_prints("kubectl exec deploy/sleep -- sh -c 'echo again | nc -w 5 tcp-echo 9000'", "hello again");
}

fn requests_are_spread_over_the_pods(s: &Session<'_>) {
    s.sample("sleep/sleep.yaml");
    s.sample("helloworld/helloworld.yaml");
    s.sh("kubectl wait deployment --all --for=condition=Available --timeout=60s").ok();
    let many = "for i in $(seq 60); do curl -s -m 5 http://helloworld:5000/hello; done";
    let answers = s.sh(&format!("kubectl exec deploy/sleep -- sh -c '{many}'")).ok();
    for version in ["v1", "v2"] {
        let count = answers
            .lines()
            .filter(|line| line.starts_with(&format!("Hello version: {version}, instance: helloworld-{version}-")))
            .count();
        assert!((10..=50).contains(&count), "{version} answered {count} of 60:\n{answers}");
    }
}

fn the_world_outside_is_not_resolved(s: &Session<'_>) {
    sleep_and_echo(s);
    for name in ["example.com", "nothing", &format!("nothing.{}.svc.cluster.local", s.namespace)] {
        assert_eq!(look_up(s, name).stdout(), "", "{name}");
        let code = s.sh(&format!("kubectl exec deploy/sleep -- curl -s -m 5 http://{name}/")).code;
        assert_eq!(code, 6, "{name} is not found at once (28 would be a timeout)");
    }
    let file = s.sh("kubectl exec deploy/sleep -- cat /etc/resolv.conf").ok();
    let search = format!("search {}.svc.cluster.local svc.cluster.local cluster.local", s.namespace);
    assert!(file.contains(&search) && file.contains("options ndots:5"), "{file}");
    let hosts = s.sh("kubectl exec deploy/sleep -- cat /etc/hosts").ok();
    let pod = s.sh("kubectl get pod -l app=sleep -o jsonpath='{.items[0].status.podIP}'").ok();
    assert!(hosts.contains(&pod) && hosts.contains("127.0.0.1"), "{hosts}");
}

fn named_ports_are_found_in_the_pod(s: &Session<'_>) {
    sleep_and_echo(s);
    let name = r#"{"spec":{"template":{"spec":{"containers":[{"name":"tcp-echo","ports":[{"containerPort":9002,"name":"third"}]}]}}}}"#;
    s.sh(&format!(
        "kubectl patch deployment tcp-echo -p '{name}' && kubectl rollout status deployment/tcp-echo --timeout=60s"
    ))
    .ok();
    service(s, "named", "selector: {app: tcp-echo}, ports: [{port: 80, targetPort: third}]");
    s.until_prints("kubectl exec deploy/sleep -- sh -c 'echo named | nc -w 5 named 80'", "hello named");
}
