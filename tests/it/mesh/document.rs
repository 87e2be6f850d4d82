//! Istio's task "TCP Traffic", command by command.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testkit::Session;

super::on_both_data_planes!(the_tcp_authorization_task_runs_as_it_is_written);

/// A command as the task writes it, and what it says comes out. Lines that are wrapped there are joined.
struct Step {
    command: String,
    output: &'static str,
}

impl Step {
    /// The command, with a mark after what it prints. The task has its reader try again where an answer is expected, and
    /// a real Envoy needs that now and then: it closes a connection in plaintext whose first bytes and end arrive together.
    fn script(&self) -> String {
        let Step { command, output } = self;
        if !output.ends_with("connection succeeded") {
            return format!("{command}\necho '# end of step'\n");
        }
        format!(
            "for attempt in 1 2 3 4 5; do\nprinted=$({command})\ncase $printed in *succeeded*) break;; esac\ndone\n\
             echo \"$printed\"\necho '# end of step'\n"
        )
    }
}

const REJECTED: &str = "connection rejected";

fn step(command: impl Into<String>, output: &'static str) -> Step {
    Step { command: command.into(), output }
}

/// A call of a port of the service.
fn call(port: u16, output: &'static str) -> Step {
    step(
        format!(
            r#"kubectl exec "$(kubectl get pod -l app=sleep -n foo -o jsonpath={{.items..metadata.name}})" -c sleep -n foo -- sh -c 'echo "port {port}" | nc tcp-echo {port}' | grep "hello" && echo 'connection succeeded' || echo 'connection rejected'"#
        ),
        output,
    )
}

/// A call of the port that the service does not declare.
fn call_undeclared(output: &'static str) -> Step {
    step(
        r#"kubectl exec "$(kubectl get pod -l app=sleep -n foo -o jsonpath={.items..metadata.name})" -c sleep -n foo -- sh -c "echo \"port 9002\" | nc $TCP_ECHO_IP 9002" | grep "hello" && echo 'connection succeeded' || echo 'connection rejected'"#,
        output,
    )
}

fn policy(action: &str, operation: &str, output: &'static str) -> Step {
    step(
        format!(
            "kubectl apply -f - <<EOF
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata:
  name: tcp-policy
  namespace: foo
spec:
  selector:
    matchLabels:
      app: tcp-echo
  action: {action}
  rules:
  - to:
    - operation:
{operation}
EOF"
        ),
        output,
    )
}

fn task() -> Vec<Step> {
    let ports = "        ports: [\"9000\", \"9001\"]";
    let methods = "        methods: [\"GET\"]\n        ports: [\"9000\"]";
    vec![
        step("kubectl create ns foo", "namespace/foo created"),
        step(
            "kubectl apply -f <(istioctl kube-inject -f samples/tcp-echo/tcp-echo.yaml) -n foo",
            "service/tcp-echo created\ndeployment.apps/tcp-echo created",
        ),
        step(
            "kubectl apply -f <(istioctl kube-inject -f samples/sleep/sleep.yaml) -n foo",
            "serviceaccount/sleep created\nservice/sleep created\ndeployment.apps/sleep created",
        ),
        // The task says: if you don't see the expected output, retry after a few seconds.
        step(
            "kubectl wait deployment --all --for=condition=Available --timeout=60s -n foo",
            "deployment.apps/sleep condition met\ndeployment.apps/tcp-echo condition met",
        ),
        call(9000, "hello port 9000\nconnection succeeded"),
        call(9001, "hello port 9001\nconnection succeeded"),
        step(
            r#"TCP_ECHO_IP=$(kubectl get pod "$(kubectl get pod -l app=tcp-echo -n foo -o jsonpath={.items..metadata.name})" -n foo -o jsonpath="{.status.podIP}")"#,
            "",
        ),
        call_undeclared("hello port 9002\nconnection succeeded"),
        policy("ALLOW", ports, "authorizationpolicy.security.istio.io/tcp-policy created"),
        call(9000, "hello port 9000\nconnection succeeded"),
        call(9001, "hello port 9001\nconnection succeeded"),
        call_undeclared(REJECTED),
        policy("ALLOW", methods, "authorizationpolicy.security.istio.io/tcp-policy configured"),
        call(9000, REJECTED),
        call(9001, REJECTED),
        policy("DENY", methods, "authorizationpolicy.security.istio.io/tcp-policy configured"),
        call(9000, REJECTED),
        call(9001, "hello port 9001\nconnection succeeded"),
        step("kubectl delete namespace foo", "namespace \"foo\" deleted"),
    ]
}

fn the_tcp_authorization_task_runs_as_it_is_written(s: &Session<'_>) {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    for name in ["tcp-echo", "sleep"] {
        s.sh(&format!("mkdir -p samples/{name}")).ok();
        let file = format!("{name}/{name}.yaml");
        s.write(&format!("samples/{file}"), &std::fs::read_to_string(samples.join(&file)).unwrap());
    }
    s.sh("mkdir -p bin").ok();
    let istioctl = s.write("bin/istioctl", "#!/bin/sh\nexec \"$ISTHMUS\" \"$@\"\n");
    std::fs::set_permissions(istioctl, PermissionsExt::from_mode(0o755)).unwrap();
    let steps = task();
    let mut script = "PATH=$PWD/bin:$PATH\n".to_owned();
    for step in &steps {
        script += &step.script();
    }
    s.write("task.sh", &script);
    let done = s.sh("bash task.sh");
    let printed = done.stdout();
    let mut outputs = printed.split("# end of step");
    for (number, step) in steps.iter().enumerate() {
        let output = outputs.next().unwrap_or_default().trim();
        assert_eq!(output, step.output, "step {number}:\n$ {}\nof\n{}", step.command, done.transcript());
    }
}
