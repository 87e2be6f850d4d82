//! The last steps before a container's program: streams, session, environment, rights, and finding it in PATH.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, execve, setsid};

use super::Program;
use crate::runtime::kernel;
use crate::runtime::sandbox::protocol::{Failure, Reply, send};

pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the program, or says why not in the words of runc, which clients know.
/// `socket` leads to the pod process.
pub(super) fn become_program(
    program: &Program,
    tty: bool,
    streams: [OwnedFd; 3],
    socket: &UnixStream,
) -> Result<Infallible, Failure> {
    std::env::set_current_dir(&program.directory)
        .map_err(|e| Failure::new(format!("chdir to cwd ({:?}) set in config.json failed: {e}", program.directory)))?;
    wire_streams(tty, &streams).map_err(|e| Failure::new(format!("unable to set up the streams: {e}")))?;
    if let Some(user) = program.identity.emulated {
        hand_over_sockets(user, socket)?;
    }
    let [stdin, stdout, stderr] = &streams;
    let identity = program.identity.assume([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
    identity.map_err(|e| Failure::new(format!("unable to apply the security context: {e}")))?;
    let environment = complete_environment(program);
    let path = environment.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let name = program.argv.first().ok_or_else(|| Failure::new("no command specified"))?;
    let file = find(name, path)?;
    let failed = |errno: Errno| Failure::new(format!("exec: {name:?}: {}", errno.desc().to_lowercase()));
    let c_string = |text: &str| CString::new(text).map_err(|_| failed(Errno::EINVAL));
    let argv: Vec<CString> = program.argv.iter().map(|a| c_string(a)).collect::<Result<_, _>>()?;
    let environment: Vec<CString> =
        environment.iter().map(|(name, value)| c_string(&format!("{name}={value}"))).collect::<Result<_, _>>()?;
    execve(&c_string(&file.to_string_lossy())?, &argv, &environment).map_err(failed)
}

/// Lets the pod process make the sockets of this process, and mark them with a user's number. This process is still
/// root in its user namespace, so what it becomes may gain privileges as if there were no filter.
fn hand_over_sockets(user: u32, socket: &UnixStream) -> Result<(), Failure> {
    let failed =
        |e| Failure::new(format!("unable to stand in for user {user} (this takes Linux 5.14 and seccomp): {e}"));
    let listener = kernel::seccomp::defer_sockets().map_err(failed)?;
    send(socket, &Reply::Sockets, &[&listener]).map_err(failed)
}

fn wire_streams(tty: bool, [stdin, stdout, stderr]: &[OwnedFd; 3]) -> std::io::Result<()> {
    setsid()?;
    if tty {
        kernel::set_controlling_terminal(stdin)?;
    }
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
    kernel::restore_sigpipe()?;
    SigSet::empty().thread_set_mask()?;
    umask(Mode::from_bits_truncate(0o022));
    Ok(())
}

fn complete_environment(program: &Program) -> BTreeMap<String, String> {
    let mut environment = program.environment.clone();
    environment.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
    environment.entry("HOME".to_owned()).or_insert_with(|| home(program.identity.user.unwrap_or(0)));
    environment
}

/// The user's home according to the container's `/etc/passwd`; `/` as containerd has it when there is none.
fn home(user: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut found = entry.filter(|fields| fields.get(2).is_some_and(|id| id.parse() == Ok(user)));
    found.next().and_then(|fields| fields.get(5).map(|home| (*home).to_owned())).unwrap_or_else(|| "/".to_owned())
}

/// Finds a program as runc does: names with a slash are paths, others are looked up.
fn find(name: &str, path: &str) -> Result<PathBuf, Failure> {
    if name.contains('/') {
        return match std::fs::metadata(name) {
            Ok(found) if found.is_dir() => Err(Failure::new(format!("exec: {name:?}: is a directory"))),
            Ok(found) if found.permissions().mode() & 0o111 == 0 => {
                Err(Failure::new(format!("exec: {name:?}: permission denied")))
            }
            Ok(_) => Ok(name.into()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(Failure::new(format!("exec: {name:?}: stat {name}: no such file or directory")))
            }
            Err(e) => Err(Failure::new(format!("exec: {name:?}: stat {name}: {e}"))),
        };
    }
    let candidates = path.split(':').filter(|d| !d.is_empty()).map(|d| Path::new(d).join(name));
    let runnable = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let mut candidates = candidates.filter(runnable);
    candidates.next().ok_or_else(|| Failure::new(format!("exec: {name:?}: executable file not found in $PATH")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_and_missed_as_runc_words_it() {
        assert_eq!(find("sh", "/nonexistent:/bin").unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("/bin/sh", "").unwrap(), Path::new("/bin/sh"));
        let missing = find("no-such", "/bin").unwrap_err();
        assert_eq!(missing.message, "exec: \"no-such\": executable file not found in $PATH");
        let missing = find("/no/such", "/bin").unwrap_err();
        assert_eq!(missing.message, "exec: \"/no/such\": stat /no/such: no such file or directory");
        assert_eq!(find("/etc/passwd", "").unwrap_err().message, "exec: \"/etc/passwd\": permission denied");
    }
}
