//! `pods/log`.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::ApiError;
use bytes::Bytes;
use http::{Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use super::{Body, Query, Subject};
use crate::runtime::sandbox::output::{FILES, rotated};
use crate::runtime::sandbox::protocol::Record;
use crate::runtime::sandbox::record::Paths;

/// Pieces of about this size are sent.
const CHUNK: usize = 16 << 10;
/// How often a followed log is looked at while nothing comes.
const POLL: Duration = Duration::from_millis(50);

/// What a client wants to see.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Options {
    follow: bool,
    timestamps: bool,
    tail: Option<u64>,
    since: Option<Timestamp>,
    limit: Option<u64>,
    /// `Stdout` or `Stderr`; both when absent.
    stream: Option<&'static str>,
}

impl Options {
    fn parse(query: &Query, now: Timestamp) -> Result<Options, ApiError> {
        let invalid = |message: String| ApiError::bad_request(message);
        let since = match (query.number("sinceSeconds")?, query.get("sinceTime")) {
            (Some(_), Some(_)) => {
                return Err(invalid("at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned()));
            }
            (Some(0), _) => return Err(invalid("sinceSeconds: Invalid value: 0: must be greater than 0".to_owned())),
            (Some(seconds), _) => {
                let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
                now.checked_sub(SignedDuration::from_secs(seconds)).ok().or(Some(Timestamp::MIN))
            }
            (None, Some(time)) => {
                Some(time.parse().map_err(|e| invalid(format!("sinceTime: Invalid value: {time:?}: {e}")))?)
            }
            (None, None) => None,
        };
        let stream = match query.get("stream") {
            None | Some("All") => None,
            Some("Stdout") => Some("stdout"),
            Some("Stderr") => Some("stderr"),
            Some(other) => {
                return Err(invalid(format!(
                    "stream: Unsupported value: {other:?}: supported values: \"All\", \"Stderr\", \"Stdout\""
                )));
            }
        };
        Ok(Options {
            follow: query.flag("follow"),
            timestamps: query.flag("timestamps"),
            tail: query.number("tailLines")?,
            since,
            limit: query.number("limitBytes")?,
            stream,
        })
    }

    /// What is shown of one line of the log; `None` when it is not meant.
    fn show(&self, line: &[u8]) -> Option<Vec<u8>> {
        let mut parts = line.strip_suffix(b"\n").unwrap_or(line).splitn(4, |byte| *byte == b' ');
        let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
        let text = parts.next().unwrap_or_default();
        if self.stream.is_some_and(|wanted| wanted.as_bytes() != stream) {
            return None;
        }
        if let Some(since) = self.since {
            let at: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
            if at < since {
                return None;
            }
        }
        let mut shown = Vec::with_capacity(line.len());
        if self.timestamps {
            shown.extend_from_slice(time);
            shown.push(b' ');
        }
        shown.extend_from_slice(text);
        if tag != b"P" {
            shown.push(b'\n');
        }
        Some(shown)
    }
}

pub(super) fn serve(subject: &Subject<'_>, query: &Query) -> Result<Response<Body>, ApiError> {
    let container = subject.container(query.get("container"))?;
    let options = Options::parse(query, Timestamp::now())?;
    let attempts = subject.records()?.remove(&container).unwrap_or_default();
    let record = choose(subject, &container, &attempts, query.flag("previous"))?;
    let directory = subject.directory();
    let path = Paths::new(&directory, &record.name, record.attempt).log();
    let files = open(&path, options.tail).map_err(ApiError::internal)?;
    let (sender, receiver) = mpsc::channel(4);
    let reader = Reader { path, directory, record: record.clone(), options, sender, sent: 0 };
    tokio::spawn(async move {
        if let Err(error) = reader.run(files).await {
            tracing::debug!(%error, "sending a log");
        }
    });
    let stream = futures::stream::unfold(receiver, |mut receiver: mpsc::Receiver<Bytes>| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Frame::data(piece)), receiver))
    });
    let body = BodyExt::boxed_unsync(StreamBody::new(stream));
    Response::builder().header(header::CONTENT_TYPE, "text/plain").body(body).map_err(ApiError::internal)
}

fn choose<'a>(
    subject: &Subject<'_>,
    container: &str,
    attempts: &'a [Record],
    previous: bool,
) -> Result<&'a Record, ApiError> {
    let pod = subject.name();
    if previous {
        let found = attempts.len().checked_sub(2).and_then(|index| attempts.get(index));
        let message = format!("previous terminated container {container:?} in pod {pod:?} not found");
        return found.ok_or_else(|| ApiError::bad_request(message));
    }
    attempts.last().ok_or_else(|| {
        let statuses = ["/status/containerStatuses", "/status/initContainerStatuses"];
        let mut all = statuses.iter().filter_map(|list| subject.pod.pointer(list)?.as_array()).flatten();
        let own = all.find(|status| status.get("name").and_then(|n| n.as_str()) == Some(container));
        let reason = own.and_then(|status| status.pointer("/state/waiting/reason")?.as_str());
        let reason = reason.unwrap_or("ContainerCreating");
        ApiError::bad_request(format!("container {container:?} in pod {pod:?} is waiting to start: {reason}"))
    })
}

