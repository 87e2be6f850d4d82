//! A container's streams: its log in the CRI format, and the clients attached to it.
//!
//! A line of the log is `TIME stdout F TEXT`; a line longer than 16 KiB is cut into pieces marked `P` but the last.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::process::complain;

/// A log file is set aside when it reaches this size, as kubelet's `containerLogMaxSize` has it.
const LARGEST: u64 = 10 << 20;
/// Files kept per container, the current one included (`containerLogMaxFiles`).
pub(crate) const FILES: u32 = 5;
/// A longer line is cut.
const LONGEST_LINE: usize = 16 << 10;
/// A client that takes nothing for this long is let go; the container must not wait for it.
const CLIENT_PATIENCE_MS: u16 = 10_000;

/// Which of a container's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// The name in the log's lines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// The path of a log that was set aside; 0 is the current one.
pub(crate) fn rotated(log: &Path, number: u32) -> PathBuf {
    match number {
        0 => log.to_owned(),
        n => log.with_extension(format!("log.{n}")),
    }
}

/// A container's output: written to its log and shown to attached clients.
pub(super) struct Output {
    inner: Mutex<Inner>,
}

struct Inner {
    path: PathBuf,
    file: File,
    size: u64,
    clients: Vec<(Stream, File)>,
}

impl Output {
    pub(super) fn create(path: &Path) -> io::Result<Output> {
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Output { inner: Mutex::new(Inner { path: path.to_owned(), file, size, clients: Vec::new() }) })
    }

    /// Every method leaves the state usable when it panics or fails, so poisoning says nothing.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what comes from now on to a client too.
    pub(super) fn attach(&self, stdout: OwnedFd, stderr: OwnedFd) {
        self.lock().clients.extend([(Stream::Stdout, stdout.into()), (Stream::Stderr, stderr.into())]);
    }

    /// Closes the attached clients' streams.
    pub(super) fn close(&self) {
        self.lock().clients.clear();
    }

    /// Reads a stream until its last writer is gone. Errors of the log file go to the pod's own log.
    pub(super) fn pump(&self, mut source: impl Read, stream: Stream) {
        let mut chunk = vec![0; LONGEST_LINE];
        let mut line = Vec::new();
        loop {
            let read = match source.read(&mut chunk) {
                // A terminal whose other end is closed reads as EIO.
                Ok(0) => break,
                Err(e) if e.kind() != io::ErrorKind::Interrupted => break,
                Ok(read) => read,
                Err(_) => continue,
            };
            let bytes = chunk.get(..read).unwrap_or_default();
            let mut inner = self.lock();
            inner.show(stream, bytes);
            line.extend_from_slice(bytes);
            let logged = inner.log_lines(stream, &mut line);
            drop(inner);
            report(logged);
        }
        if !line.is_empty() {
            report(self.lock().log(stream, 'F', &line));
        }
    }
}

fn report(logged: io::Result<()>) {
    if let Err(error) = logged {
        complain(format_args!("writing a container's log: {error}"));
    }
}

impl Inner {
    fn show(&mut self, stream: Stream, bytes: &[u8]) {
        self.clients.retain_mut(|(wanted, client)| *wanted != stream || write_patiently(client, bytes).is_ok());
    }

    /// Logs the complete lines and removes them.
    fn log_lines(&mut self, stream: Stream, pending: &mut Vec<u8>) -> io::Result<()> {
        let mut start = 0;
        loop {
            let rest = pending.get(start..).unwrap_or_default();
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (tag, length, used) = match end {
                Some(end) if end <= LONGEST_LINE => ('F', end, end + 1),
                _ if rest.len() > LONGEST_LINE => ('P', LONGEST_LINE, LONGEST_LINE),
                _ => break,
            };
            let logged = self.log(stream, tag, rest.get(..length).unwrap_or_default());
            start += used;
            if logged.is_err() {
                pending.drain(..start);
                return logged;
            }
        }
        pending.drain(..start);
        Ok(())
    }

    fn log(&mut self, stream: Stream, tag: char, text: &[u8]) -> io::Result<()> {
        let mut line = format!("{:.9} {} {tag} ", Timestamp::now(), stream.name()).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        if self.size > 0 && self.size + line.len() as u64 > LARGEST {
            self.rotate()?;
        }
        self.file.write_all(&line)?;
        self.size += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (0..FILES - 1).rev() {
            match std::fs::rename(rotated(&self.path, number), rotated(&self.path, number + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Ok(()) | Err(_) => {}
            }
        }
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Writes to a client that must not hold up the container.
fn write_patiently(client: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = [PollFd::new(client.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut ready, PollTimeout::from(CLIENT_PATIENCE_MS))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // At most PIPE_BUF bytes, which a pipe that polls as writable takes without blocking.
        let piece = bytes.get(..bytes.len().min(4096)).unwrap_or_default();
        let written = client.write(piece)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(input: &[u8]) -> String {
        let directory = std::env::temp_dir().join(format!("isthmus-output-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("0.log");
        Output::create(&path).unwrap().pump(input, Stream::Stderr);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        text
    }

    #[test]
    fn lines_are_logged_in_the_cri_format() {
        let text = log_of(b"one\n\nlast without newline");
        let lines: Vec<&str> = text.lines().collect();
        let [one, empty, last] = lines.as_slice() else { panic!("{text}") };
        let (time, rest) = one.split_once(' ').unwrap();
        assert!(time.parse::<Timestamp>().is_ok() && time.len() == "2026-11-21T09:30:41.123456789Z".len(), "{time}");
        assert_eq!(rest, "stderr F one");
        assert!(empty.ends_with(" stderr F ") && last.ends_with("F last without newline"));
    }

    #[test]
    fn long_lines_are_cut_into_partial_ones() {
        let text = log_of(&[vec![b'x'; 2 * LONGEST_LINE + 1], b"\n".to_vec()].concat());
        let tags: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(2)).collect();
        assert_eq!(tags, ["P", "P", "F"]);
    }

    #[test]
    fn full_logs_are_set_aside_and_only_five_files_kept() {
        let directory = std::env::temp_dir().join(format!("isthmus-output-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("0.log");
        let output = Output::create(&path).unwrap();
        for n in 0..7 {
            output.lock().size = LARGEST;
            output.lock().log(Stream::Stdout, 'F', n.to_string().as_bytes()).unwrap();
        }
        let texts: Vec<String> = (0..FILES).map(|n| std::fs::read_to_string(rotated(&path, n)).unwrap()).collect();
        assert!(texts[0].ends_with("F 6\n") && texts[4].ends_with("F 2\n"), "{texts:?}");
        assert!(!rotated(&path, FILES).exists());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
