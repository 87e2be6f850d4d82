//! The file: a redb database with one row per object.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::GroupResource;
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::{Key, Object, Revision, SharedMemory, StoreError, draft};

/// Group, resource, namespace, name.
type RowKey = (&'static str, &'static str, &'static str, &'static str);
/// The revision of the write, the JSON with that revision in it.
type Row = (u64, &'static [u8]);

const OBJECTS: TableDefinition<RowKey, Row> = TableDefinition::new("objects");
/// [`REVISION`] and [`FORMAT`].
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The revision of the newest write, deletes included.
const REVISION: &str = "revision";
const FORMAT: &str = "format";
/// The meaning of the tables; a change of it needs a new number.
const FORMAT_VERSION: u64 = 1;

const FILE: &str = "store.redb";
/// Held locked while the store is open, so that one process at a time creates, opens or reopens the file.
const LOCK: &str = "lock";

/// Objects are never read from disk after loading; what a commit needs is the tree above them. Below a megabyte writing
/// gets slower, above it only memory grows.
const CACHE_BYTES: usize = 1 << 20;

/// A killed process may hold its locks for a moment after its death is known.
const BUSY_RETRIES: u32 = 50;
const BUSY_DELAY: Duration = Duration::from_millis(20);

/// Compaction rewrites the file at opening when it is at least so large, and so many times its contents.
const COMPACT_BYTES: u64 = 4 << 20;
const COMPACT_RATIO: u64 = 4;

/// What a batch of writes leaves under each key that it touches; `None` for nothing.
pub(super) type States = BTreeMap<Key, Option<Arc<Object>>>;

/// What the file held when it was opened.
pub(super) struct Contents {
    pub(super) revision: Revision,
    pub(super) objects: Vec<Object>,
}

/// The open file. It belongs to the writer thread.
pub(super) struct Disk {
    file: PathBuf,
    /// `None` after an error: redb refuses all work until its file is opened anew.
    database: Option<Database>,
    /// The transaction whose fate the last error left open: its revision and keys.
    doubt: Option<(Revision, Vec<Key>)>,
    _lock: File,
}

impl Disk {
    /// Opens the store in `directory`, which is created if need be, readable for the user alone: it holds Secrets.
    pub(super) fn open(directory: &Path) -> Result<(Disk, Contents), StoreError> {
        let file = directory.join(FILE);
        let mut retries = BUSY_RETRIES;
        loop {
            match open_once(directory, &file) {
                Err(Failure::Busy) if retries > 0 => retries -= 1,
                Err(failure) => return Err(StoreError(failure.explain(&file))),
                Ok((lock, database, contents)) => {
                    let disk = Disk { file, database: Some(database), doubt: None, _lock: lock };
                    return Ok((disk, contents));
                }
            }
            std::thread::sleep(BUSY_DELAY);
        }
    }

    /// Makes `states` durable as of `revision`. After an error none of it is on disk, or it is undone before the next
    /// commit; `memory` is the state to return to.
    pub(super) fn commit(&mut self, revision: Revision, states: &States, memory: &SharedMemory) -> Result<(), String> {
        let outcome = self.database(memory).and_then(|database| caught(|| write(database, revision, states)));
        let Err(failure) = outcome else { return Ok(()) };
        if let Some(database) = self.database.take() {
            self.doubt = Some((revision, states.keys().cloned().collect()));
            close(database);
            if let Err(failure) = self.database(memory) {
                tracing::warn!("the store stays closed until the next write: {}", failure.explain(&self.file));
            }
        }
        Err(failure.explain(&self.file))
    }

    /// The database, opened anew after an error.
    fn database(&mut self, memory: &SharedMemory) -> Result<&Database, Failure> {
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                let database = caught(|| open_database(&self.file))?;
                self.settle(&database, memory)?;
                tracing::info!(file = %self.file.display(), "the store's file is open again after an error");
                database
            }
        };
        Ok(self.database.insert(database))
    }

    /// Takes back the failed transaction, should it have reached the disk all the same: its writers were refused.
    fn settle(&mut self, database: &Database, memory: &SharedMemory) -> Result<(), Failure> {
        let stored = caught(|| stored_revision(database))?;
        let (current, states) = {
            let memory = memory.read();
            let keys = self.doubt.iter().flat_map(|(_, keys)| keys);
            (memory.revision(), keys.map(|key| (key.clone(), memory.get(key))).collect::<States>())
        };
        if stored != current {
            if self.doubt.as_ref().is_none_or(|(attempted, _)| stored != *attempted) {
                return Err(Failure::Damaged(format!(
                    "it is at revision {} where {} was committed",
                    stored.0, current.0
                )));
            }
            caught(|| write(database, current, &states))?;
        }
        self.doubt = None;
        Ok(())
    }
}

