//! What a pod's specification asks for, and whether it gets it.

use testkit::Session;

crate::scenarios!(
    init_containers_run_first_and_in_order,
    containers_share_network_and_volumes,
    environments_are_composed,
    volumes_follow_what_they_show,
    projected_volumes_hold_tokens_and_fields,
    a_failing_liveness_probe_restarts_the_container,
    a_failing_readiness_probe_takes_the_pod_out_of_service,
    crash_loops_back_off,
    restart_policies_are_followed,
    termination_is_graceful_and_then_forced,
    pods_are_apart_from_one_another,
    missing_configuration_is_named,
);

fn pod(s: &Session<'_>, name: &str, spec: &str) {
    s.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {spec}}}"
    ));
}

fn ready(s: &Session<'_>, name: &str) {
    s.sh(&format!("kubectl wait pod/{name} --for=condition=Ready --timeout=60s")).ok();
}

fn init_containers_run_first_and_in_order(s: &Session<'_>) {
    pod(
        s,
        "ordered",
        "{volumes: [{name: shared, emptyDir: {}}],
          initContainers: [
            {name: one, image: busybox, command: [sh, -c, 'echo one >> /shared/order'], volumeMounts: [{name: shared, mountPath: /shared}]},
            {name: two, image: busybox, command: [sh, -c, 'echo two >> /shared/order'], volumeMounts: [{name: shared, mountPath: /shared}]}],
          containers: [
            {name: main, image: busybox, command: [sh, -c, 'cat /shared/order; sleep 600'], volumeMounts: [{name: shared, mountPath: /shared}]}]}",
    );
    ready(s, "ordered");
    s.until_prints("kubectl logs ordered", "one\ntwo");
    assert_eq!(
        s.sh("kubectl get pod ordered -o jsonpath='{.status.initContainerStatuses[*].state.terminated.reason}'").ok(),
        "Completed Completed"
    );
    pod(
        s,
        "stuck",
        "{restartPolicy: Never, initContainers: [{name: one, image: busybox, command: [sh, -c, 'exit 4']}], containers: [{name: main, image: busybox, command: [sleep, '600']}]}",
    );
    s.until_prints("kubectl get pod stuck -o jsonpath='{.status.phase} {.status.initContainerStatuses[0].state.terminated.exitCode}'", "Failed 4");
    let row = s.sh("kubectl get pod stuck --no-headers").ok();
    assert!(row.contains("Init:Error"), "{row}");
}

fn containers_share_network_and_volumes(s: &Session<'_>) {
    pod(
        s,
        "pair",
        "{volumes: [{name: shared, emptyDir: {}}],
          containers: [
            {name: server, image: 'docker.io/istio/tcp-echo-server:1.3', args: ['9000', near], volumeMounts: [{name: shared, mountPath: /here}]},
            {name: client, image: busybox, command: [sleep, '600'], volumeMounts: [{name: shared, mountPath: /there}]}]}",
    );
    ready(s, "pair");
    s.until_prints("kubectl exec pair -c client -- sh -c 'echo hi | nc -w 5 127.0.0.1 9000'", "near hi");
    s.sh("kubectl exec pair -c server -- sh -c 'echo note > /here/note'").ok();
    assert_eq!(s.sh("kubectl exec pair -c client -- cat /there/note").ok(), "note");
    let row = s.sh("kubectl get pod pair --no-headers").ok();
    assert!(row.contains("2/2"), "{row}");
    let logs = s.sh("kubectl logs pair");
    assert!(logs.stderr.contains("Defaulted container \"server\" out of: server, client"), "{}", logs.transcript());
    assert!(s.sh("kubectl logs pair --all-containers --prefix").ok().contains("[pod/pair/server]"));
}

