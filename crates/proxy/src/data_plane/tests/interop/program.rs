//! Programs of other implementations, to which lines are said and whose lines are read.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::super::LIMIT;

/// A running program; its lines of both streams, in the order in which they come.
pub(super) struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    /// Runs a command line in this folder.
    pub(super) fn start(folder: &Path, line: &str) -> Program {
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec {line} 2>&1")])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sends, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let _ = sends.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        });
        Program { child, lines }
    }

    pub(super) fn say(&mut self, line: &str) {
        // Who has already been refused reads nothing.
        let _ = writeln!(self.child.stdin.as_mut().unwrap(), "{line}");
    }

    /// Its lines up to one with this in it, or to its end.
    pub(super) fn until(&self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(LIMIT) {
            let found = line.contains(text);
            lines.push(line);
            if found {
                break;
            }
        }
        lines
    }

    /// Ends what it is told, and reads what it says to that.
    pub(super) fn finish(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        self.until("\0")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