#[derive(Debug)]
enum Failure {
    Busy,
    Damaged(String),
    Refused(String),
}

impl Failure {
    fn explain(&self, file: &Path) -> String {
        let file = file.display();
        match self {
            Failure::Busy => format!("{file} is in use by another process; stop that cluster first"),
            Failure::Damaged(cause) => {
                format!(
                    "{file} is damaged ({cause}); restore it from a copy, or delete it to start with an empty cluster"
                )
            }
            Failure::Refused(cause) => format!("{file}: {cause}"),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        let error = error.into();
        match &error {
            redb::Error::DatabaseAlreadyOpen => Failure::Busy,
            redb::Error::Io(cause) if is_full(cause.kind()) => {
                Failure::Refused(format!("{cause}; writing resumes when there is space again"))
            }
            redb::Error::Io(cause)
                if !matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Failure::Refused(cause.to_string())
            }
            redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::ValueTooLarge(_) => {
                Failure::Refused(error.to_string())
            }
            _ => Failure::Damaged(error.to_string()),
        }
    }
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

fn io_error(error: io::Error) -> Failure {
    Failure::from(StorageError::Io(error))
}

/// Runs redb: a damaged file may trip one of its assertions, which must not take the writer thread down.
fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(Failure::Damaged(text.unwrap_or("the database gave up").to_owned()))
    })
}

fn close(database: Database) {
    if let Err(failure) = caught(|| {
        drop(database);
        Ok(())
    }) {
        tracing::warn!(?failure, "closing the store's file failed");
    }
}

fn open_once(directory: &Path, file: &Path) -> Result<(File, Database, Contents), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io_error)?;
    let lock = lock(directory)?;
    if !file.try_exists().map_err(io_error)? {
        caught(|| create(directory, file))?;
    }
    let database = caught(|| open_database(file))?;
    let contents = caught(|| load(&database))?;
    let database = compact(database, &contents, file)?;
    Ok((lock, database, contents))
}

fn lock(directory: &Path) -> Result<File, Failure> {
    let lock = private_file().create(true).truncate(false).open(directory.join(LOCK)).map_err(io_error)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Failure::Busy),
        Err(TryLockError::Error(error)) => Err(io_error(error)),
    }
}

/// Creates an empty store under another name first, so that `file` is complete whenever it exists.
fn create(directory: &Path, file: &Path) -> Result<(), Failure> {
    let new = file.with_extension("new");
    let handle = private_file().create(true).truncate(true).open(&new).map_err(io_error)?;
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_file(handle)?;
    let transaction = database.begin_write()?;
    transaction.open_table(OBJECTS)?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT, FORMAT_VERSION)?;
        meta.insert(REVISION, 1)?;
    }
    transaction.commit()?;
    drop(database);
    fs::rename(&new, file).map_err(io_error)?;
    // The names of the file and of its directory must outlive a power failure too.
    for directory in directory.ancestors().take(2).filter(|path| !path.as_os_str().is_empty()) {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error)?;
    }
    Ok(())
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Opens the file and verifies every checksum in it.
fn open_database(file: &Path) -> Result<Database, Failure> {
    let mut database = Database::builder().set_cache_size(CACHE_BYTES).open(file)?;
    if !database.check_integrity()? {
        tracing::warn!(file = %file.display(), "the store's file was repaired");
    }
    Ok(database)
}

fn stored_revision(database: &Database) -> Result<Revision, Failure> {
    let meta = database.begin_read()?.open_table(META)?;
    let number = |name| Ok::<_, Failure>(meta.get(name)?.map(|number| number.value()));
    match number(FORMAT)? {
        Some(FORMAT_VERSION) => {}
        Some(other) => {
            return Err(Failure::Refused(format!(
                "it has format {other}, this program reads format {FORMAT_VERSION}; use the program that wrote it"
            )));
        }
        None => return Err(Failure::Damaged("its format is not recorded".to_owned())),
    }
    number(REVISION)?.map(Revision).ok_or_else(|| Failure::Damaged("its revision is not recorded".to_owned()))
}

