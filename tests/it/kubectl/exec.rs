//! Into a pod and out of it: exec, cp, logs, attach.

use std::time::Duration;

use nix::sys::signal::Signal;
use testkit::Session;

crate::scenarios!(
    exec_passes_output_and_exit_codes,
    exec_passes_input_of_any_size,
    exec_gives_a_terminal,
    exec_refuses_what_cannot_be,
    files_are_copied_both_ways,
    logs_are_printed_and_followed,
    logs_of_the_previous_container_are_kept,
    port_forward_is_refused_clearly,
);

/// A pod that sleeps; ready when this returns.
fn sleep(s: &Session<'_>) {
    s.sample("sleep/sleep.yaml");
    s.sh("kubectl rollout status deployment/sleep --timeout=60s").ok();
}

fn exec_passes_output_and_exit_codes(s: &Session<'_>) {
    sleep(s);
    let both = s.sh("kubectl exec deploy/sleep -c sleep -- sh -c 'echo out; echo err >&2'");
    assert_eq!((both.stdout().as_str(), both.stderr.as_str()), ("out", "err\n"));
    let failed = s.sh("kubectl exec deploy/sleep -- sh -c 'exit 7'");
    assert_eq!(failed.code, 7, "{}", failed.transcript());
    assert!(failed.stderr.contains("command terminated with exit code 7"), "{}", failed.stderr);
    let pod = "$(kubectl get pod -l app=sleep -o jsonpath='{.items..metadata.name}')";
    assert_eq!(s.sh(&format!("kubectl exec {pod} -c sleep -- hostname")).ok(), s.sh(&format!("echo {pod}")).ok());
    assert_eq!(s.sh("kubectl exec deploy/sleep -- sh -c 'kill -9 $$'").code, 137);
}

fn exec_passes_input_of_any_size(s: &Session<'_>) {
    sleep(s);
    assert_eq!(s.sh_with_input("kubectl exec -i deploy/sleep -- cat", b"in and out").ok(), "in and out");
    let sent: Vec<u8> = (0..3_000_000u32).flat_map(|n| n.to_le_bytes()).take(3_000_000).collect();
    let received = s.sh_with_input("kubectl exec -i deploy/sleep -- cat", &sent);
    assert!(received.bytes == sent, "{} of {} bytes came back", received.bytes.len(), sent.len());
    assert_eq!(s.sh("kubectl exec deploy/sleep -- sh -c 'head -c 5000000 /dev/zero' | wc -c").ok(), "5000000");
}

fn exec_gives_a_terminal(s: &Session<'_>) {
    if !testkit::program("script") {
        return;
    }
    sleep(s);
    // The end of its own input is something that `script` types into the terminal; a fifo opened both ways has none.
    s.sh("mkfifo quiet").ok();
    let terminal = |line: &str| s.sh(&format!("script -qec \"stty rows 31 cols 97; {line}\" /dev/null 0<>quiet"));
    let size = terminal("kubectl exec -it deploy/sleep -c sleep -- sh -c 'tty && stty size'").ok();
    let lines: Vec<&str> = size.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("/dev/pts/"), "{size}");
    assert_eq!(lines[1], "31 97");
    assert_eq!(terminal("kubectl exec -it deploy/sleep -- sh -c 'exit 5'").code, 5);
    assert_eq!(terminal("kubectl exec -it deploy/sleep -- sh -c 'echo world'").ok().trim(), "world");
    let typed =
        s.sh_with_input("script -qec 'kubectl exec -it deploy/sleep -- sh' /dev/null", b"echo sum $((40+2))\nexit 3\n");
    assert!(typed.code == 3 && typed.stdout().contains("sum 42"), "{}", typed.transcript());
}

fn exec_refuses_what_cannot_be(s: &Session<'_>) {
    sleep(s);
    let missing = s.sh("kubectl exec deploy/sleep -- no-such-program");
    assert!(missing.code != 0 && missing.stderr.contains("no-such-program"), "{}", missing.transcript());
    let container = s.sh("kubectl exec deploy/sleep -c other -- true").fails();
    assert!(
        container.contains("container other is not valid") || container.contains("container not found"),
        "{container}"
    );
    let pod = s.sh("kubectl exec no-such-pod -- true").fails();
    assert!(pod.contains("pods \"no-such-pod\" not found"), "{pod}");
}

