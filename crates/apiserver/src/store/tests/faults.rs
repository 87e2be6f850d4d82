//! Killed processes, damaged files, full disks.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use super::{config_maps, create, delete, key, open, update};
use crate::store::{Revision, Store, Write};

/// Where a child process of these tests finds its store.
const DIRECTORY: &str = "STORE_TEST_DIRECTORY";

fn directory_from_parent() -> PathBuf {
    std::env::var_os(DIRECTORY).expect("the parent test names the store").into()
}

/// This test binary, running one ignored test.
fn child(program: &str, arguments: &[&str], test: &str, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command.args(["--exact", &format!("store::tests::faults::{test}"), "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(DIRECTORY, directory);
    command
}

fn this_binary() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of no_acknowledged_write_is_lost_to_a_kill"]
async fn write_until_killed() {
    let store = Store::open(&directory_from_parent()).unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let store = store.clone();
        writers.spawn(async move {
            for step in 0.. {
                let name = format!("w{writer}-{}", step % 50);
                let write = match store.get(&key("default", &name)) {
                    None => create(&name, &step.to_string()),
                    Some(object) if step % 7 == 0 => delete(&name, object.revision),
                    Some(object) => update(&name, &step.to_string(), object.revision),
                };
                let gone = matches!(write, Write::Delete { .. });
                say(&format!("intends {writer} {name}"));
                let revision = store.commit(write).await.unwrap().revision.0;
                say(&format!("acknowledged {writer} {name} {revision} {gone}"));
            }
        });
    }
    writers.join_all().await;
}

/// One call writes the whole line, so that a kill does not tear it.
fn say(line: &str) {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// What a killed child had told.
#[derive(Default)]
struct Told {
    /// By name: the revision of the newest acknowledged write, and whether it was a delete.
    acknowledged: BTreeMap<String, (Revision, bool)>,
    /// By writer: the object that its unacknowledged write is to.
    intended: BTreeMap<String, String>,
}

impl Told {
    fn record(&mut self, line: &str) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["intends", writer, name] => {
                self.intended.insert(writer.to_owned(), name.to_owned());
            }
            ["acknowledged", writer, name, revision, gone] => {
                self.intended.remove(writer);
                self.acknowledged.insert(name.to_owned(), (Revision(revision.parse().unwrap()), gone == "true"));
            }
            _ => {}
        }
    }

    fn check(&self, store: &Store) {
        for (name, (revision, gone)) in &self.acknowledged {
            let found = store.get(&key("default", name)).map(|object| object.revision);
            if self.intended.values().any(|intended| intended == name) {
                assert!(found.is_none_or(|found| found >= *revision), "{name} is older than acknowledged");
            } else {
                assert_eq!(found, (!gone).then_some(*revision), "{name}");
            }
            assert!(store.revision() >= *revision);
        }
    }
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_to_a_kill() {
    let directory = TempDir::new().unwrap();
    for round in 0..20 {
        let mut child =
            child(&this_binary(), &[], "write_until_killed", directory.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut told = Told::default();
        lines.by_ref().take(20 + 37 * round).for_each(|line| told.record(&line));
        child.kill().unwrap();
        lines.for_each(|line| told.record(&line));
        assert!(!told.acknowledged.is_empty());
        told.check(&open(&directory));
        child.wait().unwrap();
    }
}

/// What the store does when there is no space, after `fill`, and when there is again, after `free`.
async fn write_to_a_full_disk(directory: &Path, fill: impl Fn(), free: impl Fn()) {
    let store = Store::open(directory).unwrap();
    let large = "x".repeat(300_000);
    let mut kept = store.commit(create("kept", "small")).await.unwrap();
    for round in 0..3 {
        fill();
        let mut watch = store.watch(&config_maps(), store.revision()).unwrap();
        let mut stored = Vec::new();
        let (name, error) = loop {
            let name = format!("large-{round}-{}", stored.len());
            match store.commit(create(&name, &large)).await {
                Ok(object) => stored.push(object),
                Err(error) => break (name, error.to_string()),
            }
        };
        assert!(error.contains("store.redb: ") && error.contains("resumes when there is space again"), "{error}");
        let unchanged = stored.last().unwrap_or(&kept).revision;
        assert_eq!((store.revision(), store.get(&key("default", &name)).is_none()), (unchanged, true));
        assert!(store.commit(create(&name, &large)).await.is_err(), "it stays refused");

        free();
        kept = store.commit(update("kept", "updated", kept.revision)).await.unwrap();
        assert_eq!(kept.revision, Revision(unchanged.0 + 1));
        stored.push(kept.clone());
        let mut seen = Vec::new();
        while seen.len() < stored.len() {
            seen.extend(watch.next().await.unwrap().iter().map(|event| event.revision));
        }
        assert_eq!(seen, stored.iter().map(|object| object.revision).collect::<Vec<_>>());
    }
    let contents = |store: &Store| {
        let (revision, objects) = store.list(&config_maps(), None);
        (revision, objects.iter().map(|object| (object.key.clone(), object.json.clone())).collect::<Vec<_>>())
    };
    let expected = contents(&store);
    drop(store);
    assert_eq!(contents(&Store::open(directory).unwrap()), expected);
}

fn succeeds(mut command: Command) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{text}");
}

#[tokio::test]
#[ignore = "the child of a_file_that_cannot_grow_refuses_writes"]
async fn write_below_a_limit() {
    let directory = directory_from_parent();
    let file = directory.join("store.redb");
    let (_, unlimited) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let limit = |bytes| setrlimit(Resource::RLIMIT_FSIZE, bytes, unlimited).unwrap();
    let fill = || limit(fs::metadata(&file).unwrap().len() + 500_000);
    write_to_a_full_disk(&directory, fill, || limit(unlimited)).await;
}

/// The limit comes with a signal, which the child must ignore.
#[test]
fn a_file_that_cannot_grow_refuses_writes() {
    let directory = TempDir::new().unwrap();
    let ignoring = ["-c", r#"trap "" XFSZ; exec "$@""#, "sh", &this_binary()];
    succeeds(child("sh", &ignoring, "write_below_a_limit", directory.path()));
}

#[tokio::test]
#[ignore = "the child of a_full_disk_refuses_writes"]
async fn write_beside_a_ballast() {
    let directory = directory_from_parent();
    let ballast = directory.join("ballast");
    let fill = || {
        let mut file = fs::File::create(&ballast).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    };
    write_to_a_full_disk(&directory, fill, || fs::remove_file(&ballast).unwrap()).await;
}

#[test]
fn a_full_disk_refuses_writes() {
    let directory = TempDir::new().unwrap();
    let small_disk = r#"mount -t tmpfs -o size=16m tmpfs "$STORE_TEST_DIRECTORY" && exec "$@""#;
    let unshare = |script| ["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"];
    let allowed =
        Command::new("unshare").args(unshare(small_disk)).arg("true").env(DIRECTORY, directory.path()).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this user cannot mount a disk in a namespace");
        return;
    }
    let binary = this_binary();
    let arguments = [&unshare(small_disk)[..], &[&binary]].concat();
    succeeds(child("unshare", &arguments, "write_beside_a_ballast", directory.path()));
}

#[tokio::test]
async fn a_store_in_use_is_refused() {
    let directory = TempDir::new().unwrap();
    let _store = open(&directory);
    let error = Store::open(directory.path()).err().unwrap().to_string();
    assert!(error.contains("store.redb is in use by another process"), "{error}");
}

#[tokio::test]
async fn nobody_else_can_read_the_store() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("cluster/store");
    let store = Store::open(&path).unwrap();
    store.commit(create("a", "")).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("store.redb"))), (0o700, 0o600));
}

