use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::OnceLock;

use super::protocol::Record;
use super::*;
use crate::runtime::container::identity::{Identity, capabilities};
use crate::runtime::container::root::{Mount, RootSpec, Source};
use crate::runtime::container::{self, Program, Spec, Termination};

/// A pod in a directory of its own; killed with the test.
struct Pod {
    directory: PathBuf,
    sandbox: Sandbox,
}

impl Drop for Pod {
    fn drop(&mut self) {
        kill_pod(&self.directory).unwrap();
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// The node's own processes as a program, built now: a run of chosen tests does not build examples by itself.
fn executable() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let test = std::env::current_exe().unwrap();
        let folder = test.parent().and_then(Path::parent).unwrap();
        let profile = folder.file_name().filter(|name| *name != "debug").unwrap_or("dev".as_ref());
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "node", "--example", "internal", "--profile"]).arg(profile);
        // Without cargo, as when another user runs the tests, what is there has to do.
        if let Ok(status) = cargo.arg("--target-dir").arg(folder.parent().unwrap()).status() {
            assert!(status.success(), "building the example");
        }
        folder.join("examples/internal")
    };
    BUILT.get_or_init(build).clone()
}

/// Starts a pod, or says why this machine cannot run any.
async fn pod() -> Option<Pod> {
    let executable = executable();
    let directory = std::env::temp_dir().join(format!("isthmus-pod-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(directory.join("root")).unwrap();
    match Sandbox::start(&directory, executable, "web-0", "test".to_owned()).await {
        Ok((sandbox, _network)) => Some(Pod { directory, sandbox }),
        Err(failure) if !nix::unistd::geteuid().is_root() => {
            eprintln!("skipped: {failure}");
            None
        }
        Err(failure) => panic!("{failure}"),
    }
}

impl Pod {
    fn spec(&self, script: &str) -> Spec {
        let name = "main";
        let capabilities = Some(capabilities(&[], &[]).unwrap());
        Spec {
            id: uuid::Uuid::new_v4().to_string(),
            name: name.to_owned(),
            attempt: 0,
            image: String::new(),
            image_id: String::new(),
            program: Program {
                argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
                environment: BTreeMap::new(),
                directory: "/".to_owned(),
                identity: Identity { capabilities, ..Identity::default() },
            },
            root: RootSpec {
                staging: self.directory.join("root"),
                hidden: "/nonexistent".into(),
                executable: std::env::current_exe().unwrap(),
                scripts: BTreeMap::from([("hello".to_owned(), "#!/bin/sh\necho hello $1\n".to_owned())]),
                read_only: false,
                privileged: false,
                mounts: Vec::new(),
            },
            stdin: false,
            stdin_once: false,
            tty: false,
            termination: Termination { file: self.directory.join("message"), fall_back_to_logs: true },
        }
    }

    /// Starts a container and waits for its end.
    async fn run(&self, spec: Spec) -> Record {
        let mut watch = self.sandbox.connect(Request::Watch, Vec::new()).await.unwrap();
        let id = spec.id.clone();
        self.sandbox.request(Request::Start(Box::new(spec))).await.unwrap();
        ended(&mut watch, &id).await
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("containers/main/0.log")).unwrap();
        log.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned() + "\n").collect()
    }

    async fn exec(&self, id: &str, script: &str, stdin: &[u8]) -> (Exit, String) {
        let (their_stdin, our_stdin) = nix::unistd::pipe().unwrap();
        let (our_stdout, their_stdout) = nix::unistd::pipe().unwrap();
        let streams = vec![their_stdin, their_stdout.try_clone().unwrap(), their_stdout];
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let command = container::Command { container: id.to_owned(), argv, environment: BTreeMap::new(), tty: false };
        let connection = self.sandbox.connect(Request::Exec(Box::new(command)), streams).await.unwrap();
        let stdin = stdin.to_vec();
        let writer = std::thread::spawn(move || File::from(our_stdin).write_all(&stdin).unwrap());
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            File::from(our_stdout).read_to_string(&mut text).unwrap();
            text
        });
        let (mut exits, _resizes) = connection.split();
        let exit = exits.wait().await.unwrap();
        writer.join().unwrap();
        (exit, reader.join().unwrap())
    }
}

/// Waits for a container's end.
async fn ended(watch: &mut Connection, id: &str) -> Record {
    loop {
        let Reply::Containers(records) = watch.next().await.unwrap() else { panic!("not a list") };
        if let Some(ended) = records.into_iter().find(|r| r.id == id && r.ended.is_some()) {
            return ended;
        }
    }
}

