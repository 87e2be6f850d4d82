//! A container's `/dev`: the harmless devices of the host and nothing else.

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::tree::{Tree, bind};

/// Devices and the host's pseudo-terminals, which `exec -t` uses too.
const BOUND: &[&str] = &["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts"];

const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
];

pub(super) fn populate(tree: &mut Tree) -> io::Result<()> {
    let directory = Path::new("/dev");
    tree.empty(directory, 0o755)?;
    for name in BOUND {
        let source = directory.join(name);
        // /dev/ptmx may be a symbolic link to pts/ptmx.
        let Ok(kind) = std::fs::symlink_metadata(&source) else { continue };
        let target = tree.path().join("dev").join(name);
        if kind.is_symlink() {
            symlink(std::fs::read_link(&source)?, &target)?;
            continue;
        }
        let target = if kind.is_dir() { tree.ensure_directory(&source)? } else { tree.ensure_file(&source)? };
        bind(&source, &target)?;
    }
    for (to, name) in LINKS {
        symlink(to, tree.path().join("dev").join(name))?;
    }
    tree.empty(Path::new("/dev/shm"), 0o1777)
}