fn files_are_copied_both_ways(s: &Session<'_>) {
    if !testkit::program("tar") {
        return;
    }
    sleep(s);
    let pod = s.sh("kubectl get pod -l app=sleep -o jsonpath='{.items[0].metadata.name}'").ok();
    s.write("there.txt", "there and back\n");
    s.sh(&format!("kubectl cp there.txt {pod}:/tmp/copied.txt -c sleep")).ok();
    assert_eq!(s.sh("kubectl exec deploy/sleep -- cat /tmp/copied.txt").ok(), "there and back");
    s.sh(&format!("kubectl cp {pod}:/tmp/copied.txt back.txt -c sleep && cmp there.txt back.txt")).ok();
    s.sh(&format!("mkdir -p tree/leaf && echo 1 > tree/leaf/a && kubectl cp tree {pod}:/tmp/tree")).ok();
    assert_eq!(s.sh("kubectl exec deploy/sleep -- cat /tmp/tree/leaf/a").ok(), "1");
    // What kubectl says is a race of its own making: it ends when tar's empty archive does, or when tar fails.
    s.sh(&format!("kubectl cp {pod}:/tmp/nothing nothing"));
    s.sh("test ! -e nothing").ok();
}

fn logs_are_printed_and_followed(s: &Session<'_>) {
    let counter =
        "for i in 1 2 3; do echo line $i; done; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo last; sleep 600";
    s.sh(&format!("kubectl run counter --image=busybox --restart=Never --command -- sh -c '{counter}'")).ok();
    s.sh("kubectl wait pod/counter --for=condition=Ready --timeout=60s").ok();
    s.until_prints("kubectl logs counter", "line 1\nline 2\nline 3");
    assert_eq!(s.sh("kubectl logs counter --tail=1").ok(), "line 3");
    assert_eq!(s.sh("kubectl logs counter --tail=0").ok(), "");
    assert_eq!(s.sh("kubectl logs counter --limit-bytes=6").ok(), "line 1");
    assert_eq!(s.sh("kubectl logs counter --since=1h").ok(), "line 1\nline 2\nline 3");
    assert_eq!(s.sh("kubectl logs counter --since-time=2100-01-01T00:00:00Z").ok(), "");
    let stamped = s.sh("kubectl logs counter --timestamps --tail=1").ok();
    assert!(stamped.starts_with("20") && stamped.ends_with("Z line 3"), "{stamped}");
    let follow = s.start("kubectl logs -f counter --tail=1");
    follow.line_with("line 3");
    s.sh("kubectl exec counter -- touch /tmp/go").ok();
    follow.line_with("last");
    assert_eq!(follow.lines(), ["line 3", "last"]);
    s.sh("kubectl delete pod counter --grace-period=1").ok();
    assert_eq!(follow.wait(), 0, "following ends with the container");
    let missing = s.sh("kubectl logs no-such-pod").fails();
    assert!(missing.contains("pods \"no-such-pod\" not found"), "{missing}");
    sleep(s);
    assert_eq!(s.sh("kubectl logs deploy/sleep").ok(), "");
    assert_eq!(s.sh("kubectl logs -l app=sleep --prefix").ok(), "");
}

fn logs_of_the_previous_container_are_kept(s: &Session<'_>) {
    let once = "if [ -e /tmp/once ]; then echo second; sleep 600; else touch /tmp/once; echo first; exit 1; fi";
    let manifest = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: again}}
spec:
  volumes: [{{name: tmp, emptyDir: {{}}}}]
  containers:
  - name: again
    image: busybox
    command: [sh, -c, '{once}']
    volumeMounts: [{{name: tmp, mountPath: /tmp}}]
"
    );
    s.apply(&manifest);
    s.until_prints("kubectl logs again", "second");
    assert_eq!(s.sh("kubectl logs -p again").ok(), "first");
    assert_eq!(s.sh("kubectl get pod again -o jsonpath='{.status.containerStatuses[0].restartCount}'").ok(), "1");
    sleep(s);
    let none = s.sh("kubectl logs -p deploy/sleep").fails();
    assert!(none.contains("previous terminated container \"sleep\" in pod"), "{none}");
}

fn port_forward_is_refused_clearly(s: &Session<'_>) {
    s.sample("tcp-echo/tcp-echo.yaml");
    s.sh("kubectl rollout status deployment/tcp-echo --timeout=60s").ok();
    let forward = s.start("kubectl port-forward deploy/tcp-echo :9000");
    testkit::until("port-forward says that it is not served", Duration::from_secs(30), || {
        // kubectl listens first and asks the server when a connection arrives.
        let port = forward
            .lines()
            .iter()
            .find_map(|line| line.strip_prefix("Forwarding from 127.0.0.1:")?.split(' ').next()?.parse::<u16>().ok());
        drop(port.map(|port| std::net::TcpStream::connect(("127.0.0.1", port))));
        let said = forward.lines().join("\n");
        (said.contains("port-forward") && said.to_lowercase().contains("not supported")).then_some(())
    });
    forward.signal(Signal::SIGTERM);
}