#[tokio::test]
async fn a_container_has_a_root_of_its_own() {
    let Some(pod) = pod().await else { return };
    std::fs::create_dir(pod.directory.join("volume")).unwrap();
    std::fs::write(pod.directory.join("hosts"), "10.0.0.1 web-0\n").unwrap();
    let mount = |target: &str, source: &str, read_only| Mount {
        target: target.into(),
        source: Source::Path(pod.directory.join(source)),
        read_only,
    };
    let mut spec = pod.spec(
        "hostname; cat /etc/hosts; hello world; cd /data/deep && echo kept > file; touch /tmp/a /run/b /etc/c /new \
         && echo writable; touch /usr/x 2>/dev/null || echo sealed; touch /frozen/x 2>/dev/null || echo frozen; \
         touch /proc/sys/kernel/x 2>/dev/null || echo no sysctl; echo x > /proc/sysrq-trigger 2>/dev/null || echo no sysrq; \
         ls /dev/null /dev/fd/1 >/dev/null && echo devices; mount -o remount,rw /usr 2>/dev/null || echo no remount; \
         readlink /proc/1/root >/dev/null 2>&1 || echo no peeking; echo err >&2",
    );
    spec.root.mounts = vec![
        mount("/etc/hosts", "hosts", false),
        mount("/data/deep", "volume", false),
        mount("/frozen", "volume", true),
    ];
    let record = pod.run(spec).await;
    let lines: std::collections::BTreeSet<String> = pod.log().lines().map(str::to_owned).collect();
    assert_eq!(record.ended.unwrap().exit, Exit::Code(0), "{lines:?}");
    for expected in [
        "web-0",
        "10.0.0.1 web-0",
        "hello world",
        "writable",
        "sealed",
        "frozen",
        "no sysctl",
        "no sysrq",
        "devices",
        "no remount",
        "no peeking",
        "err",
    ] {
        assert!(lines.contains(expected), "{expected:?} is not in {lines:?}");
    }
    assert_eq!(std::fs::read_to_string(pod.directory.join("volume/file")).unwrap(), "kept\n");
    assert!(!Path::new("/new").exists() && !Path::new("/etc/c").exists());
}

#[tokio::test]
async fn volumes_can_be_written_in_a_read_only_root() {
    let Some(pod) = pod().await else { return };
    std::fs::create_dir(pod.directory.join("volume")).unwrap();
    let mount = |target: &str, source| Mount { target: target.into(), source, read_only: false };
    let volume = Source::Path(pod.directory.join("volume"));
    let mut spec = pod.spec("touch /tmp/a /var/lib/data/b && ! touch /run/c && ! touch /var/lib/d");
    spec.root.mounts =
        vec![mount("/tmp", volume.clone()), mount("/var/lib/data", Source::Empty), mount("/var/lib/data", volume)];
    spec.root.read_only = true;
    assert_eq!(pod.run(spec).await.ended.unwrap().exit, Exit::Code(0), "{}", pod.log());
    assert!(["a", "b"].iter().all(|name| pod.directory.join("volume").join(name).exists()));
}

