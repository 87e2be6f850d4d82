//! Who runs a federation.

use nix::unistd::{Uid, geteuid};

/// The user and group that programs are started as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// Whoever runs the tests.
    pub fn current() -> Account {
        Account { uid: geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
    }

    /// A user without privileges, if the tests can run programs as one: the first account of a person on this
    /// machine, or a number that nobody has. `None` when the tests do not run as root.
    pub fn ordinary() -> Option<Account> {
        if !geteuid().is_root() {
            return None;
        }
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let person = accounts.lines().find_map(|line| {
            let mut fields = line.split(':').skip(2);
            let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (1000..60000).contains(&uid).then_some(Account { uid, gid })
        });
        Some(person.unwrap_or(Account { uid: 54321, gid: 54321 }))
    }

    pub(crate) fn is_current(self) -> bool {
        geteuid() == Uid::from_raw(self.uid)
    }
}
