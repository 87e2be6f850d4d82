//! A container's root: the host's programs, read-only, with fresh temporary directories, its own `/proc`, `/dev` and
//! network files, and the pod's volumes.
//!
//! There is no image to unpack and overlayfs cannot be stacked on a root with locked mounts, so the root is a tmpfs
//! with bind mounts. Where a directory must be writable, or a mount point made in it, a tmpfs takes its place and the
//! original's entries are bound into it: the directory is *mirrored*.

mod device;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::pivot_root;
use serde::{Deserialize, Serialize};

use self::tree::{Contents, Tree};
use crate::runtime::kernel::{self, Reach};

/// What a container's root is made of, beside the host's directories.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RootSpec {
    /// An existing directory on the host that the root is built on.
    pub(crate) staging: PathBuf,
    /// The federation's home: not seen in the container.
    pub(crate) hidden: PathBuf,
    /// The program that is seen as `/usr/local/bin/isthmus`.
    pub(crate) executable: PathBuf,
    /// Scripts for `/usr/local/bin`, by name.
    pub(crate) scripts: BTreeMap<String, String>,
    /// `readOnlyRootFilesystem`.
    pub(crate) read_only: bool,
    /// Leaves `/proc/sys` and its like writable.
    pub(crate) privileged: bool,
    /// In the order of their targets' depth.
    pub(crate) mounts: Vec<Mount>,
}

/// One mount of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// The absolute path in the container; missing directories on the way are made.
    pub(crate) target: PathBuf,
    pub(crate) source: Source,
    pub(crate) read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Source {
    /// A directory or file of the host, or of the pod's own directory.
    Path(PathBuf),
    /// An empty directory in memory.
    Empty,
}

/// A step of building a root that failed.
#[derive(Debug, thiserror::Error)]
#[error("error during container init: {what}: {cause}")]
pub(crate) struct RootError {
    what: String,
    cause: io::Error,
}

/// A `/sys` that shows the pod's own network. Where the host hides parts of its own, the kernel gives none to an
/// unprivileged user, and the container sees the host's.
fn mount_sys(tree: &mut Tree) -> io::Result<()> {
    let target = tree.ensure_directory(Path::new("/sys"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    match mount(Some("sysfs"), &target, Some("sysfs"), flags, None::<&str>) {
        Err(nix::errno::Errno::EPERM) => tree.adopt(Path::new("/sys"), Path::new("sys")),
        other => Ok(other?),
    }
}

/// Names the step that an error happened in.
fn step<T, E: Into<io::Error>>(result: Result<T, E>, what: impl fmt::Display) -> Result<T, RootError> {
    result.map_err(|e| RootError { what: what.to_string(), cause: e.into() })
}

impl RootSpec {
    /// Builds the root in a new mount namespace and makes it the process's root. `directory` is the working directory,
    /// which is made when it does not exist.
    pub(crate) fn enter(&self, directory: &str) -> Result<(), RootError> {
        step(unshare(CloneFlags::CLONE_NEWNS), "unsharing the mount namespace")?;
        let mut tree = step(Tree::new(&self.staging), "making the root")?;
        self.populate(&mut tree)?;
        step(self.hide_home(&tree), "hiding the federation's home")?;
        for mount in &self.mounts {
            step(mount.apply(&mut tree), format_args!("mounting to {:?}", mount.target))?;
        }
        // A directory that cannot be made is told by the chdir that follows, in the words clients know.
        let _ = tree.ensure_directory(Path::new(directory));
        if self.read_only {
            step(tree.seal(), "making the root read-only")?;
        }
        step(enter_root(tree.path()), "entering the root")
    }

    fn populate(&self, tree: &mut Tree) -> Result<(), RootError> {
        for entry in step(std::fs::read_dir("/"), "reading /")? {
            let entry = step(entry, "reading /")?;
            let name = entry.file_name();
            let kind = step(entry.file_type(), "reading /")?;
            let special = ["proc", "sys", "dev", "tmp", "run"].iter().any(|s| name == *s);
            let expected = kind.is_dir() || kind.is_symlink();
            if expected && !special {
                step(tree.adopt(&entry.path(), Path::new(&name)), format_args!("binding {:?}", entry.path()))?;
            }
        }
        step(self.mount_proc(tree), "mounting /proc")?;
        step(mount_sys(tree), "mounting /sys")?;
        step(device::populate(tree), "making /dev")?;
        step(tree.empty(Path::new("/tmp"), 0o1777), "mounting /tmp")?;
        step(tree.empty(Path::new("/run"), 0o755), "mounting /run")?;
        step(tree.ensure_directory(Path::new("/run/lock")), "making /run/lock")?;
        for (path, contents) in [("/etc", Contents::Copied), ("/root", Contents::Bound), ("/var", Contents::Bound)] {
            step(tree.mirror_if_present(Path::new(path), contents), format_args!("mirroring {path}"))?;
        }
        step(tree.empty(Path::new("/var/tmp"), 0o1777), "mounting /var/tmp")?;
        step(self.install_programs(tree), "installing programs")
    }

    fn mount_proc(&self, tree: &mut Tree) -> io::Result<()> {
        let target = tree.ensure_directory(Path::new("/proc"))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), &target, Some("proc"), flags, None::<&str>)?;
        if self.privileged {
            return Ok(());
        }
        // As containerd does it: a container that runs as the host's root must not set the host's kernel parameters.
        for name in ["bus", "fs", "irq", "sys", "sysrq-trigger"] {
            let path = target.join(name);
            if path.exists() {
                tree::bind(&path, &path)?;
                kernel::make_read_only(&path, Reach::One)?;
            }
        }
        Ok(())
    }

    fn install_programs(&self, tree: &mut Tree) -> io::Result<()> {
        let directory = Path::new("/usr/local/bin");
        let target = tree.ensure_directory(directory)?;
        tree.mirror_if_present(directory, Contents::Bound)?;
        let program = tree.ensure_file(&directory.join("isthmus"))?;
        tree::bind(&self.executable, &program)?;
        kernel::make_read_only(&program, Reach::One)?;
        for (name, script) in &self.scripts {
            let file = target.join(name);
            // The host's program of this name, if there is one, is bound here and must not be written to.
            match file.symlink_metadata() {
                Ok(found) if found.is_symlink() => std::fs::remove_file(&file)?,
                Ok(_) => umount2(&file, MntFlags::MNT_DETACH)?,
                Err(_) => {}
            }
            std::fs::write(&file, script)?;
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755))?;
        }
        Ok(())
    }

    fn hide_home(&self, tree: &Tree) -> io::Result<()> {
        let seen = tree.resolve(&self.hidden)?;
        if seen.is_dir() {
            mount(Some("tmpfs"), &seen, Some("tmpfs"), MsFlags::MS_RDONLY, Some("size=0,mode=0555"))?;
        }
        Ok(())
    }
}

impl Mount {
    fn apply(&self, tree: &mut Tree) -> io::Result<()> {
        let Source::Path(source) = &self.source else {
            return tree.empty(&self.target, 0o777);
        };
        let directory = std::fs::metadata(source)?.is_dir();
        let target = if directory { tree.ensure_directory(&self.target)? } else { tree.ensure_file(&self.target)? };
        tree.cover(source, &target)?;
        if self.read_only { kernel::make_read_only(&target, Reach::Tree) } else { Ok(()) }
    }
}

fn enter_root(root: &Path) -> io::Result<()> {
    mount(None::<&str>, root, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)?;
    std::env::set_current_dir(root)?;
    // The old root is stacked on the new one and taken away with all that is mounted below it.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}
