//! The rules of this repository, as tests. CONTRIBUTING.md says why they are.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which crates of this workspace each may use. A new crate forbids a dependency, fences generated code, is a binary,
/// or is for development only; otherwise it is a module.
const MAY_USE: &[(&str, &[&str])] = &[
    ("agent", &["envoy", "pki", "proxy"]),
    ("api", &[]),
    ("apiserver", &["api", "pki"]),
    ("bench", &["envoy", "pki", "testkit"]),
    ("control", &["api", "apiserver", "envoy", "federation", "pki", "xds"]),
    ("envoy", &[]),
    ("federation", &["api"]),
    ("isthmus", &["agent", "api", "apiserver", "control", "envoy", "node", "pki", "proxy", "samples", "xds"]),
    ("node", &["api"]),
    ("pki", &["api"]),
    ("proxy", &["envoy", "pki"]),
    ("samples", &[]),
    ("testkit", &[]),
    ("xds", &["api", "envoy"]),
];

/// The files that may hold `unsafe`: what the kernel offers in no other way.
const UNSAFE: &[&str] =
    &["crates/node/src/runtime/kernel.rs", "crates/node/src/runtime/kernel/seccomp.rs", "src/memory.rs"];

const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 120;

/// A Rust file of this repository.
struct Source {
    /// Relative to the root.
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.contains("/testkit/")
            || self.path.ends_with("/tests.rs")
    }

    /// Numbered lines, without the tests at the end of the file.
    fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = if self.is_test() { Some(0) } else { self.text.lines().position(|line| line == "#[cfg(test)]") };
        self.lines().take(end.unwrap_or(usize::MAX))
    }

    fn test_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().skip(self.shipped_lines().count())
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the repository with this ending, except what is built or hidden.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

fn sources() -> Vec<Source> {
    let read = |path: PathBuf| Source { path: relative(&path), text: std::fs::read_to_string(&path).unwrap() };
    let this = relative(&root().join(file!()));
    files(".rs").into_iter().map(read).filter(|source| source.path != this).collect()
}