fn environments_are_composed(s: &Session<'_>) {
    s.sh("kubectl create configmap settings --from-literal=COLOUR=red --from-literal=SIZE=1").ok();
    s.sh("kubectl create secret generic keys --from-literal=password=hidden").ok();
    pod(
        s,
        "environment",
        "{containers: [{name: main, image: busybox, command: [sh, -c, 'env; sleep 600'],
          envFrom: [{configMapRef: {name: settings}, prefix: S_}, {secretRef: {name: absent, optional: true}}],
          env: [
            {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}},
            {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}},
            {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}},
            {name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}},
            {name: APP, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}},
            {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}},
            {name: GREETING, value: 'hello $(POD) $$(POD) $(ABSENT)'}],
          resources: {limits: {cpu: '2'}}}]}",
    );
    ready(s, "environment");
    let address = s.sh("kubectl get pod environment -o jsonpath='{.status.podIP}'").ok();
    let environment = s.sh("kubectl exec environment -- env").ok();
    for line in [
        "S_COLOUR=red",
        "PASSWORD=hidden",
        "POD=environment",
        &format!("NAMESPACE={}", s.namespace),
        &format!("ADDRESS={address}"),
        "APP=environment",
        "CPU=2",
        "GREETING=hello environment $(POD) $(ABSENT)",
        "HOSTNAME=environment",
    ] {
        assert!(environment.lines().any(|found| found == line), "{line} is missing:\n{environment}");
    }
    assert!(environment.contains("KUBERNETES_SERVICE_HOST="), "{environment}");
    assert!(!environment.contains("ISTHMUS"), "the pod's environment is its own:\n{environment}");
}

fn volumes_follow_what_they_show(s: &Session<'_>) {
    s.sh("kubectl create configmap settings --from-literal=colour=red --from-literal=size=1").ok();
    s.sh("kubectl create secret generic keys --from-literal=password=old").ok();
    pod(
        s,
        "mounted",
        "{volumes: [
            {name: settings, configMap: {name: settings, items: [{key: colour, path: deep/colour}]}},
            {name: keys, secret: {secretName: keys, defaultMode: 256}},
            {name: late, secret: {secretName: late, optional: true}}],
          containers: [{name: main, image: busybox, command: [sleep, '600'], volumeMounts: [
            {name: settings, mountPath: /settings}, {name: keys, mountPath: /keys, readOnly: true}, {name: late, mountPath: /late},
            {name: settings, mountPath: /etc/colour, subPath: deep/colour}]}]}",
    );
    ready(s, "mounted");
    let cat = |path: &str| format!("kubectl exec mounted -- cat {path}");
    assert_eq!(s.sh(&cat("/settings/deep/colour")).ok(), "red");
    assert_eq!(s.sh(&cat("/etc/colour")).ok(), "red");
    assert_eq!(s.sh("kubectl exec mounted -- stat -L -c %a /keys/password").ok(), "400");
    s.sh("kubectl exec mounted -- sh -c 'echo x > /keys/password'").fails();
    s.sh("kubectl exec mounted -- ls /settings/size").fails();
    s.sh("kubectl patch cm settings --type merge -p '{\"data\":{\"colour\":\"blue\"}}'").ok();
    s.sh(
        "kubectl create secret generic keys --from-literal=password=new --dry-run=client -o yaml | kubectl apply -f -",
    )
    .ok();
    s.sh("kubectl create secret generic late --from-literal=here=yes").ok();
    s.until_prints(&cat("/settings/deep/colour"), "blue");
    s.until_prints(&cat("/keys/password"), "new");
    s.until_prints(&cat("/late/here"), "yes");
}

