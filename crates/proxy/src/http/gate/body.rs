//! Bodies in chunks, followed to their end.

/// The longest line that is followed, in bytes; hyper takes no longer ones either.
const LONGEST_LINE: usize = 16 << 10;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was all there.
    Whole,
    /// It is not made as it should be.
    Lost,
}

/// Where in a body of chunks the next byte belongs.
#[derive(Debug)]
pub(super) struct Chunks {
    part: Part,
    /// The bytes of the line so far, or what is left of the chunk.
    count: u64,
    /// The size that the line says.
    size: u64,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The digits of a size.
    Size,
    /// What stands behind a size in its line.
    Extension,
    /// The line feed of a size's line.
    SizeEnd,
    Content,
    /// The carriage return behind a chunk, and the line feed.
    ContentEnd,
    ContentLineFeed,
    /// The beginning of a trailer's line, the rest of it, and the line feed.
    Trailer,
    TrailerRest,
    TrailerLineFeed,
    /// The line feed of the empty line at the end.
    Last,
}

impl Default for Chunks {
    fn default() -> Chunks {
        Chunks { part: Part::Size, count: 0, size: 0, end: None }
    }
}

impl Chunks {
    /// How the body has ended, if it has.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Follows the body into `bytes`; returns how many of them belong to it.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).filter(|_| self.end.is_none()) {
            if self.part == Part::Content {
                let part = self.count.min((bytes.len() - at) as u64);
                self.count -= part;
                at += usize::try_from(part).unwrap_or(usize::MAX);
                if self.count == 0 {
                    self.part = Part::ContentEnd;
                }
                continue;
            }
            self.step(*byte);
            at += 1;
        }
        at
    }

    fn step(&mut self, byte: u8) {
        let next = match (self.part, byte) {
            (Part::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => return self.digit(byte),
            (Part::Size, b'\r') if self.count > 0 => Part::SizeEnd,
            (Part::Size, b';' | b' ' | b'\t') if self.count > 0 => Part::Extension,
            (Part::Extension, b'\r') => Part::SizeEnd,
            (Part::Extension | Part::TrailerRest, byte) if byte != b'\n' && byte != b'\r' => return self.count(),
            (Part::SizeEnd, b'\n') if self.size == 0 => Part::Trailer,
            (Part::SizeEnd, b'\n') => return self.begin_content(),
            (Part::ContentEnd, b'\r') => Part::ContentLineFeed,
            (Part::ContentLineFeed, b'\n') => Part::Size,
            (Part::Trailer, b'\r') => Part::Last,
            (Part::Trailer, byte) if byte != b'\n' => Part::TrailerRest,
            (Part::TrailerRest, b'\r') => Part::TrailerLineFeed,
            (Part::TrailerLineFeed, b'\n') => Part::Trailer,
            (Part::Last, b'\n') => {
                self.end = Some(End::Whole);
                return;
            }
            _ => {
                self.end = Some(End::Lost);
                return;
            }
        };
        (self.part, self.count) = (next, 0);
        if next == Part::Size {
            self.size = 0;
        }
    }

    fn digit(&mut self, byte: u8) {
        let digit = u64::from(char::from(byte).to_digit(16).unwrap_or_default());
        match self.size.checked_mul(16) {
            Some(size) => self.size = size + digit,
            None => self.end = Some(End::Lost),
        }
        self.count();
    }

    /// Counts a byte of a line.
    fn count(&mut self) {
        self.count += 1;
        if self.count > LONGEST_LINE as u64 {
            self.end = Some(End::Lost);
        }
    }

    fn begin_content(&mut self) {
        (self.part, self.count) = (Part::Content, self.size);
    }
}
