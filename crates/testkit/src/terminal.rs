//! A bash that stays open, as a reader of a document has one: what one command sets, the next one finds.

use std::io::Write;
use std::path::PathBuf;
use std::process::{ChildStdin, Stdio};
use std::sync::{Arc, Mutex};

use crate::shell::{Group, LIMIT, collect, lossy};
use crate::{Done, Shell, look_for};

/// An open bash. It ends, with all that it has started, when this is dropped.
pub struct Terminal {
    directory: PathBuf,
    entered: usize,
    stdin: ChildStdin,
    complaints: Arc<Mutex<Vec<String>>>,
    _bash: Group,
}

impl Terminal {
    /// Opens one with a shell's environment and directory. `line` starts the bash: `bash`, or something that runs it.
    pub fn open(shell: &Shell, line: &str) -> Terminal {
        let mut bash = shell.spawn(line, Stdio::piped());
        let stdin = bash.stdin.take().expect("stdin is piped");
        let complaints = Arc::new(Mutex::new(Vec::new()));
        // What the commands print goes to files; this is what bash itself has to say.
        collect(bash.stdout.take().expect("stdout is piped"), complaints.clone());
        collect(bash.stderr.take().expect("stderr is piped"), complaints.clone());
        Terminal { directory: shell.directory.clone(), entered: 0, stdin, complaints, _bash: Group(bash) }
    }

    /// Enters a script, which reads nothing, and waits for its end. `return` ends it early.
    ///
    /// # Panics
    /// When it does not end in time, or has ended the bash.
    #[track_caller]
    pub fn enter(&mut self, script: &str) -> Done {
        self.entered += 1;
        let file = |kind: &str| self.directory.join(format!(".entered-{}.{kind}", self.entered));
        let [text, stdout, stderr, code] = ["sh", "out", "err", "code"].map(file);
        std::fs::write(&text, script).expect("the directory can be written to");
        let (out, err, end) = (stdout.display(), stderr.display(), code.display());
        let line =
            format!(". {} >{out} 2>{err} </dev/null; echo $? >{end}.part; mv {end}.part {end}\n", text.display());
        self.stdin.write_all(line.as_bytes()).expect("bash is there");
        let ended = look_for(LIMIT, || std::fs::read_to_string(&code).ok());
        let code = ended.unwrap_or_else(|| panic!("no end of {script}\nbash says {:?}", self.complaints.lock()));
        let read = |path| std::fs::read(path).expect("a script that has ended has written this");
        Done {
            line: script.to_owned(),
            code: code.trim().parse().expect("$? is a number"),
            bytes: read(stdout),
            stderr: lossy(read(stderr)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Account;

    #[test]
    fn what_one_script_sets_the_next_one_finds() {
        let directory = tempfile::tempdir().unwrap();
        let mut terminal = Terminal::open(&Shell::new(Account::current(), directory.path().to_owned()), "bash");
        terminal.enter("NAME=world\ngreet() { cat <<EOF\nhello $1\nEOF\n}").ok();
        let done = terminal.enter("greet $NAME\nfalse || return 3\necho never");
        assert_eq!((done.code, done.stdout().as_str()), (3, "hello world"));
    }
}