fn load(database: &Database) -> Result<Contents, Failure> {
    let revision = stored_revision(database)?;
    let table = database.begin_read()?.open_table(OBJECTS)?;
    let mut objects = Vec::new();
    let mut resource = GroupResource::new("", "");
    for row in table.iter()? {
        let (key, value) = row?;
        let (group, plural, namespace, name) = key.value();
        if (&*resource.group, &*resource.resource) != (group, plural) {
            resource = GroupResource::new(group, plural);
        }
        let key = Key { resource: resource.clone(), namespace: namespace.to_owned(), name: name.to_owned() };
        let (stamp, json) = value.value();
        let labels = match draft::decode(json) {
            Ok((stamped, labels)) if stamped == Revision(stamp) && stamped <= revision => labels,
            Ok(_) => return Err(Failure::Damaged(format!("the revision of {key:?} is not the one it was written at"))),
            Err(error) => return Err(Failure::Damaged(format!("{key:?}: {error}"))),
        };
        objects.push(Object { key, revision: Revision(stamp), json: Bytes::copy_from_slice(json), labels });
    }
    Ok(Contents { revision, objects })
}

/// Gives disk space back if that is worth the rewriting. A failure costs nothing but the space.
fn compact(mut database: Database, contents: &Contents, file: &Path) -> Result<Database, Failure> {
    let live: u64 = contents.objects.iter().map(|object| object.json.len() as u64).sum();
    let size = fs::metadata(file).map_err(io_error)?.len();
    if size < COMPACT_BYTES || size / COMPACT_RATIO < live {
        return Ok(database);
    }
    match caught(|| Ok(database.compact()?)) {
        Ok(_) => Ok(database),
        Err(failure) => {
            tracing::warn!("compaction failed: {}", failure.explain(file));
            close(database);
            caught(|| open_database(file))
        }
    }
}

fn write(database: &Database, revision: Revision, states: &States) -> Result<(), Failure> {
    let transaction = database.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for (key, state) in states {
            let row = (&*key.resource.group, &*key.resource.resource, &*key.namespace, &*key.name);
            match state {
                Some(object) => objects.insert(row, (object.revision.0, &*object.json))?,
                None => objects.remove(row)?,
            };
        }
        transaction.open_table(META)?.insert(REVISION, revision.0)?;
    }
    // redb's default durability: commit returns after fsync.
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;

    fn key(name: &str) -> Key {
        Key { resource: GroupResource::new("", "configmaps"), namespace: String::new(), name: name.to_owned() }
    }

    fn state(name: &str, revision: u64) -> States {
        let json = format!(r#"{{"metadata":{{"resourceVersion":"{revision}"}}}}"#).into();
        let object = Object { key: key(name), revision: Revision(revision), json, labels: BTreeMap::new() };
        States::from([(key(name), Some(Arc::new(object)))])
    }

    /// A store whose last transaction, of object `a` at revision 2, reached the disk although its commit failed.
    fn after_a_failed_commit(directory: &Path) -> (Disk, SharedMemory) {
        let (mut disk, contents) = Disk::open(directory).unwrap();
        let memory = SharedMemory::new(Memory::new(contents.revision, contents.objects));
        let database = disk.database.take().unwrap();
        write(&database, Revision(2), &state("a", 2)).unwrap();
        (disk, memory)
    }

    #[test]
    fn a_failed_commit_that_reached_the_disk_is_taken_back() {
        let directory = tempfile::TempDir::new().unwrap();
        let (mut disk, memory) = after_a_failed_commit(directory.path());
        disk.doubt = Some((Revision(2), vec![key("a")]));
        disk.commit(Revision(2), &state("b", 2), &memory).unwrap();
        drop(disk);
        let (_, contents) = Disk::open(directory.path()).unwrap();
        let names: Vec<_> = contents.objects.iter().map(|object| object.key.name.as_str()).collect();
        assert_eq!((contents.revision, names), (Revision(2), vec!["b"]));
    }

    #[test]
    fn a_file_that_others_changed_is_not_written() {
        let directory = tempfile::TempDir::new().unwrap();
        let (mut disk, memory) = after_a_failed_commit(directory.path());
        let error = disk.commit(Revision(2), &state("b", 2), &memory).unwrap_err();
        assert!(error.contains("it is at revision 2 where 1 was committed"), "{error}");
    }
}
