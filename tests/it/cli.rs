//! The commands of the binary itself: what they print, where, and with which exit code.

use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{Account, Federation, Shared};

/// One cluster that most of these tests look at.
static ONE: Shared = Shared::new();

fn one() -> Option<std::sync::Arc<Federation>> {
    testkit::namespaces().then(|| ONE.get(|| Federation::up(crate::binary(), Account::current(), &["c1"])))
}

/// A home without a federation.
fn none() -> Federation {
    Federation::prepare(crate::binary(), Account::current())
}

#[test]
fn help_has_examples_and_names_every_command() {
    let home = none();
    let help = home.shell().sh("$ISTHMUS --help").ok();
    for command in
        ["up", "down", "status", "run", "shell", "kubeconfig", "image", "completion", "analyze", "proxy-config"]
    {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command} is missing:\n{help}");
        let own = home.shell().sh(&format!("$ISTHMUS {command} --help")).ok();
        assert!(own.contains("Examples:") || own.contains("Example:"), "{command} has no example:\n{own}");
    }
    assert!(!help.contains("internal"), "{help}");
    assert!(home.shell().sh("$ISTHMUS --version").ok().starts_with("isthmus 0."));
}

#[test]
fn wrong_usage_is_exit_code_2_and_on_stderr() {
    let home = none();
    for line in ["", "bogus", "up --bogus", "image", "status -o bogus", "completion tcsh2", "up Bad_Name", "run"] {
        let done = home.shell().sh(&format!("$ISTHMUS {line}"));
        assert_eq!(done.code, 2, "{}", done.transcript());
        assert!(done.stdout().is_empty() && !done.stderr.is_empty(), "{}", done.transcript());
    }
}

#[test]
fn without_a_federation_commands_say_how_to_start_one() {
    let home = none();
    for words in ["status", "kubeconfig", "run -- true"] {
        let done = home.isthmus(words);
        assert_eq!(done.code, 3, "{}", done.transcript());
        assert!(done.stderr.contains("isthmus up"), "{}", done.transcript());
    }
    assert_eq!(home.isthmus("down").code, 0, "down is a state, and it holds");
}

#[test]
fn completion_is_a_script() {
    let home = none();
    let script = home.shell().sh("$ISTHMUS completion bash > completion.bash && cat completion.bash").ok();
    assert!(script.contains("kubeconfig"), "{script}");
    if testkit::program("bash") {
        home.shell().sh("bash -n completion.bash").ok();
    }
    for shell in ["zsh", "fish"] {
        assert!(home.shell().sh(&format!("$ISTHMUS completion {shell}")).ok().contains("kubeconfig"), "{shell}");
    }
}

#[test]
fn a_command_runs_against_clusters_that_end_with_it() {
    if !testkit::namespaces() {
        return;
    }
    let home = none();
    let done = home.isthmus("up c1 -- sh -c 'grep -q c1 \"$KUBECONFIG\" && echo result; exit 7'");
    assert_eq!((done.code, done.stdout().as_str()), (7, "result"), "{}", done.transcript());
    assert!(!done.stderr.is_empty(), "progress is told on stderr");
    assert_eq!(home.processes(), Vec::<String>::new());
    let missing = home.isthmus("up c1 -- no-such-program");
    assert!(missing.code != 0 && missing.stderr.contains("no-such-program"), "{}", missing.transcript());
    assert_eq!(home.processes(), Vec::<String>::new());
}

#[test]
fn an_interrupted_up_takes_everything_down() {
    if !testkit::namespaces() {
        return;
    }
    let home = none();
    let up = home.shell().start(&format!("exec {}", home.command("up c1")));
    up.line_with("KUBECONFIG");
    up.signal(Signal::SIGINT);
    assert_eq!(up.wait(), 130);
    assert_eq!(home.processes(), Vec::<String>::new());
}

#[test]
fn up_is_a_state_that_can_be_asked_for_again() {
    let Some(federation) = one() else { return };
    let before = federation.processes().len();
    federation.isthmus("up c1 --detach").ok();
    federation.isthmus("up --detach").ok();
    assert_eq!(federation.processes().len(), before);
}

#[test]
fn status_is_a_table_json_or_yaml() {
    let Some(federation) = one() else { return };
    let table = federation.isthmus("status").ok();
    assert!(table.lines().any(|line| line.starts_with("c1")), "{table}");
    assert!(!table.contains('\u{1b}'), "colours are for terminals");
    let json: Value = serde_json::from_str(&federation.isthmus("status -o json").ok()).unwrap();
    assert_eq!(json["clusters"][0]["name"], "c1", "{json}");
    let yaml = federation.isthmus("status -o yaml").ok();
    assert!(yaml.contains("name: c1"), "{yaml}");
}

