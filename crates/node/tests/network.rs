//! Networks that are really made. A program of its own instead of the standard harness, because a user namespace can
//! only be entered before there are threads, and because the node's own processes are this program's `internal NAME`.
//! Every case runs in a process of its own; as root, once more as an ordinary user.

#[path = "network/api.rs"]
mod api;
#[path = "network/capture_cases.rs"]
mod capture_cases;
#[path = "network/cases.rs"]
mod cases;
#[path = "network/service_cases.rs"]
mod service_cases;
#[path = "network/world.rs"]
mod world;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

const NOBODY: u32 = 65534;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["internal", name, ..] => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).init();
            return node::internal(name, &args[2..]);
        }
        ["case", name] => {
            all().filter(|(case, _)| case == name).for_each(|(_, run)| run());
            return ExitCode::SUCCESS;
        }
        ["--list", ..] => {
            all().for_each(|(name, _)| println!("{name}: test"));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if let Err(why) = world::is_possible() {
        println!("network: skipped, because a network cannot be made here: {why}");
        return ExitCode::SUCCESS;
    }
    let wanted = |name: &str| args.iter().filter(|a| !a.starts_with('-')).all(|part| name.contains(part.as_str()));
    let mut failed = 0;
    for (name, _) in all().filter(|(name, _)| wanted(name)) {
        failed += u32::from(!passes(name, None));
        if nix::unistd::geteuid().is_root() {
            failed += u32::from(!passes(name, Some(NOBODY)));
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all() -> impl Iterator<Item = &'static cases::Case> {
    cases::CASES.iter().chain(service_cases::CASES).chain(capture_cases::CASES)
}

fn passes(name: &str, user: Option<u32>) -> bool {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(std::env::current_exe().expect("a name"));
    command.args(["case", name]).env("TEST_HOME", home.path());
    if let Some(id) = user {
        std::os::unix::fs::chown(home.path(), Some(id), Some(id)).expect("root may give a directory away");
        command.uid(id).gid(id).env("TEST_USER", id.to_string());
    }
    let passed = command.status().expect("the case starts").success();
    if !passed {
        print_logs(home.path());
    }
    println!("test {name}{} ... {}", user.map_or("", |_| " (as nobody)"), if passed { "ok" } else { "FAILED" });
    passed
}

/// What the processes had to say.
fn print_logs(home: &Path) {
    for log in ["outer.log", "c1/network.log", "c2/network.log"] {
        if let Ok(text) = std::fs::read_to_string(home.join(log)) {
            print!("{log}:\n{text}");
        }
    }
}
