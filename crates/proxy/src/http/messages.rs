//! How many messages of gRPC a body has.

/// What goes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Counts the messages of a body as it comes.
#[derive(Debug, Default)]
pub(super) struct Messages {
    begun: u64,
    /// What of a prefix has come.
    prefix: [u8; PREFIX],
    known: usize,
    /// How much of a message is still to come, in bytes.
    left: usize,
}

impl Messages {
    /// How many have begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            while let Some((first, rest)) = bytes.split_first().filter(|_| self.left == 0) {
                bytes = rest;
                if let Some(place) = self.prefix.get_mut(self.known) {
                    *place = *first;
                }
                self.known += 1;
                if self.known == PREFIX {
                    let [_, length @ ..] = self.prefix;
                    self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                    self.known = 0;
                    self.begun += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let body = b"\x00\x00\x00\x00\x03abc\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01x";
        for size in 1..=body.len() {
            let mut messages = Messages::default();
            body.chunks(size).for_each(|piece| messages.follow(piece));
            assert_eq!(messages.begun(), 3, "{size}");
        }
    }
}
