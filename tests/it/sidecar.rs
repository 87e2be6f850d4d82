//! What a pod with a sidecar needs of its node, with a listener that says who it is in the sidecar's place.

use testkit::Session;

crate::scenarios!(
    connections_are_led_to_the_sidecar_but_its_own,
    a_sidecar_reads_its_token_and_writes_its_volumes,
    capture_that_is_not_possible_is_refused_in_words,
);

const INIT: &str = "[istio-iptables, -p, '15001', -z, '15006', -u, '1337', -m, REDIRECT, -i, '*', -x, '', -b, '*', -d, '15090,15021,15020']";

/// A pod as Istio's injection makes it, with an application that has the host's tools.
fn injected(s: &Session<'_>) {
    s.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: injected, labels: {{app: injected}}}}, spec: {{
           securityContext: {{fsGroup: 1337}},
           volumes: [
             {{name: istio-envoy, emptyDir: {{medium: Memory}}}}, {{name: istio-data, emptyDir: {{}}}},
             {{name: istio-podinfo, downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}},
             {{name: istio-token, projected: {{sources: [
               {{serviceAccountToken: {{audience: istio-ca, expirationSeconds: 43200, path: istio-token}}}}]}}}}],
           initContainers: [{{name: istio-init, image: 'docker.io/istio/proxyv2:1.27.1', args: {INIT},
             securityContext: {{allowPrivilegeEscalation: false, privileged: false, readOnlyRootFilesystem: false,
               runAsGroup: 0, runAsNonRoot: false, runAsUser: 0, capabilities: {{add: [NET_ADMIN, NET_RAW], drop: [ALL]}}}}}}],
           containers: [
             {{name: app, image: curlimages/curl, command: [sleep, '600']}},
             {{name: istio-proxy, image: 'docker.io/istio/proxyv2:1.27.1',
               command: [isthmus, sample, tcp-echo, '15001,15006,15021', sidecar],
               readinessProbe: {{tcpSocket: {{port: 15021}}, periodSeconds: 1}},
               securityContext: {{allowPrivilegeEscalation: false, privileged: false, readOnlyRootFilesystem: true,
                 runAsGroup: 1337, runAsNonRoot: true, runAsUser: 1337, capabilities: {{drop: [ALL]}}}},
               volumeMounts: [
                 {{name: istio-envoy, mountPath: /etc/istio/proxy}}, {{name: istio-data, mountPath: /var/lib/istio/data}},
                 {{name: istio-podinfo, mountPath: /etc/istio/pod}},
                 {{name: istio-token, mountPath: /var/run/secrets/tokens}}]}}]}}}}"
    ));
    s.sh("kubectl wait pod/injected --for=condition=Ready --timeout=60s").ok();
}

/// What answers a line that a container of the pod sends.
fn ask(s: &Session<'_>, container: &str, host: &str, port: u16) -> String {
    let script = format!("exec 3<>/dev/tcp/{host}/{port}; echo world >&3; read -r answer <&3; echo \"$answer\"");
    s.sh(&format!("kubectl exec injected -c {container} -- bash -c '{script}'")).ok()
}

fn connections_are_led_to_the_sidecar_but_its_own(s: &Session<'_>) {
    s.sample("tcp-echo/tcp-echo.yaml");
    s.sh("kubectl rollout status deployment/tcp-echo --timeout=60s").ok();
    injected(s);
    assert_eq!(ask(s, "app", "tcp-echo", 9000), "sidecar world");
    assert_eq!(ask(s, "istio-proxy", "tcp-echo", 9000), "hello world");
    assert_eq!(ask(s, "app", "192.0.2.1", 80), "sidecar world", "even where there is nothing");
    let own = s.sh("kubectl get pod injected -o jsonpath='{.status.podIP}'").ok();
    let from_outside = format!(
        "kubectl exec deploy/tcp-echo -- bash -c 'exec 3<>/dev/tcp/{own}/80; echo in >&3; read -r a <&3; echo $a'"
    );
    assert_eq!(s.sh(&from_outside).ok(), "sidecar in");
    if testkit::program("openssl") {
        // The walkthroughs look at what another pod's sidecar shows from here, around their own.
        let s_client = |container: &str| {
            s.sh(&format!("kubectl exec injected -c {container} -- openssl s_client -connect tcp-echo:9002 </dev/null"))
        };
        assert!(s_client("istio-proxy").fails().contains("refused"), "no port of the service's, and no sidecar");
        assert!(!s_client("app").fails().contains("refused"), "the sidecar takes every connection");
    }
}

fn a_sidecar_reads_its_token_and_writes_its_volumes(s: &Session<'_>) {
    injected(s);
    let sh = |script: &str| s.sh(&format!("kubectl exec injected -c istio-proxy -- sh -c '{script}'"));
    let token = sh("cat /var/run/secrets/tokens/istio-token").ok();
    assert_eq!(token.split('.').count(), 3, "{token}");
    sh("touch /etc/istio/proxy/envoy.json /var/lib/istio/data/state && ls /etc/istio/proxy").ok();
    let nobody = sh("pilot-agent request GET /config_dump").fails();
    assert!(nobody.contains("no sidecar answers on 127.0.0.1:15000"), "{nobody}");
    s.sh("kubectl label pod injected tier=front").ok();
    s.until_prints(
        "kubectl exec injected -c istio-proxy -- cat /etc/istio/pod/labels",
        "app=\"injected\"\ntier=\"front\"",
    );
}

fn capture_that_is_not_possible_is_refused_in_words(s: &Session<'_>) {
    for (name, args, context, why) in [
        ("plain", "[istio-iptables, -i, '*']", "{}", "add NET_ADMIN to the container"),
        ("tproxy", "[istio-iptables, -m, TPROXY]", "{capabilities: {add: [NET_ADMIN]}}", "only REDIRECT is supported"),
    ] {
        s.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, containers: [
               {{name: main, image: 'gcr.io/istio-release/proxyv2', args: {args}, securityContext: {context}}}]}}}}"
        ));
        s.until_prints(&format!("kubectl get pod {name} -o jsonpath='{{.status.phase}}'"), "Failed");
        let said = s.sh(&format!("kubectl logs {name}")).ok();
        assert!(said.contains(why), "{said}");
    }
}