#[test]
fn the_kubeconfig_has_a_context_for_each_cluster() {
    let Some(federation) = one() else { return };
    let kubeconfig = federation.isthmus("kubeconfig").ok();
    assert!(kubeconfig.contains("current-context: c1") && kubeconfig.contains("kind: Config"), "{kubeconfig}");
}

#[test]
fn run_is_on_the_outer_network() {
    let Some(federation) = one() else { return };
    let interfaces = federation.isthmus("run -- cat /proc/net/dev").ok();
    let host = std::fs::read_to_string("/proc/net/dev").unwrap();
    assert_ne!(interfaces, host);
    let done = federation.isthmus("run -- sh -c 'cat \"$KUBECONFIG\" >&2; echo out; exit 9'");
    assert_eq!((done.code, done.stdout().as_str()), (9, "out"), "{}", done.transcript());
    assert!(done.stderr.contains("kind: Config"), "{}", done.stderr);
    if testkit::kubectl() {
        assert!(federation.isthmus("run -- kubectl get namespaces").ok().contains("kube-system"));
    }
}

#[test]
fn federations_with_different_homes_run_side_by_side() {
    let Some(one) = one() else { return };
    let other = Federation::up(crate::binary(), Account::current(), &["c1", "c2"]);
    let server = |federation: &Federation| -> Vec<String> {
        let kubeconfig = federation.isthmus("kubeconfig").ok();
        kubeconfig.lines().filter(|line| line.contains("server:")).map(str::to_owned).collect()
    };
    let (one, other) = (server(&one), server(&other));
    assert_eq!((one.len(), other.len()), (1, 2));
    assert!(other.iter().all(|server| !one.contains(server)), "{one:?} {other:?}");
}

#[test]
fn images_are_added_used_and_removed() {
    if !testkit::kubectl() {
        return;
    }
    let Some(federation) = one() else { return };
    let built_in = federation.isthmus("image list").ok();
    for image in ["tcp-echo", "curl", "httpbin", "helloworld", "busybox"] {
        assert!(built_in.contains(image), "{image} is missing:\n{built_in}");
    }
    federation.isthmus("image add example.com/greeter -- sh -c 'echo greetings; sleep 600'").ok();
    assert!(federation.isthmus("image list").ok().contains("example.com/greeter"));
    let json: Value = serde_json::from_str(&federation.isthmus("image list -o json").ok()).unwrap();
    assert!(json.to_string().contains("example.com/greeter"), "{json}");
    let s = federation.session("c1");
    s.sh("kubectl run greeter --image=example.com/greeter:v1").ok();
    s.until_prints("kubectl logs greeter", "greetings");
    federation.isthmus("image remove example.com/greeter").ok();
    assert!(!federation.isthmus("image list").ok().contains("example.com/greeter"));
    let again = federation.isthmus("image remove example.com/greeter");
    assert_eq!(again.code, 1, "{}", again.transcript());
}

#[test]
fn state_survives_down_and_up() {
    if !testkit::kubectl() || !testkit::namespaces() {
        return;
    }
    let federation = Federation::up(crate::binary(), Account::current(), &["c1"]);
    let s = federation.session("c1");
    s.sample("tcp-echo/tcp-echo.yaml");
    s.sh("kubectl rollout status deployment/tcp-echo --timeout=60s").ok();
    federation.isthmus("down").ok();
    assert_eq!(federation.processes(), Vec::<String>::new());
    federation.isthmus("up c1 --detach").ok();
    s.sh("kubectl rollout status deployment/tcp-echo --timeout=60s").ok();
    s.until_prints("kubectl get pods -l app=tcp-echo -o jsonpath='{.items[*].status.phase}'", "Running");
}

#[test]
fn a_port_that_is_taken_is_named() {
    if !testkit::namespaces() {
        return;
    }
    let federation = Federation::up(crate::binary(), Account::current(), &["c1"]);
    let kubeconfig = federation.isthmus("kubeconfig").ok();
    let port: u16 = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix("server: https://127.0.0.1:")?.parse().ok())
        .unwrap_or_else(|| panic!("{kubeconfig}"));
    federation.isthmus("down").ok();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let refused = federation.isthmus("up c1 --detach");
    assert_eq!(refused.code, 3, "{}", refused.transcript());
    assert!(refused.stderr.contains(&port.to_string()), "{}", refused.transcript());
    drop(taken);
    federation.isthmus("up c1 --detach").ok();
}
