//! The directory tree that becomes a container's root while it is built.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::runtime::kernel::{self, Reach};

/// Symbolic links followed on one path before it counts as a loop, as in Linux.
const MOST_LINKS: usize = 40;
/// Files up to this size are copied when a directory's contents are; larger ones are bound.
const MOST_COPIED: u64 = 256 << 10;

/// How a mirrored directory gets the original's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// Read-only bind mounts.
    Bound,
    /// Small files are copied and so can be written: cheaper than mounts for a directory of many small files.
    Copied,
}

/// A root under construction. Paths given to its methods are those that the container will see.
pub(super) struct Tree {
    root: PathBuf,
    /// Directories, as paths on the host, that lie on a tmpfs of this tree: entries can be made in them.
    own: BTreeSet<PathBuf>,
    /// The file systems among them.
    mounts: Vec<PathBuf>,
}

impl Tree {
    /// Mounts an empty root at `staging`.
    pub(super) fn new(staging: &Path) -> io::Result<Tree> {
        let root = staging.canonicalize()?;
        mount_tmpfs(&root, 0o755)?;
        // Otherwise binding a host directory that contains the staging directory would copy the root into itself.
        mount(None::<&str>, &root, None::<&str>, MsFlags::MS_UNBINDABLE, None::<&str>)?;
        Ok(Tree { own: BTreeSet::from([root.clone()]), mounts: vec![root.clone()], root })
    }

    /// The root's path on the host.
    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// Shows one of the host's top-level entries, read-only.
    pub(super) fn adopt(&mut self, source: &Path, name: &Path) -> io::Result<()> {
        let target = self.root.join(name);
        if source.is_symlink() {
            return symlink(std::fs::read_link(source)?, target);
        }
        std::fs::create_dir(&target)?;
        bind(source, &target)?;
        kernel::make_read_only(&target, Reach::Tree)
    }

    /// Mounts an empty, writable directory.
    pub(super) fn empty(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        let target = self.ensure_directory(path)?;
        mount_tmpfs(&target, mode)?;
        self.own_mount(target);
        Ok(())
    }

    /// Mounts something from elsewhere, which this tree does not make read-only, even in the place of what is its own.
    pub(super) fn cover(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        bind(source, target)?;
        self.own.retain(|path| !path.starts_with(target));
        self.mounts.retain(|mount| !mount.starts_with(target));
        Ok(())
    }

    fn own_mount(&mut self, target: PathBuf) {
        self.own.retain(|path| !path.starts_with(&target) || *path == target);
        self.own.insert(target.clone());
        self.mounts.push(target);
    }

    /// Where a path of the container lies on the host, following symbolic links inside the tree. What does not exist
    /// resolves to where it would be made.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut pending: Vec<OsString> = reversed(path);
        let mut resolved = self.root.clone();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                if resolved != self.root {
                    resolved.pop();
                }
                continue;
            }
            let next = resolved.join(&name);
            if !next.is_symlink() {
                resolved = next;
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
            }
            let link = std::fs::read_link(&next)?;
            if link.is_absolute() {
                resolved.clone_from(&self.root);
            }
            pending.extend(reversed(&link));
        }
        Ok(resolved)
    }

    /// Makes sure that a directory exists and gives its path on the host.
    pub(super) fn ensure_directory(&mut self, path: &Path) -> io::Result<PathBuf> {
        let target = self.resolve(path)?;
        if target.is_dir() {
            return Ok(target);
        }
        let inside = target.strip_prefix(&self.root).map_err(io::Error::other)?.to_owned();
        let mut current = self.root.clone();
        for name in inside.components() {
            let next = current.join(name);
            if !next.is_dir() {
                self.make_writable(&current)?;
                std::fs::create_dir(&next)?;
                std::fs::set_permissions(&next, Permissions::from_mode(0o755))?;
                if self.own.contains(&current) {
                    self.own.insert(next.clone());
                }
            }
            current = next;
        }
        Ok(target)
    }

    /// Makes sure that something which is not a directory exists and gives its path on the host.
    pub(super) fn ensure_file(&mut self, path: &Path) -> io::Result<PathBuf> {
        let target = self.resolve(path)?;
        if target.symlink_metadata().is_ok() {
            return Ok(target);
        }
        let parent = target.parent().unwrap_or(&self.root).to_owned();
        let seen = Path::new("/").join(parent.strip_prefix(&self.root).map_err(io::Error::other)?);
        self.ensure_directory(&seen)?;
        self.make_writable(&parent)?;
        File::create(&target)?;
        Ok(target)
    }

    /// Mirrors a directory unless entries can be made in it already, as in a volume.
    fn make_writable(&mut self, directory: &Path) -> io::Result<()> {
        let read_only = nix::sys::statvfs::statvfs(directory)?.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY);
        if self.own.contains(directory) || !read_only {
            return Ok(());
        }
        self.mirror(directory, Contents::Bound)
    }

    /// Puts a tmpfs with the same entries in the place of a directory, if there is such a directory.
    pub(super) fn mirror_if_present(&mut self, path: &Path, contents: Contents) -> io::Result<()> {
        let directory = self.resolve(path)?;
        if directory.is_dir() && !self.own.contains(&directory) { self.mirror(&directory, contents) } else { Ok(()) }
    }

    fn mirror(&mut self, directory: &Path, contents: Contents) -> io::Result<()> {
        let opened = File::open(directory);
        let mode = directory.metadata()?.mode() & 0o7777;
        mount_tmpfs(directory, mode)?;
        self.own_mount(directory.to_owned());
        let opened = match opened {
            Ok(opened) => opened,
            // Another user's directory, such as root's home, shows nothing.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            Err(e) => return Err(e),
        };
        // The path through the descriptor leads below the tmpfs that now covers the directory.
        let original = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        for entry in std::fs::read_dir(&original)? {
            let entry = entry?;
            let (source, target) = (original.join(entry.file_name()), directory.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                symlink(std::fs::read_link(&source)?, &target)?;
            } else if kind.is_dir() {
                std::fs::create_dir(&target)?;
                bind(&source, &target)?;
            } else if !(contents == Contents::Copied && kind.is_file() && copy(&source, &target)?) {
                File::create(&target)?;
                bind(&source, &target)?;
            }
        }
        Ok(())
    }

    /// Makes every file system of the tree read-only but `/dev` and what is mounted from elsewhere.
    pub(super) fn seal(&self) -> io::Result<()> {
        let devices = self.root.join("dev");
        for mount in self.mounts.iter().filter(|m| !m.starts_with(&devices)) {
            kernel::make_read_only(mount, Reach::One)?;
        }
        Ok(())
    }
}

/// The names of a path, last first, without its root.
fn reversed(path: &Path) -> Vec<OsString> {
    let named = |c: Component<'_>| match c {
        Component::Normal(_) | Component::ParentDir => Some(c.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    let mut names: Vec<OsString> = path.components().filter_map(named).collect();
    names.reverse();
    names
}

/// Copies a small file that can be read; `false` when it should be bound.
fn copy(source: &Path, target: &Path) -> io::Result<bool> {
    if source.metadata()?.len() > MOST_COPIED || File::open(source).is_err() {
        return Ok(false);
    }
    std::fs::copy(source, target)?;
    Ok(true)
}

/// Mounts a directory or file with everything below it at another path.
pub(super) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    Ok(())
}

fn mount_tmpfs(target: &Path, mode: u32) -> io::Result<()> {
    let options = format!("mode={mode:o}");
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::MS_NOSUID, Some(options.as_str()))?;
    Ok(())
}
