//! The protobuf wire format: tags, varints and lengths. Nothing is copied, and no length is trusted.

/// Bytes that are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("unexpected end of the message")]
    Truncated,
    #[error("integer overflow")]
    Overflow,
    #[error("illegal tag {0}")]
    Tag(u64),
    #[error("illegal wire type {0}")]
    WireType(u64),
    #[error("wrong wire type")]
    WrongType,
    #[error("text that is not UTF-8")]
    Utf8,
    #[error("time out of range")]
    Time,
    #[error("embedded JSON: {0}")]
    Json(String),
    #[error("{field}: {why}")]
    Field { field: &'static str, why: Box<Malformed> },
}

impl Malformed {
    /// Says in which field; nested fields read as a path.
    pub(super) fn within(self, field: &'static str) -> Malformed {
        Malformed::Field { field, why: Box::new(self) }
    }
}

/// What stands behind a tag.
#[derive(Debug, Clone, Copy)]
enum Payload<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Eight or four bytes, which no field of the table has.
    Fixed,
}

/// One field as it stands on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    payload: Payload<'a>,
}

impl<'a> Field<'a> {
    pub(super) fn varint(self) -> Result<u64, Malformed> {
        match self.payload {
            Payload::Varint(n) => Ok(n),
            _ => Err(Malformed::WrongType),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self.payload {
            Payload::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::WrongType),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Utf8)
    }

    /// The integers of a repeated field, packed or one by one.
    pub(super) fn varints(self) -> Result<Vec<u64>, Malformed> {
        let Payload::Bytes(bytes) = self.payload else { return Ok(vec![self.varint()?]) };
        let mut reader = Reader::new(bytes);
        let mut numbers = Vec::new();
        while !reader.rest.is_empty() {
            numbers.push(reader.varint()?);
        }
        Ok(numbers)
    }
}

/// Reads a message field by field.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The next field, or `None` at the end of the message.
    pub(super) fn field(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| *n != 0).ok_or(Malformed::Tag(tag))?;
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => self.take(8).map(|_| Payload::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Overflow)?;
                Payload::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Payload::Fixed)?,
            other => return Err(Malformed::WireType(other)),
        };
        Ok(Some(Field { number, payload }))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
            self.rest = rest;
            if shift == 63 && byte > 1 {
                return Err(Malformed::Overflow);
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::Overflow)
    }
}
