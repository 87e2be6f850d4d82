use std::fs;
use std::io;
use std::path::PathBuf;

/// Why a network cannot be made or changed. One line each, with the remedy where there is one.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A system call or a file operation failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// This machine does not let an ordinary user make namespaces.
    #[error("{what}: user namespaces are not allowed here ({reason}); {remedy}")]
    NotAllowed {
        /// What was tried.
        what: &'static str,
        /// Which setting forbids it.
        reason: &'static str,
        /// The command that allows it.
        remedy: &'static str,
    },
    /// The kernel lacks a feature.
    #[error("{what}: this kernel has no {missing}; try: {remedy}")]
    Missing {
        /// What was tried.
        what: String,
        /// The feature.
        missing: &'static str,
        /// The command that may bring it.
        remedy: &'static str,
    },
    /// Another process has the lock.
    #[error("{} is held by another process", .0.display())]
    Held(PathBuf),
    /// No outer process lives.
    #[error("the federation in {} is not running", .0.display())]
    NotRunning(PathBuf),
    /// A process that was started said why it cannot run.
    #[error("{0}")]
    Refused(String),
    /// A process that was started ended without a word.
    #[error("the {process} process ended before it was ready; see {}", .log.display())]
    Silent {
        /// Which process.
        process: &'static str,
        /// Where it may have said more.
        log: PathBuf,
    },
}

impl NetworkError {
    pub(super) fn system(what: impl Into<String>, source: io::Error) -> NetworkError {
        NetworkError::System { what: what.into(), source }
    }

    /// Tells a kernel without nftables from other failures.
    pub(super) fn nftables(what: &str, source: io::Error) -> NetworkError {
        use nix::libc::{EAFNOSUPPORT, ENOENT, EOPNOTSUPP, EPROTONOSUPPORT};
        const REMEDY: &str = "sudo modprobe -a nf_tables nft_chain_nat nft_nat nft_masq nft_redir nft_ct nft_numgen";
        match source.raw_os_error() {
            Some(ENOENT | EOPNOTSUPP | EPROTONOSUPPORT | EAFNOSUPPORT) => {
                NetworkError::Missing { what: what.to_owned(), missing: "nf_tables with nat", remedy: REMEDY }
            }
            _ => NetworkError::system(what, source),
        }
    }

    /// Finds out which setting keeps an ordinary user from making namespaces.
    pub(super) fn namespaces(what: &'static str, source: io::Error) -> NetworkError {
        let set_to = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
        let (reason, remedy) = if set_to("/proc/sys/user/max_user_namespaces", "0") {
            ("user.max_user_namespaces is 0", "try: sudo sysctl -w user.max_user_namespaces=15000")
        } else if set_to("/proc/sys/kernel/unprivileged_userns_clone", "0") {
            ("kernel.unprivileged_userns_clone is 0", "try: sudo sysctl -w kernel.unprivileged_userns_clone=1")
        } else if set_to("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
            (
                "kernel.apparmor_restrict_unprivileged_userns is 1",
                "try: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            )
        } else if set_to("/proc/sys/user/max_net_namespaces", "0") {
            ("user.max_net_namespaces is 0", "try: sudo sysctl -w user.max_net_namespaces=15000")
        } else if source.raw_os_error() == Some(nix::libc::EPERM) {
            ("as in a container without privileges", "run the container with --privileged, or outside of a container")
        } else {
            return NetworkError::system(what, source);
        };
        NetworkError::NotAllowed { what, reason, remedy }
    }
}
