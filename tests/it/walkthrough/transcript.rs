//! What a document has its reader type, and what it says comes out.

use std::sync::LazyLock;

use regex::Regex;

/// A part of a document.
#[derive(Debug, PartialEq)]
pub(crate) enum Part {
    /// Text, with one space between its words.
    Prose(String),
    Step(Step),
}

/// Commands that are typed one after the other, and what they are said to print together. Nothing said is nothing
/// promised.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// Where in the document, counted from 1.
    pub(crate) line: usize,
    /// Each with its here-document.
    pub(crate) commands: Vec<String>,
    pub(crate) printed: Vec<String>,
}

const OPENING: &[&str] = &["```console", "```bash", "{{< text bash >}}"];
const CLOSING: &[&str] = &["```", "{{< /text >}}"];

/// The parts of a document in Markdown, or in Hugo's flavour of it. What is indented is as it would be without.
pub(crate) fn parts(document: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut prose = String::new();
    let mut lines = document.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if !OPENING.contains(&line.trim()) {
            prose = prose + line + " ";
            continue;
        }
        parts.push(Part::Prose(collapsed(&std::mem::take(&mut prose))));
        let depth = line.len() - line.trim_start().len();
        let block = lines.by_ref().take_while(|(_, line)| !CLOSING.contains(&line.trim()));
        let block: Vec<&str> = block.map(|(_, line)| dedented(line, depth)).collect();
        parts.extend(steps(at + 2, &block).into_iter().map(Part::Step));
    }
    parts.push(Part::Prose(collapsed(&prose)));
    parts
}

fn steps(first: usize, block: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = block.iter().enumerate();
    while let Some((at, line)) = lines.next() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), last) => {
                let mut command = command.trim().to_owned();
                let end = here_document(&command);
                while end.as_deref().is_some_and(|end| command.lines().last() != Some(end)) || command.ends_with('\\') {
                    let Some((_, line)) = lines.next() else { panic!("line {}: a command has no end", first + at) };
                    command = command + "\n" + line;
                }
                match last {
                    Some(step) if step.printed.is_empty() => step.commands.push(command),
                    _ => steps.push(Step { line: first + at, commands: vec![command], printed: Vec::new() }),
                }
            }
            (None, Some(step)) => step.printed.push((*line).to_owned()),
            (None, None) => assert!(line.is_empty(), "line {}: a block begins with a command", first + at),
        }
    }
    for step in &mut steps {
        step.printed.retain(|line| !line.trim().is_empty());
    }
    steps
}

/// The line that ends the here-document of a command, if it has one.
fn here_document(command: &str) -> Option<String> {
    static BEGIN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"<<'?(\w+)").unwrap());
    Some(BEGIN.captures(command)?[1].to_owned())
}

fn dedented(line: &str, depth: usize) -> &str {
    let spaces = line.len() - line.trim_start_matches(' ').len();
    &line[spaces.min(depth)..]
}

fn collapsed(prose: &str) -> String {
    prose.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn commands_here_documents_and_outputs_are_told_apart() {
    let document = "\
# Title
1.  Do this
    first:

    ```bash
    $ cat <<EOF | wc -l
    $ one
      two
    EOF
    $ echo b
    2
    b

    $ echo c
    ```
    and then
{{< text bash >}}
$  echo d
{{< /text >}}
```yaml
$ no: command
```
";
    let step = |line, commands: &[&str], printed: &[&str]| {
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        Part::Step(Step { line, commands: owned(commands), printed: owned(printed) })
    };
    let expected = [
        Part::Prose("# Title 1. Do this first:".to_owned()),
        step(6, &["cat <<EOF | wc -l\n$ one\n  two\nEOF", "echo b"], &["2", "b"]),
        step(14, &["echo c"], &[]),
        Part::Prose("and then".to_owned()),
        step(18, &["echo d"], &[]),
        Part::Prose("```yaml $ no: command ```".to_owned()),
    ];
    assert_eq!(parts(document), expected);
}