/// Fails with every complaint at once.
#[track_caller]
fn none(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Every shipped line of which `wrong` says something.
fn in_shipped_code(wrong: impl Fn(&str) -> Option<&'static str>) {
    let sources = sources();
    none(sources.iter().flat_map(|source| complain(source, source.shipped_lines(), &wrong)));
}

fn complain<'a>(
    source: &'a Source,
    lines: impl Iterator<Item = (usize, &'a str)>,
    wrong: &impl Fn(&str) -> Option<&'static str>,
) -> Vec<String> {
    lines.filter_map(|(number, line)| Some(format!("{}:{number}: {}", source.path, wrong(line)?))).collect()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The crates of this workspace, as cargo describes them.
fn packages() -> Vec<Value> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn name(value: &Value) -> String {
    value["name"].as_str().unwrap().to_owned()
}

#[test]
fn crates_use_only_what_they_may() {
    let packages = packages();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    none(packages.iter().flat_map(|package| {
        let from = name(package);
        let Some(allowed) = allowed.get(from.as_str()) else {
            return vec![format!("say in tests/tidy.rs what {from} may use")];
        };
        let shipped =
            package["dependencies"].as_array().unwrap().iter().filter(|edge| edge["kind"].is_null()).map(name);
        let wrong = shipped.filter(|to| ours.contains(to) && !allowed.contains(&to.as_str()));
        wrong.map(|to| format!("{from} may not use {to}")).collect::<Vec<_>>()
    }));
}

#[test]
fn the_crate_table_is_complete() {
    let architecture = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let row = |name: &str| architecture.lines().any(|line| line.starts_with(&format!("| `{name}`")));
    let missing = packages().iter().map(name).filter(|name| !row(name)).collect::<Vec<_>>();
    none(missing.iter().map(|name| format!("ARCHITECTURE.md has no row for {name}")));
}

#[test]
fn one_tls_provider_is_in_the_tree() {
    let tree = cargo(&["tree", "--workspace", "-e", "normal,build", "--prefix", "none", "--offline"]);
    let banned = ["ring", "openssl-sys", "native-tls", "mockall"];
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    none(banned.iter().filter(|name| names.contains(**name)).map(|name| format!("{name} is in the tree")));
}

#[test]
fn code_is_formatted() {
    let checked = Command::new(env!("CARGO")).args(["fmt", "--all", "--check"]).current_dir(root()).output().unwrap();
    assert!(checked.status.success(), "run cargo fmt:\n{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn files_are_small() {
    let sources = sources();
    none(sources.iter().filter_map(|source| {
        let lines = if source.is_test() { source.lines().count() } else { source.shipped_lines().count() };
        (lines > LONGEST_FILE).then(|| format!("{}: {lines} lines; split it by noun", source.path))
    }));
}

#[test]
fn functions_are_small() {
    let sources = sources();
    none(sources.iter().flat_map(long_functions));
}

/// Formatted code closes a function at the indentation it began with.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let begins = |line: &str| {
        let words = line.split_whitespace();
        let first = words.take_while(|word| !word.contains('(') || word.starts_with("pub("));
        first.into_iter().any(|word| word == "fn")
    };
    let starts = lines.iter().enumerate().filter(|(_, line)| begins(line));
    let length = |(at, line): (usize, &&str)| {
        let end = format!("{}}}", " ".repeat(line.len() - line.trim_start().len()));
        let rest = lines.iter().skip(at);
        let length = rest.take_while(|line| **line != end).count() + 1;
        (length > LONGEST_FUNCTION && !line.ends_with(['}', ';']))
            .then(|| format!("{}:{}: {length} lines", source.path, at + 1))
    };
    starts.filter_map(length).collect()
}

#[test]
fn names_say_what_a_thing_is() {
    let banned = ["util", "utils", "common", "manager", "helper", "helpers", "misc", "mod"];
    none(sources().iter().filter_map(|source| {
        let bad = |part: &str| banned.contains(&part.trim_end_matches(".rs"));
        source.path.split(['/', '_']).any(bad).then(|| format!("{}: name it after what it holds", source.path))
    }));
}

/// A setting that is converted and that nobody asks for would be let through in silence.
#[test]
fn every_setting_of_the_proxy_is_read() {
    let sources = sources();
    let settings = sources.iter().filter(|s| s.path.starts_with("crates/proxy/src/config/"));
    let fields = settings.flat_map(|s| s.shipped_lines().map(move |(number, line)| (s, number, line)));
    let fields = fields.filter_map(|(source, number, line)| {
        let (name, _) = line.strip_prefix("    pub ")?.split_once(": ")?;
        name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some((source, number, name))
    });
    // Where a module of tests is named at the top of a file, what ships follows it.
    let of_proxy = |s: &&Source| s.path.starts_with("crates/proxy/src/") && !s.is_test();
    none(fields.filter_map(|(source, number, name)| {
        let mut lines = sources.iter().filter(of_proxy).flat_map(|s| s.lines().map(move |(_, line)| (s, line)));
        let read = lines.any(|(other, line)| {
            let outside = !other.path.starts_with("crates/proxy/src/config/");
            asks(line, &format!(".{name}")) || outside && takes(line, name)
        });
        (!read).then(|| format!("{}:{number}: nobody reads {name}", source.path))
    }));
}

/// Whether a line has a field that ends in these words.
fn asks(line: &str, field: &str) -> bool {
    let after = line.split(field).skip(1);
    after.into_iter().any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '('))
}

/// Whether a line may take a value apart into this field and others.
fn takes(line: &str, name: &str) -> bool {
    let starts = ["{ ", ", ", "("].map(|start| format!("{start}{name}"));
    starts.iter().any(|start| asks(line, start))
}

