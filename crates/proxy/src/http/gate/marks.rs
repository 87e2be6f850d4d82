//! What is known of single requests of a connection before hyper has read them.

use std::sync::OnceLock;

use super::Malformed;
use crate::http::reply::Reply;

/// Which requests of a connection are not like others, the first request being 1.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// The one that was stopped, and why.
    stopped: OnceLock<(u32, Malformed)>,
    /// The one that asks for another protocol.
    changing: OnceLock<u32>,
    /// Whether that has come.
    changed: OnceLock<bool>,
}

impl Marks {
    /// The answer to the request of this number, if it was stopped.
    pub(crate) fn reply(&self, number: u32) -> Option<Reply> {
        self.stopped.get().filter(|(stopped, _)| *stopped == number).map(|(_, why)| why.reply())
    }

    /// Whether the request of this number asks for another protocol.
    pub(crate) fn asks_to_change(&self, number: u32) -> bool {
        self.changing.get() == Some(&number)
    }

    /// Whether the other protocol comes is decided. Without it, the connection has to end.
    pub(crate) fn decide(&self, changed: bool) {
        // The first answer is the one that counts.
        let _ = self.changed.set(changed);
    }

    pub(super) fn has_changed(&self) -> Option<bool> {
        self.changed.get().copied()
    }

    pub(super) fn ask_to_change(&self, number: u32) {
        // Nothing passes behind such a request, so there is only one.
        let _ = self.changing.set(number);
    }

    pub(super) fn stop(&self, number: u32, why: Malformed) {
        // Nothing follows one that was stopped.
        let _ = self.stopped.set((number, why));
    }

    #[cfg(test)]
    pub(super) fn why_stopped(&self) -> Option<Malformed> {
        self.stopped.get().map(|(_, why)| *why)
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn only_the_request_of_its_number_is_refused() {
        let marks = Marks::default();
        marks.stop(2, Malformed::Version);
        assert!(marks.reply(1).is_none());
        assert_eq!(marks.reply(2).map(|reply| reply.status), Some(StatusCode::UPGRADE_REQUIRED));
    }
}
