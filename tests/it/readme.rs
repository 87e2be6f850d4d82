//! The README's first five minutes, as they are written.

use testkit::{Account, Federation};

/// A command of the transcript, and what it is said to print; nothing said is nothing promised.
struct Step<'a> {
    command: &'a str,
    printed: Vec<&'a str>,
}

fn transcript(readme: &str) -> Vec<Step<'_>> {
    let block = readme.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in block.lines().filter(|line| !line.is_empty()) {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command, printed: Vec::new() }),
            (None, Some(step)) => step.printed.push(line),
            (None, None) => panic!("the transcript begins with a command, not with {line:?}"),
        }
    }
    steps
}

#[test]
fn the_first_five_minutes_print_what_they_say() {
    if !testkit::kubectl() || !testkit::namespaces() || !testkit::program("nc") {
        return;
    }
    let readme = std::fs::read_to_string("README.md").unwrap();
    let steps = transcript(&readme);
    assert!(steps.len() > 10);
    let federation = Federation::prepare(crate::binary(), Account::current());
    let mut script = "isthmus() { \"$ISTHMUS\" \"$@\"; }\n".to_owned();
    for Step { command, .. } in &steps {
        if !command.starts_with("alias ") {
            script += &format!("{command} || exit 1\n");
        }
        script += "echo end of step\n";
    }
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/samples");
    federation.shell().sh(&format!("ln -s {samples} samples")).ok();
    let done = federation.shell().sh(&script);
    assert_eq!(done.code, 0, "{}", done.transcript());
    let output = done.stdout();
    for (Step { command, printed }, actual) in steps.iter().zip(output.split("end of step\n")) {
        let actual: Vec<&str> = actual.lines().filter(|line| !line.is_empty()).collect();
        assert!(printed.is_empty() || *printed == actual, "$ {command}\n{actual:#?}\nand not\n{printed:#?}");
    }
}