#[tokio::test]
async fn a_creation_that_was_interrupted_starts_over() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("store.new"), [0; 5000]).unwrap();
    assert_eq!(open(&directory).revision(), Revision(1));
}

#[tokio::test]
async fn a_file_of_another_kind_is_named_with_the_remedy() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("store.redb");
    for content in [&b""[..], b"hello", &[0; 100_000], &[0xff; 100_000]] {
        fs::write(&file, content).unwrap();
        let error = Store::open(directory.path()).err().unwrap().to_string();
        let start = format!("{} is damaged (", file.display());
        assert!(error.starts_with(&start), "{error}");
        assert!(error.ends_with("restore it from a copy, or delete it to start with an empty cluster"), "{error}");
    }
}

#[tokio::test]
async fn damage_is_found_or_harmless() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    for number in 0..40 {
        store.commit(create(&format!("o{number}"), &"text".repeat(300))).await.unwrap();
    }
    let json = |store: &Store| -> Vec<_> {
        store.list(&config_maps(), None).1.iter().map(|object| object.json.clone()).collect()
    };
    let expected = (store.revision(), json(&store));
    drop(store);
    let file = directory.path().join("store.redb");
    let intact = fs::read(&file).unwrap();
    let mut refused = 0;
    let places = (0..40).map(|place| place * intact.len() / 40).chain((0..320).step_by(7));
    for place in places {
        let mut damaged = intact.clone();
        for byte in damaged.iter_mut().skip(place).take(64) {
            *byte ^= 0x5a;
        }
        fs::write(&file, &damaged).unwrap();
        match Store::open(directory.path()) {
            Ok(store) => assert_eq!((store.revision(), json(&store)), expected, "damage at {place}"),
            Err(error) => {
                assert!(error.to_string().contains("store.redb"), "{error}");
                refused += 1;
            }
        }
    }
    fs::write(&file, &intact[..intact.len() / 2]).unwrap();
    refused += usize::from(Store::open(directory.path()).is_err());
    assert!(refused > 10, "only {refused} damaged files were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_much_larger_than_its_contents_is_compacted() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let large = "x".repeat(60_000);
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..100 {
        let (store, large) = (store.clone(), large.clone());
        writes.spawn(async move { store.commit(create(&format!("o{number}"), &large)).await.unwrap() });
    }
    for object in writes.join_all().await.iter().filter(|object| !object.key.name.ends_with('0')) {
        store.commit(delete(&object.key.name, object.revision)).await.unwrap();
    }
    drop(store);
    let size = || fs::metadata(directory.path().join("store.redb")).unwrap().len();
    let before = size();
    let store = open(&directory);
    assert_eq!(store.list(&config_maps(), None).1.len(), 10);
    assert!(size() < before / 2, "{} of {before} bytes are left", size());
    store.commit(create("next", "")).await.unwrap();
}
