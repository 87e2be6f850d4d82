//! As whom a container's processes run: `securityContext`, as far as the user namespace allows.

use std::io;
use std::os::fd::BorrowedFd;

use nix::unistd::{Gid, Uid, fchown, setgid, setgroups, setuid};
use serde::{Deserialize, Serialize};

use crate::runtime::kernel;

/// Users, groups and rights of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// `None` stays with the pod's root.
    pub(crate) user: Option<u32>,
    /// A user that cannot be mapped: sockets are marked with its number.
    pub(crate) emulated: Option<u32>,
    pub(crate) group: Option<u32>,
    /// Supplementary groups, only those that can be mapped.
    pub(crate) groups: Vec<u32>,
    pub(crate) no_new_privileges: bool,
    /// Capability numbers that may be had; `None` for a privileged container.
    pub(crate) capabilities: Option<Vec<u8>>,
}

/// Capabilities by number, as in `linux/capability.h`.
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containerd leaves a container that asks for nothing. `SYS_ADMIN` is not among them, so a container cannot undo
/// its read-only mounts, and `SYS_PTRACE` is not, so it cannot look into the pod process.
const DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The numbers of the capabilities that remain after `securityContext.capabilities` is applied to the default ones.
pub(crate) fn capabilities(add: &[String], drop: &[String]) -> Result<Vec<u8>, String> {
    for name in add.iter().chain(drop) {
        let known = name == "ALL" || NAMES.contains(&bare(name));
        if !known {
            return Err(format!("unknown capability {name:?}"));
        }
    }
    let has = |list: &[String], name: &str| list.iter().any(|n| n == "ALL" || bare(n) == name);
    let explicitly_added = |name: &str| add.iter().any(|n| bare(n) == name);
    let kept = |name: &str| (DEFAULT.contains(&name) && !has(drop, name)) || explicitly_added(name) || has(add, name);
    Ok((0..).zip(NAMES).filter(|(_, name)| kept(name)).map(|(number, _)| number).collect())
}

fn bare(name: &str) -> &str {
    name.strip_prefix("CAP_").unwrap_or(name)
}

impl Identity {
    /// Gives up everything this identity must not have; the streams are handed to the new user first, so that
    /// `/dev/stdout` can be opened.
    pub(crate) fn assume(&self, streams: [BorrowedFd<'_>; 3]) -> io::Result<()> {
        if let Some(kept) = &self.capabilities {
            for number in (0..=u8::MAX).filter(|n| !kept.contains(n)) {
                if !kernel::drop_capability(number)? {
                    break;
                }
            }
        }
        if let Some(user) = self.user.filter(|user| *user != 0) {
            for stream in streams {
                // A stream that is not a pipe or terminal of ours keeps its owner.
                let _ = fchown(stream, Some(Uid::from_raw(user)), None);
            }
        }
        if !self.groups.is_empty() || self.user.is_some_and(|user| user != 0) {
            let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
            setgroups(&groups)?;
        }
        if let Some(group) = self.group {
            setgid(Gid::from_raw(group))?;
        }
        if let Some(user) = self.user {
            setuid(Uid::from_raw(user))?;
        }
        if self.no_new_privileges {
            nix::sys::prctl::set_no_new_privs()?;
        }
        Ok(())
    }
}

/// The IDs that a user namespace maps, as `/proc/self/uid_map` lists them.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdMap(Vec<(u32, u32)>);

impl IdMap {
    /// Reads `uid_map` or `gid_map` of this process.
    pub(crate) fn read(file: &str) -> io::Result<IdMap> {
        Ok(IdMap::parse(&std::fs::read_to_string(format!("/proc/self/{file}"))?))
    }

    fn parse(text: &str) -> IdMap {
        let range = |line: &str| {
            let mut fields = line.split_ascii_whitespace();
            let first = fields.next()?.parse().ok()?;
            Some((first, fields.nth(1)?.parse().ok()?))
        };
        IdMap(text.lines().filter_map(range).collect())
    }

    pub(crate) fn covers(&self, id: u32) -> bool {
        self.0.iter().any(|(first, count)| id.checked_sub(*first).is_some_and(|offset| offset < *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn capabilities_are_added_to_and_dropped_from_the_default_ones() {
        let net_admin = 12;
        assert!(!capabilities(&[], &[]).unwrap().contains(&net_admin));
        assert!(capabilities(&names(&["NET_ADMIN"]), &[]).unwrap().contains(&net_admin));
        assert_eq!(capabilities(&names(&["CAP_NET_ADMIN"]), &names(&["ALL"])).unwrap(), [net_admin]);
        assert_eq!(capabilities(&names(&["ALL"]), &[]).unwrap().len(), NAMES.len());
        assert!(capabilities(&names(&["FLY"]), &[]).is_err());
    }

    #[test]
    fn an_id_map_covers_its_ranges_only() {
        let rootless = IdMap::parse("         0       1001          1\n");
        assert!(rootless.covers(0) && !rootless.covers(1) && !rootless.covers(1001));
        assert!(IdMap::parse("0 0 4294967295").covers(65534));
    }
}
