//! The heads of frames in a stream of bytes (RFC 9113, 4.1).

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
const PADDED: u8 = 8;

/// The length of a head.
const HEAD: usize = 9;
/// The length of what every connection of a client begins with.
const PREFACE: u32 = 24;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    length: u32,
    /// How much of it is padding.
    padding: u32,
}

impl Head {
    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.length == self.padding
    }
}

/// Finds the heads of frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// What comes before the next head, in bytes.
    left: u32,
    /// A head that is not whole yet, with the length of its padding behind it.
    begun: [u8; HEAD + 1],
    have: usize,
}

impl Frames {
    /// The frames of a client.
    pub(super) fn behind_preface() -> Frames {
        Frames { left: PREFACE, ..Frames::default() }
    }

    /// Tells of the heads that end in `bytes`, until `tell` fails.
    pub(super) fn follow<E>(&mut self, bytes: &[u8], mut tell: impl FnMut(Head) -> Result<(), E>) -> Result<(), E> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.left > 0 {
                let part = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= u32::try_from(part).unwrap_or(self.left);
                rest = rest.get(part..).unwrap_or_default();
                continue;
            }
            let wanted = if self.wants_padding() { HEAD + 1 } else { HEAD };
            let part = rest.len().min(wanted - self.have);
            if let (Some(place), Some(part)) = (self.begun.get_mut(self.have..self.have + part), rest.get(..part)) {
                place.copy_from_slice(part);
            }
            self.have += part;
            rest = rest.get(part..).unwrap_or_default();
            if self.have >= HEAD && (self.have > HEAD || !self.wants_padding()) {
                tell(self.take())?;
            }
        }
        Ok(())
    }

    /// Whether a head that is whole is that of a frame with padding, whose length comes next.
    fn wants_padding(&self) -> bool {
        let [a, b, c, kind, flags, ..] = self.begun;
        self.have >= HEAD && matches!(kind, DATA | HEADERS) && flags & PADDED != 0 && [a, b, c] != [0; 3]
    }

    fn take(&mut self) -> Head {
        let [a, b, c, kind, flags, w, x, y, z, padding] = self.begun;
        let length = u32::from_be_bytes([0, a, b, c]);
        // The length of the padding is in the frame, too.
        let behind = if self.have > HEAD { 1 } else { 0 };
        self.left = length - behind;
        self.have = 0;
        let padding = if behind == 1 { 1 + u32::from(padding) } else { 0 };
        Head { kind, flags, stream: u32::from_be_bytes([w & 0x7f, x, y, z]), length, padding }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(bytes: &[u8], size: usize) -> Vec<Head> {
        let (mut frames, mut heads) = (Frames::default(), Vec::new());
        for piece in bytes.chunks(size) {
            let told = frames.follow(piece, |head| {
                heads.push(head);
                Ok::<(), ()>(())
            });
            assert_eq!(told, Ok(()));
        }
        heads
    }

    #[test]
    fn heads_are_found_however_bytes_come() {
        let mut bytes = b"\0\0\x03\0\x01\0\0\0\x01abc".to_vec();
        bytes.extend(b"\0\0\0\x04\x01\0\0\0\0");
        bytes.extend(b"\0\0\x03\0\x08\x80\0\0\x05\x02ab");
        bytes.extend(b"\0\0\x01\x01\x08\0\0\0\x07\0");
        bytes.extend(b"\0\0\0\0\x08\0\0\0\x07");
        let expected = [
            Head { kind: DATA, flags: 1, stream: 1, length: 3, padding: 0 },
            Head { kind: SETTINGS, flags: 1, stream: 0, length: 0, padding: 0 },
            Head { kind: DATA, flags: 8, stream: 5, length: 3, padding: 3 },
            Head { kind: HEADERS, flags: 8, stream: 7, length: 1, padding: 1 },
            Head { kind: DATA, flags: 8, stream: 7, length: 0, padding: 0 },
        ];
        for size in [1, 2, 3, 5, 9, 10, 100] {
            assert_eq!(heads(&bytes, size), expected, "by {size}");
        }
    }
}