#[tokio::test]
async fn exit_codes_signals_and_last_words_are_recorded() {
    let Some(pod) = pod().await else { return };
    let ended = pod.run(pod.spec("echo goodbye; exit 7")).await.ended.unwrap();
    assert_eq!((ended.exit, ended.message.as_str()), (Exit::Code(7), "goodbye\n"));
    let ended = pod.run(Spec { attempt: 1, ..pod.spec("kill -KILL $$") }).await.ended.unwrap();
    assert_eq!(ended.exit.code(), 137);
    let attempts = record::load(&pod.directory).unwrap().remove("main").unwrap();
    assert_eq!(attempts.iter().map(|r| r.attempt).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn what_a_container_leaves_behind_is_ended() {
    let Some(pod) = pod().await else { return };
    let record = pod.run(pod.spec("sleep 1000 & (setsid sleep 1000 &) ; echo started")).await;
    assert_eq!(record.ended.unwrap().exit, Exit::Code(0));
    let spec = Spec { name: "next".to_owned(), ..pod.spec("! grep -l sleep /proc/[0-9]*/comm") };
    assert_eq!(pod.run(spec).await.ended.unwrap().exit, Exit::Code(0));
}

#[tokio::test]
async fn a_program_that_cannot_be_started_says_so() {
    let Some(pod) = pod().await else { return };
    let mut spec = pod.spec("");
    spec.program.argv = vec!["no-such-program".to_owned()];
    let failure = pod.sandbox.request(Request::Start(Box::new(spec))).await.unwrap_err();
    assert_eq!(failure.message, "exec: \"no-such-program\": executable file not found in $PATH");
    let records = record::load(&pod.directory).unwrap();
    assert_eq!(records["main"][0].ended.as_ref().unwrap().exit, Exit::Code(128));
}

#[tokio::test]
async fn commands_run_in_a_running_container() {
    let Some(pod) = pod().await else { return };
    let mut spec = pod.spec("touch /tmp/mine; sleep 1000");
    spec.program.environment.insert("COLOUR".to_owned(), "green".to_owned());
    let id = spec.id.clone();
    pod.sandbox.request(Request::Start(Box::new(spec))).await.unwrap();
    let (exit, text) = pod.exec(&id, "until test -e /tmp/mine; do :; done; echo $COLOUR; exit 3", b"").await;
    assert_eq!((exit, text.as_str()), (Exit::Code(3), "green\n"));
    let (exit, text) = pod.exec(&id, "wc -c", &vec![b'x'; 3 << 20]).await;
    assert_eq!((exit, text.trim()), (Exit::Code(0), "3145728"));
    let signal = Request::Signal { id: id.clone(), signal: Signal::SIGTERM as i32 };
    let mut watch = pod.sandbox.connect(Request::Watch, Vec::new()).await.unwrap();
    pod.sandbox.request(signal).await.unwrap();
    assert_eq!(ended(&mut watch, &id).await.ended.unwrap().exit, Exit::Signal(15));
}

#[tokio::test]
async fn a_signal_to_the_first_process_reaches_the_container() {
    let Some(pod) = pod().await else { return };
    let spec = pod.spec("trap 'exit 5' TERM; touch /tmp/ready; while :; do sleep 0.01; done");
    let id = spec.id.clone();
    let mut watch = pod.sandbox.connect(Request::Watch, Vec::new()).await.unwrap();
    pod.sandbox.request(Request::Start(Box::new(spec))).await.unwrap();
    let (exit, _) = pod.exec(&id, "until test -e /tmp/ready; do :; done; kill 1", b"").await;
    assert_eq!(exit, Exit::Code(0));
    assert_eq!(ended(&mut watch, &id).await.ended.unwrap().exit, Exit::Code(5));
}

#[tokio::test]
async fn a_pod_is_found_again_and_ends_whole() {
    let Some(pod) = pod().await else { return };
    pod.sandbox.request(Request::Start(Box::new(pod.spec("sleep 1000")))).await.unwrap();
    assert!(Sandbox::find(&pod.directory).await.is_some());
    let pid = holder(&pod.directory).unwrap().unwrap();
    pod.sandbox.stop().await.unwrap();
    assert!(has_ended(pid) && holder(&pod.directory).unwrap().is_none());
    assert!(Sandbox::find(&pod.directory).await.is_none());
}

/// The user whose sockets the next test makes.
const STRANGER: u32 = 1337;

#[tokio::test]
async fn the_sockets_of_a_user_that_does_not_exist_are_marked() {
    let Some(pod) = pod().await else { return };
    let inside = "isthmus --ignored --exact --nocapture runtime::sandbox::tests::in_a_container_sockets_are_marked";
    let mut spec = pod.spec(&format!("{inside} && sleep 1000"));
    spec.program.identity.emulated = Some(STRANGER);
    let mut watch = pod.sandbox.connect(Request::Watch, Vec::new()).await.unwrap();
    let id = spec.id.clone();
    pod.sandbox.request(Request::Start(Box::new(spec))).await.unwrap();
    let (exit, text) = pod.exec(&id, inside, b"").await;
    assert_eq!(exit, Exit::Code(0), "{text}");
    pod.sandbox.request(Request::Signal { id: id.clone(), signal: Signal::SIGKILL as i32 }).await.unwrap();
    ended(&mut watch, &id).await;
    let unmarked = Spec { attempt: 1, ..pod.spec(inside) };
    assert_ne!(pod.run(unmarked).await.ended.unwrap().exit, Exit::Code(0), "another container's sockets are its own");
    let threads = || std::fs::read_dir(format!("/proc/{}/task", holder(&pod.directory).unwrap().unwrap())).unwrap();
    let serves =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|c| c == "sockets\n");
    // The kernel tells of the end of the last process a moment after it.
    let gone = async {
        while threads().any(|task| serves(task.unwrap())) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[test]
#[ignore = "it is what a container of another test runs"]
fn in_a_container_sockets_are_marked() {
    use socket2::{Domain, Protocol, Socket, Type};
    let made = |domain, kind, protocol| Socket::new_raw(domain, kind, protocol);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                for (domain, kind) in [(Domain::IPV4, Type::STREAM), (Domain::IPV6, Type::DGRAM)].repeat(50) {
                    assert_eq!(made(domain, kind, None).unwrap().mark().unwrap(), STRANGER);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let flags = |kind: Type| {
        let socket = made(Domain::IPV4, kind, None).unwrap();
        (socket.nonblocking().unwrap(), fcntl(&socket, FcntlArg::F_GETFD).unwrap() == libc::FD_CLOEXEC)
    };
    assert_eq!(flags(Type::STREAM), (false, false));
    assert_eq!(flags(Type::STREAM.nonblocking()), (true, false));
    assert_eq!(flags(Type::STREAM.cloexec()), (false, true));
    let refused = made(Domain::IPV4, Type::STREAM, Some(Protocol::UDP)).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPROTONOSUPPORT));
    assert_eq!(made(Domain::UNIX, Type::STREAM, None).unwrap().mark().unwrap(), 0);
    let mut open: Vec<Socket> = Vec::new();
    let full = loop {
        match made(Domain::IPV4, Type::STREAM, None) {
            Ok(socket) => open.push(socket),
            Err(error) => break error,
        }
    };
    assert_eq!(full.raw_os_error(), Some(libc::EMFILE), "after {} sockets", open.len());
}