fn projected_volumes_hold_tokens_and_fields(s: &Session<'_>) {
    s.sh("kubectl create configmap settings --from-literal=colour=red").ok();
    pod(
        s,
        "projected",
        "{volumes: [{name: all, projected: {sources: [
            {serviceAccountToken: {path: token, audience: istio-ca, expirationSeconds: 3600}},
            {configMap: {name: settings}},
            {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}}],
          containers: [{name: main, image: busybox, command: [sleep, '600'], volumeMounts: [{name: all, mountPath: /all}]}]}",
    );
    ready(s, "projected");
    assert_eq!(s.sh("kubectl exec projected -- cat /all/colour").ok(), "red");
    assert_eq!(s.sh("kubectl exec projected -- cat /all/labels").ok(), "app=\"projected\"");
    let token = s.sh("kubectl exec projected -- cat /all/token").ok();
    let review = format!(
        "{{apiVersion: authentication.k8s.io/v1, kind: TokenReview, spec: {{token: {token}, audiences: [istio-ca]}}}}"
    );
    let review = s.sh_with_input(
        "kubectl create -f - -o jsonpath='{.status.authenticated} {.status.user.username}'",
        review.as_bytes(),
    );
    assert_eq!(review.ok(), format!("true system:serviceaccount:{}:default", s.namespace));
    s.sh("kubectl label pod projected tier=front").ok();
    s.until_prints("kubectl exec projected -- cat /all/labels", "app=\"projected\"\ntier=\"front\"");
}

fn a_failing_liveness_probe_restarts_the_container(s: &Session<'_>) {
    pod(
        s,
        "alive",
        "{terminationGracePeriodSeconds: 0, volumes: [{name: state, emptyDir: {}}],
          containers: [{name: main, image: busybox, command: [sleep, '600'], volumeMounts: [{name: state, mountPath: /state}],
          livenessProbe: {exec: {command: [sh, -c, 'test ! -e /state/dead || ! rm /state/dead']}, periodSeconds: 1, failureThreshold: 1}}]}",
    );
    ready(s, "alive");
    s.sh("kubectl exec alive -- touch /state/dead").ok();
    s.until_prints("kubectl get pod alive -o jsonpath='{.status.containerStatuses[0].restartCount}'", "1");
    let events = s.sh("kubectl get events --field-selector involvedObject.name=alive").ok();
    assert!(events.contains("Liveness probe failed"), "{events}");
    ready(s, "alive");
}

fn a_failing_readiness_probe_takes_the_pod_out_of_service(s: &Session<'_>) {
    s.apply("{apiVersion: v1, kind: Service, metadata: {name: probed}, spec: {selector: {app: probed}, ports: [{port: 80, targetPort: 8080}]}}");
    pod(
        s,
        "probed",
        "{volumes: [{name: state, emptyDir: {}}], containers: [
          {name: main, image: 'docker.io/mccutchen/go-httpbin:v2.15.0', ports: [{containerPort: 8080, name: web}],
           startupProbe: {httpGet: {path: /status/200, port: web}, periodSeconds: 1},
           readinessProbe: {exec: {command: [sh, -c, 'test ! -e /state/busy']}, periodSeconds: 1, failureThreshold: 1},
           livenessProbe: {tcpSocket: {port: web}, periodSeconds: 1},
           volumeMounts: [{name: state, mountPath: /state}]}]}",
    );
    ready(s, "probed");
    let addresses = "kubectl get endpointslices -l kubernetes.io/service-name=probed -o jsonpath='{.items[*].endpoints[?(@.conditions.ready==true)].addresses[0]}'";
    let address = s.sh("kubectl get pod probed -o jsonpath='{.status.podIP}'").ok();
    s.until_prints(addresses, &address);
    s.sh("kubectl exec probed -- touch /state/busy").ok();
    s.until_prints(addresses, "");
    assert_eq!(s.sh("kubectl get endpoints probed -o jsonpath='{.subsets[0].notReadyAddresses[0].ip}'").ok(), address);
    s.sh("kubectl exec probed -- rm /state/busy").ok();
    s.until_prints(addresses, &address);
}

fn crash_loops_back_off(s: &Session<'_>) {
    pod(s, "crashing", "{containers: [{name: main, image: busybox, command: [sh, -c, 'echo oops; exit 9']}]}");
    s.until_prints(
        "kubectl get pod crashing -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}'",
        "CrashLoopBackOff",
    );
    let last = "kubectl get pod crashing -o jsonpath='{.status.containerStatuses[0].lastState.terminated.exitCode} {.status.phase}'";
    assert_eq!(s.sh(last).ok(), "9 Running");
    s.until_prints("kubectl get events --field-selector involvedObject.name=crashing,reason=BackOff -o jsonpath='{.items[0].type}'", "Warning");
    assert_eq!(s.sh("kubectl logs crashing").ok(), "oops");
}

