//! Files of a volume, replaced all at once.
//!
//! As kubelet does it: the files lie in a directory named by the time, `..data` is a symbolic link to it, and what
//! users see are links through `..data`. Renaming that one link changes every file in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

const DATA: &str = "..data";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

/// The files of a volume by their paths in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Payload(BTreeMap<String, Entry>);

impl Payload {
    /// Adds a file; the path must stay in the volume.
    pub(super) fn add(&mut self, path: &str, bytes: Vec<u8>, mode: i32) -> Result<(), String> {
        let mut components = Path::new(path).components();
        if path.is_empty() || path.starts_with("..") || !components.all(|c| matches!(c, Component::Normal(_))) {
            return Err(format!("invalid path {path:?}: must be relative, without '..'"));
        }
        let mode = u32::try_from(mode & 0o777).map_err(|e| e.to_string())?;
        self.0.insert(path.to_owned(), Entry { bytes, mode });
        Ok(())
    }

    /// Tells payloads apart.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for (path, entry) in &self.0 {
            for part in [path.as_bytes(), &entry.bytes] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
            digest.update(entry.mode.to_le_bytes());
        }
        digest.finalize().into()
    }

    /// Replaces the contents of a volume.
    pub(super) fn write(&self, directory: &Path, group: Option<u32>) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        open_to_all(directory)?;
        let old = std::fs::read_link(directory.join(DATA)).ok();
        let name = format!("..{}", Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f"));
        let new = directory.join(&name);
        std::fs::create_dir(&new)?;
        open_to_all(&new)?;
        for (path, entry) in &self.0 {
            let file = new.join(path);
            for parent in Path::new(path).ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
                std::fs::create_dir_all(new.join(parent))?;
                open_to_all(&new.join(parent))?;
            }
            // The mode given to open is cut by the umask; a secret must never be readable in between.
            let mut options = std::fs::File::options();
            let mut opened = options.write(true).create_new(true).mode(0o600).open(&file)?;
            opened.write_all(&entry.bytes)?;
            give_to_group(&file, group)?;
            let mode = if group.is_some() { entry.mode | 0o040 } else { entry.mode };
            opened.set_permissions(PermissionsExt::from_mode(mode))?;
        }
        let link = directory.join("..data_tmp");
        match std::fs::remove_file(&link) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        symlink(&name, &link)?;
        std::fs::rename(&link, directory.join(DATA))?;
        self.update_links(directory)?;
        match old {
            Some(old) if old.as_os_str() != name.as_str() => remove_tree(&directory.join(old)),
            _ => Ok(()),
        }
    }

    fn update_links(&self, directory: &Path) -> io::Result<()> {
        let first = |path: &String| Path::new(path).components().next().map(|c| c.as_os_str().to_owned());
        let wanted: BTreeSet<OsString> = self.0.keys().filter_map(first).collect();
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name();
            if !name.to_string_lossy().starts_with("..") && !wanted.contains(&name) {
                std::fs::remove_file(directory.join(name))?;
            }
        }
        for name in wanted {
            let link = directory.join(&name);
            if link.symlink_metadata().is_err() {
                symlink(Path::new(DATA).join(&name), link)?;
            }
        }
        Ok(())
    }
}

/// Whatever the umask is: who may read a file, its own mode tells.
fn open_to_all(directory: &Path) -> io::Result<()> {
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755))
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Applies `fsGroup`.
pub(super) fn give_to_group(path: &Path, group: Option<u32>) -> io::Result<()> {
    match group {
        Some(group) => std::os::unix::fs::chown(path, None, Some(group)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_all_at_once_and_vanish_with_their_keys() {
        let directory = std::env::temp_dir().join(format!("isthmus-payload-{}", uuid::Uuid::new_v4()));
        let payload = |files: &[(&str, &str)]| {
            let mut payload = Payload::default();
            for (path, text) in files {
                payload.add(path, text.as_bytes().to_vec(), 0o440).unwrap();
            }
            payload
        };
        let read = |path: &str| std::fs::read_to_string(directory.join(path)).ok();
        let first = payload(&[("a", "1"), ("deep/b", "2")]);
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
        first.write(&directory, None).unwrap();
        assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!((read("a").as_deref(), read("deep/b").as_deref()), (Some("1"), Some("2")));
        assert_eq!(std::fs::metadata(directory.join("a")).unwrap().permissions().mode() & 0o777, 0o440);
        let second = payload(&[("a", "3")]);
        assert_ne!(first.digest(), second.digest());
        second.write(&directory, None).unwrap();
        assert_eq!((read("a").as_deref(), read("deep/b")), (Some("3"), None));
        assert_eq!(std::fs::read_link(directory.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 3);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn paths_that_leave_the_volume_are_refused() {
        for path in ["", "../x", "/x", "a/../../b", "..data"] {
            assert!(Payload::default().add(path, Vec::new(), 0o644).is_err(), "{path}");
        }
    }
}
