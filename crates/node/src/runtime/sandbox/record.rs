//! A pod's containers on disk: `containers/NAME/ATTEMPT.json` and `ATTEMPT.log`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::output::{FILES, rotated};
use super::protocol::Record;

/// Attempts kept per container: the current one and the one before it, for `kubectl logs -p`.
const KEPT: u32 = 2;

/// Where one attempt's files are.
pub(crate) struct Paths {
    directory: PathBuf,
    attempt: u32,
}

impl Paths {
    /// `pod` is the pod's directory.
    pub(crate) fn new(pod: &Path, container: &str, attempt: u32) -> Paths {
        Paths { directory: pod.join("containers").join(container), attempt }
    }

    /// The current log file.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.attempt))
    }

    /// Makes the directory and removes attempts that are no longer kept.
    pub(crate) fn create(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let Some(old) = self.attempt.checked_sub(KEPT) else { return Ok(()) };
        let old = Paths { directory: self.directory.clone(), attempt: old };
        let logs = (0..FILES).map(|n| rotated(&old.log(), n));
        for file in logs.chain([old.json(), old.message()]) {
            match std::fs::remove_file(file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn json(&self) -> PathBuf {
        self.directory.join(format!("{}.json", self.attempt))
    }

    /// The file that is mounted at the container's `terminationMessagePath`.
    pub(crate) fn message(&self) -> PathBuf {
        self.directory.join(format!("{}.message", self.attempt))
    }

    /// The record, if it is still kept.
    pub(crate) fn load(&self) -> io::Result<Option<Record>> {
        match std::fs::read(self.json()) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes the record whole or not at all. Not synced: a crash of the machine ends the pod anyway.
    pub(crate) fn save(&self, record: &Record) -> io::Result<()> {
        let new = self.json().with_extension("json.new");
        std::fs::write(&new, serde_json::to_vec(record)?)?;
        std::fs::rename(new, self.json())
    }
}

/// A pod's records by container, oldest attempt first.
pub(crate) type Records = BTreeMap<String, Vec<Record>>;

/// Reads what is on disk of a pod's containers.
pub(crate) fn load(pod: &Path) -> io::Result<Records> {
    let mut records = Records::new();
    let Some(directories) = read_directory(&pod.join("containers"))? else { return Ok(records) };
    for directory in directories {
        for file in read_directory(&directory?.path())?.into_iter().flatten() {
            let path = file?.path();
            if path.extension().is_some_and(|e| e == "json") {
                let record: Record = serde_json::from_slice(&std::fs::read(&path)?)?;
                records.entry(record.name.clone()).or_default().push(record);
            }
        }
    }
    for attempts in records.values_mut() {
        attempts.sort_by_key(|record| record.attempt);
    }
    Ok(records)
}

fn read_directory(path: &Path) -> io::Result<Option<std::fs::ReadDir>> {
    match std::fs::read_dir(path) {
        Ok(entries) => Ok(Some(entries)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