fn restart_policies_are_followed(s: &Session<'_>) {
    pod(s, "done", "{restartPolicy: OnFailure, containers: [{name: main, image: busybox, command: ['true']}]}");
    pod(s, "failed", "{restartPolicy: Never, containers: [{name: main, image: busybox, command: [sh, -c, 'exit 2']}]}");
    s.until_prints("kubectl get pod done -o jsonpath='{.status.phase}'", "Succeeded");
    s.until_prints(
        "kubectl get pod failed -o jsonpath='{.status.phase} {.status.containerStatuses[0].state.terminated.exitCode}'",
        "Failed 2",
    );
    let rows = s.sh("kubectl get pods --no-headers").ok();
    assert!(rows.lines().any(|row| row.starts_with("done") && row.contains("Completed")), "{rows}");
    assert!(rows.lines().any(|row| row.starts_with("failed") && row.contains("Error")), "{rows}");
}

fn termination_is_graceful_and_then_forced(s: &Session<'_>) {
    let polite = "trap \"echo bye; exit 0\" TERM; echo up; while true; do sleep 0.05; done";
    pod(s, "polite", &format!("{{containers: [{{name: main, image: busybox, command: [sh, -c, '{polite}']}}]}}"));
    ready(s, "polite");
    s.until_prints("kubectl logs polite", "up");
    let logs = s.start("kubectl logs -f polite");
    logs.line_with("up");
    s.sh("kubectl delete pod polite").ok();
    logs.line_with("bye");
    pod(
        s,
        "stubborn",
        "{containers: [{name: main, image: busybox, command: [sh, -c, 'trap \"\" TERM; while true; do sleep 0.05; done']}]}",
    );
    ready(s, "stubborn");
    s.sh("kubectl delete pod stubborn --grace-period=1 --timeout=30s").ok();
    pod(
        s,
        "hooked",
        "{containers: [{name: main, image: busybox, command: [sh, -c, 'trap \"echo term; exit 0\" TERM; while true; do sleep 0.05; done'],
          lifecycle: {preStop: {exec: {command: [sh, -c, 'echo stopping > /proc/1/fd/1 || true']}}}}]}",
    );
    ready(s, "hooked");
    s.sh("kubectl delete pod hooked --timeout=60s").ok();
}

fn pods_are_apart_from_one_another(s: &Session<'_>) {
    s.sample("sleep/sleep.yaml");
    s.sample("tcp-echo/tcp-echo.yaml");
    s.sh("kubectl wait deployment --all --for=condition=Available --timeout=60s").ok();
    let sees = s
        .sh("kubectl exec deploy/sleep -- sh -c 'for p in /proc/[0-9]*; do tr \"\\0\" \" \" < $p/cmdline; echo; done'")
        .ok();
    assert!(!sees.contains("tcp-echo"), "a pod does not see another's processes:\n{sees}");
    let interfaces = s.sh("kubectl exec deploy/sleep -- ls /sys/class/net").ok();
    assert_eq!(interfaces.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"]);
    s.sh("kubectl exec deploy/sleep -- touch /tmp/mine").ok();
    s.sh("kubectl exec deploy/tcp-echo -- ls /tmp/mine").fails();
}

fn missing_configuration_is_named(s: &Session<'_>) {
    pod(
        s,
        "waiting",
        "{containers: [{name: main, image: busybox, command: [sleep, '600'], envFrom: [{configMapRef: {name: later}}]}]}",
    );
    s.until_prints(
        "kubectl get pod waiting -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}'",
        "CreateContainerConfigError",
    );
    let message =
        s.sh("kubectl get pod waiting -o jsonpath='{.status.containerStatuses[0].state.waiting.message}'").ok();
    assert!(message.contains("configmap \"later\" not found"), "{message}");
    s.sh("kubectl create configmap later --from-literal=A=1").ok();
    ready(s, "waiting");
}
