//! What the machine may do to a federation: no namespaces, no room, damage, long paths, neighbours.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use testkit::{Account, Federation};

/// Accounts that federations can be run as here.
fn accounts() -> Vec<Account> {
    [Account::current()].into_iter().chain(Account::ordinary()).collect()
}

/// Whether the tests may mount file systems; if not, says so.
fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        testkit::skip("only root can mount a file system or have several slots");
    }
    root
}

#[test]
fn without_namespaces_one_error_says_how_to_allow_them() {
    let Some(account) = Account::ordinary() else { return testkit::skip("only root can become another user") };
    if !testkit::namespaces() || !testkit::program("unshare") || !testkit::program("setpriv") {
        return;
    }
    let home = Federation::prepare(crate::binary(), account);
    let forbid = "unshare --user --map-current-user --keep-caps sh -c 'echo 0 >/proc/sys/user/max_user_namespaces";
    let refused =
        home.shell().sh(&format!("{forbid} && exec setpriv --ambient-caps -all {}'", home.command("up c1 --detach")));
    assert_eq!(refused.code, 3, "{}", refused.transcript());
    assert!(refused.stderr.contains("user.max_user_namespaces"), "{}", refused.transcript());
    assert_eq!(home.processes(), Vec::<String>::new());
}

#[test]
fn a_home_may_have_a_very_long_path() {
    if !testkit::namespaces() || !testkit::kubectl() {
        return;
    }
    for account in accounts() {
        let place = Federation::prepare(crate::binary(), account);
        let home = format!("{}/{}", place.shell().sh("pwd").ok(), ["long-name"; 25].join("/"));
        place.shell().sh(&format!("$ISTHMUS up c1 --detach --home {home}")).ok();
        let shell = place.shell().with("KUBECONFIG", format!("{home}/kubeconfig"));
        shell.sh("kubectl create deployment sleep --image=curlimages/curl -- sleep 600").ok();
        shell.sh("kubectl rollout status deployment/sleep --timeout=60s").ok();
        assert_eq!(shell.sh("kubectl exec deploy/sleep -- echo hello").ok(), "hello");
        place.shell().sh(&format!("$ISTHMUS down --home {home}")).ok();
        assert_eq!(place.processes(), Vec::<String>::new());
    }
}

#[test]
fn a_damaged_store_is_named_and_nothing_is_left_running() {
    if !testkit::namespaces() {
        return;
    }
    let federation = Federation::up(crate::binary(), Account::current(), &["c1"]);
    federation.isthmus("down").ok();
    std::fs::write(federation.home().join("c1/store/store.redb"), vec![0xa5; 1 << 16]).unwrap();
    let refused = federation.isthmus("up c1 --detach");
    assert_eq!(refused.code, 3, "{}", refused.transcript());
    assert!(refused.stderr.contains("c1") && refused.stderr.contains("store"), "{}", refused.transcript());
    assert!(!refused.stderr.contains("panicked"), "{}", refused.transcript());
    assert_eq!(federation.processes(), Vec::<String>::new());
}

#[test]
fn a_full_disk_refuses_writes_and_loses_none() {
    if !root() || !testkit::namespaces() || !testkit::kubectl() {
        return;
    }
    let federation = Federation::prepare(crate::binary(), Account::current());
    std::fs::create_dir_all(federation.home()).unwrap();
    let disk = Disk::mount(federation.home(), "24m");
    federation.isthmus("up c1 --detach").ok();
    federation.fetch_kubeconfig();
    let shell = federation.shell();
    shell.sh("kubectl create configmap before --from-literal=k=v").ok();
    // The last bytes, too: what is left of a block would take a small write.
    shell.sh("head -c 64M /dev/zero > .isthmus/filler");
    shell.sh("head -c 800K /dev/zero | tr '\\0' x > big");
    let create = "for n in $(seq 24); do kubectl create configmap big-$n --from-file=big || exit 1; done";
    let refused = shell.sh(create).fails();
    assert!(refused.contains("no space left") || refused.contains("No space left"), "{refused}");
    assert_eq!(shell.sh("kubectl get configmap before -o jsonpath={.data.k}").ok(), "v", "reads go on");
    shell.sh("rm .isthmus/filler").ok();
    shell.sh("kubectl create configmap after --from-literal=k=v").ok();
    federation.isthmus("down").ok();
    federation.isthmus("up c1 --detach").ok();
    for name in ["before", "after"] {
        assert_eq!(shell.sh(&format!("kubectl get configmap {name} -o jsonpath={{.data.k}}")).ok(), "v", "{name}");
    }
    federation.isthmus("down").ok();
    drop(disk);
}

