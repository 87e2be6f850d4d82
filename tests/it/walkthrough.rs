//! Documents, command by command: their own words, a bash, and what they say comes out.

mod edition;
mod http_federation;
mod load;
mod ours;
mod shape;
mod tcp_federation;
mod transcript;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use testkit::{Account, Done, Federation, Terminal, look_for};

pub(crate) use edition::{Amendment, Aside, Change, Edition, Errand};
use shape::{is_told_to_stderr, shape};
use transcript::{Part, Step, parts};

/// How long what a document says may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// An `openssl` whose `s_client` is ended, as by Ctrl-C, when it has shown one line of an answer.
const OPENSSL: &str = r#"#!/bin/bash
PATH=${PATH#*:}
[ "$1" = s_client ] || exec openssl "$@"
exec 4<&0 3< <(exec openssl "$@" <&4)
sed -u 1q <&3
kill $! 2>/dev/null
"#;

/// What a reader has before the first command.
const PROLOGUE: &str = r#"
set -o pipefail
PATH=$PWD/bin:$PATH
isthmus() { "$ISTHMUS" "$@"; }
"#;

/// Somebody who follows documents, in one terminal.
pub(crate) struct Reader {
    terminal: Terminal,
    /// What has been done, for whoever has to find out why a later step fails.
    history: Vec<String>,
    /// The exit code of the last script.
    code: i32,
}

impl Reader {
    /// A reader in front of `line`, which runs a bash, in the directory of a federation.
    pub(crate) fn new(federation: &Federation, line: &str) -> Reader {
        let shell = federation.shell();
        let packed = std::process::Command::new("tar").args(["-c", "samples"]).output().expect("tar can be run");
        shell.sh_with_input("tar -x", &packed.stdout).ok();
        shell.sh_with_input("mkdir bin && cat > bin/openssl && chmod +x bin/openssl", OPENSSL.as_bytes()).ok();
        let mut terminal = Terminal::open(shell, line);
        terminal.enter(PROLOGUE).ok();
        Reader { terminal, history: Vec::new(), code: 0 }
    }

    /// Follows a document from its first command to its last.
    ///
    /// # Panics
    /// When something is printed that the document does not say, when a command fails of which it says nothing, and when
    /// the edition changes something that is not in the document.
    pub(crate) fn follow(&mut self, name: &str, document: &str, edition: &Edition) {
        let document = edition.substituted(document);
        let mut unused: BTreeSet<&str> = edition.phrases().collect();
        let mut said = String::new();
        for part in parts(&document) {
            match part {
                Part::Prose(prose) => {
                    for aside in edition.asides.iter().filter(|aside| prose.contains(aside.phrase)) {
                        unused.remove(aside.phrase);
                        self.run_errand(name, &aside.errand);
                    }
                    said = prose;
                }
                Part::Step(step) => {
                    let context = said.clone() + " " + &step.commands.join(" ");
                    let amendment = edition.amendments.iter().find(|amendment| context.contains(amendment.at));
                    match amendment {
                        Some(amendment) => {
                            unused.remove(amendment.at);
                            let (step, checked) = amendment.applied(step);
                            self.take(name, &step, checked);
                        }
                        None => self.take(name, &step, !step.printed.is_empty()),
                    }
                }
            }
        }
        assert!(unused.is_empty(), "{name} does not have {unused:#?}");
    }

    fn run_errand(&mut self, document: &str, errand: &Errand) {
        match errand {
            Errand::Follow(file) => self.follow(file, &std::fs::read_to_string(file).unwrap(), &Edition::PLAIN),
            Errand::Run(script) => self.step(document, &by_itself(script, ""), false),
            Errand::Look(script, prints) => self.step(document, &by_itself(script, prints), true),
            Errand::Check(check) => check(self),
        }
    }

    /// Takes a step; where nothing is said about what comes out, each of its commands has to succeed.
    fn take(&mut self, document: &str, step: &Step, checked: bool) {
        if checked {
            return self.step(document, step, true);
        }
        for command in &step.commands {
            let step = Step { commands: vec![command.clone()], ..step.clone() };
            self.step(document, &step, false);
        }
    }

    /// Does a step; what it prints is `checked`, or nothing is said about it and it has to succeed. What changes something
    /// is done once, and what only looks afterwards again and again, until it comes true.
    fn step(&mut self, document: &str, step: &Step, checked: bool) {
        let changes = step.commands.iter().rposition(|command| !only_looks(command)).map_or(0, |last| last + 1);
        let (changes, looks) = step.commands.split_at(changes);
        let mut done: Vec<Done> = Vec::new();
        let mut wrong = None;
        if !changes.is_empty() {
            let changed = self.enter(changes);
            wrong = failure(&changed).filter(|_| !checked || !looks.is_empty());
            done.push(changed);
        }
        if wrong.is_none() {
            let once = done.len();
            look_for(PATIENCE, || {
                done.truncate(once);
                if !looks.is_empty() {
                    done.push(self.enter(looks));
                }
                wrong = if checked { difference(step, &done) } else { done.iter().find_map(failure) };
                (wrong.is_none() || looks.is_empty()).then_some(())
            });
        }
        let transcript = done.iter().map(Done::transcript).collect::<Vec<_>>().join("\n");
        if let Some(wrong) = wrong {
            let first = self.history.len().saturating_sub(6);
            panic!("{}\n\n{document}:{}: {wrong}\n{transcript}", self.history[first..].join("\n"), step.line);
        }
        self.history.push(transcript);
    }

    fn enter(&mut self, commands: &[String]) -> Done {
        let done = self.terminal.enter(&format!("(exit {})\n{}", self.code, script(commands)));
        self.code = done.code;
        done
    }
}

/// A script that ends at the first command that fails. A variable that is set has to get a value.
fn script(commands: &[String]) -> String {
    let command = |command: &String| {
        let set = asked(command).map(|name| format!("test -n \"${name}\"\n")).unwrap_or_default();
        format!("{{ {command}\n{set}}} || return\n")
    };
    commands.iter().map(command).collect()
}

/// The variable that a command sets to what another one prints.
fn asked(command: &str) -> Option<&str> {
    let (name, _) = command.trim_start_matches("export ").split_once("=$(")?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}

/// Whether a command may be typed again, as a reader does who waits for something to come true.
fn only_looks(command: &str) -> bool {
    static LOOKS: LazyLock<Regex> = LazyLock::new(|| {
        let kubectl = r"kubectl (-\S+( |=)\S+ )*(get|exec|logs) ";
        let looks = format!(
            r"^(isthmus run -- )?({kubectl}|curl |isthmus explain |stars|several|reviews|calls|local_calls|call )"
        );
        Regex::new(&looks).unwrap()
    });
    let words = command.split_whitespace().collect::<Vec<_>>().join(" ") + " ";
    asked(command).is_some() || LOOKS.is_match(&words) || words.contains("| openssl s_client")
}

/// What is different from what the step promises.
fn difference(step: &Step, done: &[Done]) -> Option<String> {
    let (told, printed): (Vec<&str>, Vec<&str>) =
        step.printed.iter().map(String::as_str).partition(|line| is_told_to_stderr(line));
    let stdout: Vec<String> = done.iter().map(Done::stdout).collect();
    let (expected, actual) = (shape(printed), shape(stdout.iter().flat_map(|text| text.lines())));
    // Where the last command is all that a document shows the output of, the others say what they always say.
    let last = shape(stdout.last().into_iter().flat_map(|text| text.lines()));
    if expected != actual && expected != last {
        return Some(format!("this was expected: {expected:#?}\nand this was printed: {actual:#?}"));
    }
    let (told, stderr) = (shape(told), shape(done.iter().flat_map(|done| done.stderr.lines())));
    let missing: Vec<_> = told.difference(&stderr).collect();
    (!missing.is_empty()).then(|| format!("stderr lacks {missing:#?}"))
}

/// A script that no document has.
fn by_itself(script: &str, prints: &str) -> Step {
    Step { line: 0, commands: vec![script.to_owned()], printed: prints.lines().map(str::to_owned).collect() }
}

/// That what is to be deleted is gone already is none: documents delete whole files of which some is gone.
fn failure(done: &Done) -> Option<String> {
    let deletes = done.transcript().contains("kubectl delete ");
    let complaints: Vec<&str> = done.stderr.lines().filter(|line| !line.starts_with("Warning: ")).collect();
    let gone = |line: &&str| line.starts_with("Error from server (NotFound)");
    let only_gone = deletes && !complaints.is_empty() && complaints.iter().all(gone);
    (done.code != 0 && !only_gone).then(|| format!("exit code {}", done.code))
}

/// A document that comes with the project's sources, where it does.
pub(crate) struct Seed {
    file: &'static str,
    edition: &'static Edition,
    /// How many clusters it speaks of.
    clusters: u8,
    /// The heading that its commands begin at.
    begins: &'static str,
}

impl Seed {
    /// Follows it on the network between the clusters, where their load balancers answer.
    fn follow(&self, account: Option<Account>, data_plane: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/seeds").join(self.file);
        let Ok(document) = std::fs::read_to_string(&path) else {
            return testkit::skip(&format!("{} is not there", self.file));
        };
        let Some(federation) = prepare(account) else { return };
        let clusters: Vec<String> = (1..=self.clusters).map(|number| format!("c{number}")).collect();
        let Some(choice) = choice(data_plane) else { return };
        federation.isthmus(&format!("up {} --detach {choice}", clusters.join(" "))).ok();
        federation.fetch_kubeconfig();
        let mut reader = Reader::new(&federation, &federation.command("run -- bash"));
        for (number, cluster) in (1..).zip(&clusters) {
            reader.terminal.enter(&format!("export CTX_CLUSTER{number}={cluster}")).ok();
        }
        let at = document.find(self.begins).expect("the document begins");
        reader.follow(self.file, &document[at..], self.edition);
    }
}

/// `None` where something is missing, and for an account that the tests cannot be.
fn prepare(account: Option<Account>) -> Option<Federation> {
    let programs = testkit::kubectl() && ["curl", "openssl", "nc", "tar"].into_iter().all(testkit::program);
    let account = account.filter(|_| programs && testkit::namespaces())?;
    Some(Federation::prepare(crate::binary(), account))
}

/// What chooses a data plane, if it is there.
fn choice(data_plane: &str) -> Option<String> {
    match data_plane {
        "envoy" => Some(format!("--data-plane envoy --envoy {}", testkit::envoy()?.display())),
        _ => Some(String::new()),
    }
}

/// Makes a document four tests: with both data planes, as whoever runs the tests and as an ordinary user.
macro_rules! on_both_data_planes {
    ($name:ident) => {
        mod $name {
            use testkit::Account;

            #[test]
            fn natively_as_current_user() {
                super::DOCUMENT.follow(Some(Account::current()), "native");
            }
            #[test]
            fn natively_as_ordinary_user() {
                super::DOCUMENT.follow(Account::ordinary(), "native");
            }
            #[test]
            fn with_envoy_as_current_user() {
                super::DOCUMENT.follow(Some(Account::current()), "envoy");
            }
            #[test]
            fn with_envoy_as_ordinary_user() {
                super::DOCUMENT.follow(Account::ordinary(), "envoy");
            }
        }
    };
}
use on_both_data_planes;