#[test]
fn shipped_code_does_not_panic_on_input() {
    in_shipped_code(|line| {
        let code = line.split("//").next().unwrap_or_default();
        [".unwrap()", ".unwrap_err()", "todo!(", "unimplemented!(", "dbg!(", "panic!("]
            .iter()
            .any(|word| code.contains(word))
            .then_some("return an error, or state an invariant with expect")
    });
}

#[test]
fn lints_are_expected_with_a_reason() {
    let sources = sources();
    none(sources.iter().flat_map(|source| {
        complain(source, source.lines(), &|line: &str| {
            let line = line.trim_start();
            (line.starts_with("#[allow(") || line.starts_with("#![allow("))
                .then_some("use #[expect(…, reason = \"…\")]")
        })
    }));
}

#[test]
fn unsafe_code_is_fenced_and_proved() {
    let sources = sources();
    none(sources.iter().flat_map(|source| {
        let lines: Vec<&str> = source.text.lines().collect();
        let uses = |line: &str| line.split("//").next().unwrap_or_default().contains("unsafe {");
        let places = source.lines().filter(|(_, line)| uses(line));
        let complaint = |number: usize| {
            let before = lines.iter().take(number).rev().take(6);
            if !UNSAFE.contains(&source.path.as_str()) {
                Some("unsafe belongs into the modules that are listed in tests/tidy.rs")
            } else if !before.into_iter().any(|line| line.contains("// SAFETY:")) {
                Some("say in a SAFETY comment why this is sound")
            } else {
                None
            }
        };
        places
            .filter_map(|(number, _)| Some(format!("{}:{number}: {}", source.path, complaint(number)?)))
            .collect::<Vec<_>>()
    }));
}

#[test]
fn tests_wait_for_states() {
    let sources = sources();
    let sources = sources.iter().filter(|source| !source.path.starts_with("crates/testkit/"));
    none(sources.flat_map(|source| {
        complain(source, source.test_lines(), &|line: &str| {
            (line.contains("thread::sleep") || line.contains("time::sleep")).then_some("use testkit::until")
        })
    }));
}

#[test]
fn comments_tell_no_history() {
    let sources = sources();
    let banned = ["TODO", "FIXME", "XXX", "Step 1", "previously", "refactored", "CONTRACT STUB", "no longer needed"];
    none(sources.iter().flat_map(|source| {
        complain(source, source.lines(), &|line: &str| {
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            banned.iter().any(|word| comment.contains(word)).then_some("say how it is, and why")
        })
    }));
}

#[test]
fn documents_are_short_and_free_of_private_paths() {
    let text = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    for (name, most) in [("README.md", 120), ("CONTRIBUTING.md", 80)] {
        let lines = text(name).lines().count();
        assert!(lines <= most, "{name} has {lines} lines; {most} are enough");
    }
    let private = ["/root/", "/work/", "/home/"];
    none(files(".md").iter().map(|path| relative(path)).filter_map(|path| {
        let text = text(&path);
        let found = private.iter().find(|start| text.contains(**start))?;
        Some(format!("{path} names {found}, a path of one machine"))
    }));
}

#[test]
fn documents_link_to_what_exists() {
    none(files(".md").iter().flat_map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        let folder = path.parent().unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let missing =
            targets.filter(|target| !target.contains("://") && !target.is_empty() && !folder.join(target).exists());
        missing.map(|target| format!("{}: {target} does not exist", relative(path))).collect::<Vec<_>>()
    }));
}

#[test]
fn ci_runs_what_the_readme_says() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    let commands: Vec<&str> = ci.lines().map(str::trim).filter(|line| line.starts_with("cargo ")).collect();
    assert!(commands.contains(&"cargo test --workspace"), "{commands:?}");
    none(
        commands
            .iter()
            .filter(|command| !readme.contains(**command))
            .map(|command| format!("README.md lacks `{command}`")),
    );
}