/// A small file system, mounted for as long as this lives.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Disk {
        let options = format!("size={size},mode=700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status().unwrap();
        assert!(done.success());
        Disk(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(std::thread::panicking() || done.is_ok_and(|status| status.success()));
    }
}

#[test]
fn federations_of_several_users_leave_each_other_alone() {
    if !testkit::namespaces() || !testkit::kubectl() {
        return;
    }
    let federations: Vec<Federation> =
        accounts().into_iter().map(|account| Federation::up(crate::binary(), account, &["c1", "c2"])).collect();
    for federation in &federations {
        let s = federation.session("c1");
        s.sample("tcp-echo/tcp-echo.yaml");
        s.sample("sleep/sleep.yaml");
        s.sh("kubectl rollout status deployment/sleep --timeout=60s").ok();
        s.sh("kubectl rollout status deployment/tcp-echo --timeout=60s").ok();
        s.until_prints("kubectl exec deploy/sleep -c sleep -- sh -c 'echo world | nc tcp-echo 9000'", "hello world");
    }
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for federation in federations {
        let home = federation.home().to_string_lossy().into_owned();
        drop(federation);
        assert!(!mounts().contains(&home), "{}", mounts());
    }
}

#[test]
fn a_federation_whose_slot_was_taken_moves_with_its_load_balancers() {
    if !root() || !testkit::namespaces() || !testkit::kubectl() {
        return;
    }
    let moved = Federation::up(crate::binary(), Account::current(), &["c1"]);
    let address = |shell: &testkit::Shell| {
        let line = "kubectl get service echo -o jsonpath='{.status.loadBalancer.ingress[0].ip}'";
        shell.sh(line).ok()
    };
    let ask = "$ISTHMUS run --home .isthmus -- sh -c 'echo world | nc -N -w 5 '\"$(kubectl get service echo -o \
               jsonpath='{.status.loadBalancer.ingress[0].ip}')\"' 9000'";
    let s = moved.session("c1");
    s.apply(include_str!("../../samples/tcp-echo/tcp-echo.yaml"));
    s.sh("kubectl expose deployment tcp-echo --name echo --type LoadBalancer --port 9000").ok();
    s.sh("kubectl rollout status deployment/tcp-echo --timeout=60s").ok();
    let before = address(&s);
    moved.isthmus("down").ok();
    let occupants: Vec<Federation> = std::iter::from_fn(|| {
        let slot_is_taken = std::fs::read_to_string(moved.home().join("federation.json")).is_ok_and(|text| {
            let federation: serde_json::Value = serde_json::from_str(&text).unwrap();
            Path::new(&format!("/sys/class/net/isthmus{}", federation["plan"]["slot"])).exists()
        });
        (!slot_is_taken).then(|| Federation::up(crate::binary(), Account::current(), &["c1"]))
    })
    .take(32)
    .collect();
    moved.isthmus("up c1 --detach").ok();
    s.until_prints(&format!("test \"{before}\" != \"$(kubectl get service echo -o jsonpath='{{.status.loadBalancer.ingress[0].ip}}')\" && echo moved"), "moved");
    if testkit::program("nc") {
        s.until_prints(&ask.replace(".isthmus", &moved.home().to_string_lossy()), "hello world");
    }
    drop(occupants);
}

#[test]
fn an_ended_up_command_leaves_nothing_while_logs_are_followed() {
    if !testkit::namespaces() || !testkit::kubectl() {
        return;
    }
    let home = Federation::prepare(crate::binary(), Account::current());
    let up = home.shell().start(&format!("exec {}", home.command("up c1 c2 c3")));
    up.line_with("KUBECONFIG");
    home.fetch_kubeconfig();
    for cluster in ["c1", "c2", "c3"] {
        let line = format!("kubectl --context {cluster} create deployment sleep --image=curlimages/curl -- sleep 600");
        home.shell().sh(&line).ok();
        home.shell().sh(&format!("kubectl --context {cluster} rollout status deployment/sleep --timeout=60s")).ok();
    }
    let following =
        ["c1", "c2", "c3"].map(|c| home.shell().start(&format!("kubectl --context {c} logs -f deploy/sleep")));
    up.signal(Signal::SIGTERM);
    assert_eq!(up.wait(), 128 + 15);
    assert_eq!(home.processes(), Vec::<String>::new());
    drop(following);
}