/// Opens a log with what was set aside of it, oldest first, at its last `tail` lines.
fn open(path: &Path, tail: Option<u64>) -> io::Result<VecDeque<std::fs::File>> {
    let mut files = VecDeque::new();
    let mut missing = tail;
    for number in 0..FILES {
        let mut file = match std::fs::File::open(rotated(path, number)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let enough = match missing.as_mut() {
            Some(missing) => seek_lines(&mut file, missing)?,
            None => false,
        };
        files.push_front(file);
        if enough {
            break;
        }
    }
    Ok(files)
}

/// Moves to the start of the last `missing` lines; `true` when the file has that many, else counts down by those it has.
fn seek_lines(file: &mut std::fs::File, missing: &mut u64) -> io::Result<bool> {
    let end = file.metadata()?.len();
    let mut position = end;
    let mut block = vec![0; CHUNK];
    let mut found = 0;
    while position > 0 {
        let size = position.min(CHUNK as u64);
        position -= size;
        file.seek(SeekFrom::Start(position))?;
        let block = block.get_mut(..size as usize).unwrap_or_default();
        file.read_exact(block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = position + index as u64 + 1;
            // The newline at the very end closes the last line and starts none.
            if after < end {
                found += 1;
                if found == *missing {
                    file.seek(SeekFrom::Start(after))?;
                    return Ok(true);
                }
            } else if *missing == 0 {
                file.seek(SeekFrom::Start(end))?;
                return Ok(true);
            }
        }
    }
    file.seek(SeekFrom::Start(0))?;
    let lines = if end > 0 { found + 1 } else { 0 };
    *missing = missing.saturating_sub(lines);
    Ok(*missing == 0)
}

/// Sends a log to one client.
struct Reader {
    path: PathBuf,
    directory: PathBuf,
    record: Record,
    options: Options,
    sender: mpsc::Sender<Bytes>,
    sent: u64,
}

impl Reader {
    /// Reads all files and, when following, what comes until the container has ended.
    async fn run(mut self, files: VecDeque<std::fs::File>) -> io::Result<()> {
        let mut last = None;
        for file in files {
            let inode = file.metadata()?.ino();
            let mut reader = BufReader::new(tokio::fs::File::from_std(file));
            if !self.read_lines(&mut reader, &mut Vec::new()).await? {
                return Ok(());
            }
            last = Some((reader, inode));
        }
        let Some((mut reader, mut inode)) = last.filter(|_| self.options.follow) else { return Ok(()) };
        let mut partial = Vec::new();
        loop {
            // Asked before reading: when it has ended, everything is in the file.
            let ended = self.has_ended();
            let rotated = std::fs::metadata(&self.path).map(|found| found.ino()).ok().filter(|new| *new != inode);
            if !self.read_lines(&mut reader, &mut partial).await? {
                return Ok(());
            }
            match rotated {
                Some(new) => {
                    reader = BufReader::new(tokio::fs::File::open(&self.path).await?);
                    inode = new;
                }
                None if ended => return Ok(()),
                None => {
                    tokio::select! {
                        () = self.sender.closed() => return Ok(()),
                        () = tokio::time::sleep(POLL) => {}
                    }
                }
            }
        }
    }

    fn has_ended(&self) -> bool {
        let now = Paths::new(&self.directory, &self.record.name, self.record.attempt).load();
        // A record that is gone went with its pod.
        !matches!(now, Ok(Some(Record { ended: None, .. })))
    }

    /// Sends the lines up to the end of the file; `false` when the client has had enough. An unfinished line stays in
    /// `partial`.
    async fn read_lines(&mut self, reader: &mut BufReader<tokio::fs::File>, partial: &mut Vec<u8>) -> io::Result<bool> {
        let mut piece = Vec::new();
        loop {
            let read = reader.read_until(b'\n', partial).await?;
            if read > 0 && partial.ends_with(b"\n") {
                piece.extend(self.options.show(partial).unwrap_or_default());
                partial.clear();
            }
            let due = piece.len() >= CHUNK || (read == 0 && !piece.is_empty());
            if due && !self.send(std::mem::take(&mut piece)).await {
                return Ok(false);
            }
            if read == 0 {
                return Ok(true);
            }
        }
    }

    async fn send(&mut self, mut piece: Vec<u8>) -> bool {
        let left = self.options.limit.map_or(u64::MAX, |limit| limit - self.sent);
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        self.sent += piece.len() as u64;
        self.sender.send(piece.into()).await.is_ok() && self.options.limit.is_none_or(|limit| self.sent < limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"2026-11-21T09:30:41.123456789Z stderr F some text\n";

    #[test]
    fn lines_are_shown_as_asked() {
        let show = |options: Options, line: &[u8]| options.show(line).map(|shown| String::from_utf8(shown).unwrap());
        assert_eq!(show(Options::default(), LINE).unwrap(), "some text\n");
        let stamped = Options { timestamps: true, ..Options::default() };
        assert_eq!(show(stamped, LINE).unwrap(), "2026-11-21T09:30:41.123456789Z some text\n");
        assert_eq!(show(Options { stream: Some("stdout"), ..Options::default() }, LINE), None);
        let later = "2026-11-21T09:31:00Z".parse().ok();
        assert_eq!(show(Options { since: later, ..Options::default() }, LINE), None);
        assert_eq!(show(Options::default(), b"2026-11-21T09:30:41Z stdout P half").unwrap(), "half");
    }

    #[test]
    fn the_last_lines_are_found_across_files() {
        let directory = std::env::temp_dir().join(format!("isthmus-log-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("0.log");
        std::fs::write(rotated(&path, 1), "1\n2\n3\n").unwrap();
        std::fs::write(&path, "4\n5\n").unwrap();
        let tail = |lines| {
            let mut text = String::new();
            for mut file in open(&path, lines).unwrap() {
                file.read_to_string(&mut text).unwrap();
            }
            text
        };
        assert_eq!(tail(None), "1\n2\n3\n4\n5\n");
        assert_eq!(tail(Some(0)), "");
        assert_eq!(tail(Some(1)), "5\n");
        assert_eq!(tail(Some(2)), "4\n5\n");
        assert_eq!(tail(Some(3)), "3\n4\n5\n");
        assert_eq!(tail(Some(9)), "1\n2\n3\n4\n5\n");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
