//! `isthmus demo`, to its end.

use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{Account, Federation};

/// Runs a command without `--home`, as a reader of the README does: demos bring homes of their own.
fn demo(federation: &Federation, words: &str) -> String {
    format!("{} demo {words}", federation.binary().display())
}

/// What demos leave behind that were killed because a test has failed.
struct Left<'a>(&'a Federation);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let binary = self.0.binary().display();
        let down =
            format!("for home in isthmus-demo-*/; do [ ! -d $home ] || {binary} down --home $home --delete; done");
        self.0.shell().sh(&down);
    }
}

fn possible() -> bool {
    testkit::namespaces() && ["curl", "nc"].into_iter().all(testkit::program)
}

/// Runs demos, all at once, and looks at what they report.
fn play(account: Account, files: &[&str]) {
    let federation = Federation::prepare(crate::binary(), account);
    let shell = federation.shell();
    let line = demo(&federation, "--once -o json");
    let _left = Left(&federation);
    let all: Vec<_> = files.iter().map(|file| (file, shell.start(&format!("{line} > {file}")))).collect();
    for (name, running) in all {
        assert_eq!(running.wait(), 0, "{}", shell.sh(&format!("cat {name}")).stdout());
        let report: Value = serde_json::from_str(&shell.sh(&format!("cat {name}")).ok()).unwrap();
        let steps = report["steps"].as_array().unwrap();
        assert!(report["ok"] == true && steps.len() > 10 && steps.iter().all(|step| step["ok"] == true), "{report:#}");
        let denied =
            steps.iter().filter(|step| step["title"].as_str().is_some_and(|title| title.starts_with("denied")));
        assert!(
            denied.clone().count() == 3
                && denied.clone().all(|step| step["detail"].to_string().contains("AuthorizationPolicy"))
        );
        assert!(!std::path::Path::new(report["home"].as_str().unwrap()).exists());
    }
}

#[test]
fn two_demos_at_once_tell_their_stories() {
    if possible() {
        play(Account::current(), &["one.json", "two.json"]);
    }
}

#[test]
fn an_ordinary_user_sees_it_too() {
    if let Some(account) = Account::ordinary().filter(|_| possible()) {
        play(account, &["report.json"]);
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    if !possible() {
        return;
    }
    let federation = Federation::prepare(crate::binary(), Account::current());
    let running = federation.shell().start(&format!("exec {}", federation.command("demo")));
    running.line_with("three clusters serve");
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait(), 130);
    assert_eq!(federation.processes(), Vec::<String>::new());
}
