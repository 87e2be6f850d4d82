//! Where a value stands in a message, and how a message is taken apart.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use prost::Message;
use prost_types::Any;

/// What makes a resource unusable: the whole resource is refused, and its last good version stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Rejected {
    /// The path of the field from the resource's root, in protobuf names; empty for the resource itself.
    pub field: String,
    /// Why it is refused, as a clause.
    pub reason: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.reason),
            field => write!(f, "{field}: {}", self.reason),
        }
    }
}

/// The result of converting one value.
pub(crate) type Checked<T> = Result<T, Rejected>;

/// The position of a value, as a chain through the stack: it costs nothing until something is refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The resource itself.
    pub(crate) const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// A field of the message at this position; a raw identifier loses its mark.
    pub(crate) fn field<'b>(&'b self, name: &'b str) -> Path<'b>
    where
        'a: 'b,
    {
        Path { parent: Some(self), step: Step::Field(name.strip_prefix("r#").unwrap_or(name)) }
    }

    /// An element of the list at this position.
    pub(crate) fn index<'b>(&'b self, index: usize) -> Path<'b>
    where
        'a: 'b,
    {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of the map at this position.
    pub(crate) fn key<'b>(&'b self, key: &'b str) -> Path<'b>
    where
        'a: 'b,
    {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    /// Refuses the value at this position.
    pub(crate) fn reject(&self, reason: impl fmt::Display) -> Rejected {
        Rejected { field: self.to_string(), reason: reason.to_string() }
    }

    /// Refuses the field `name` if it is set.
    pub(crate) fn unset<T: Default + PartialEq>(&self, name: &str, value: &T) -> Checked<()> {
        if *value == T::default() { Ok(()) } else { Err(self.field(name).reject("is not supported")) }
    }

    /// Refuses the switch at this position if it is on; off is what happens anyway.
    pub(crate) fn off(&self, value: Option<bool>) -> Checked<()> {
        if value == Some(true) { Err(self.reject("is not supported")) } else { Ok(()) }
    }

    /// The value of a field that must be set.
    pub(crate) fn required<T>(&self, value: Option<T>) -> Checked<T> {
        value.ok_or_else(|| self.reject("is required"))
    }

    /// A name that must not be empty.
    pub(crate) fn named<'s>(&self, value: &'s str) -> Checked<&'s str> {
        if value.is_empty() { Err(self.reject("must not be empty")) } else { Ok(value) }
    }

    /// A span of time, which must not be negative.
    pub(crate) fn duration(&self, value: Option<prost_types::Duration>) -> Checked<Option<Duration>> {
        let convert = |d| Duration::try_from(d).map_err(|_| self.reject("must not be negative"));
        value.map(convert).transpose()
    }

    /// A time-out: unset is `default`, zero is none.
    pub(crate) fn timeout(
        &self,
        value: Option<prost_types::Duration>,
        default: Option<Duration>,
    ) -> Checked<Option<Duration>> {
        Ok(self.duration(value)?.or(default).filter(|d| !d.is_zero()))
    }

    /// A port, from 0 to 65535.
    pub(crate) fn port(&self, value: u32) -> Checked<u16> {
        u16::try_from(value).map_err(|_| self.reject(format_args!("{value} is not a port")))
    }

    /// A number that must not be zero.
    pub(crate) fn at_least_one(&self, value: Option<u32>, default: NonZeroU32) -> Checked<NonZeroU32> {
        value.map_or(Ok(default), |v| NonZeroU32::new(v).ok_or_else(|| self.reject("must be at least 1")))
    }

    /// A value of an enum that this version knows.
    pub(crate) fn enumeration<E: TryFrom<i32>>(&self, value: i32) -> Checked<E> {
        E::try_from(value).map_err(|_| self.reject(format_args!("{value} is not a value of this enum")))
    }

    /// Decodes the message in `any`, whose type the caller has looked at.
    pub(crate) fn decode<T: Message + Default>(&self, any: &Any) -> Checked<T> {
        T::decode(any.value.as_slice()).map_err(|e| self.reject(format_args!("cannot be decoded: {e}")))
    }

    /// Refuses an extension whose type is not one of ours.
    pub(crate) fn unknown_type(&self, any: &Any) -> Rejected {
        self.reject(format_args!("extension type {:?} is not supported", any.type_url))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = self.parent.filter(|p| !matches!(p.step, Step::Root));
        if let Some(parent) = parent {
            parent.fmt(f)?;
        }
        match (self.step, parent) {
            (Step::Root, _) => Ok(()),
            (Step::Field(name), None) => f.write_str(name),
            (Step::Field(name), Some(_)) => write!(f, ".{name}"),
            (Step::Index(index), _) => write!(f, "[{index}]"),
            (Step::Key(key), _) => write!(f, "[{key:?}]"),
        }
    }
}

/// Takes a message apart, completely: the compiler refuses a field that is in none of the three lists, so a new version
/// of the protobufs cannot bring a field that is overlooked.
///
/// The first list becomes variables. A field of `refuse` that is set refuses the message. A field of `ignore` changes
/// nothing that a proxy does with a connection; each such list says why.
macro_rules! fields {
    ($at:expr, $message:expr => $type:path { $($used:ident),* $(,)? }
     $(refuse { $($refused:ident),* $(,)? })? $(ignore { $($ignored:ident),* $(,)? })?) => {
        let $type { $($used,)* $($($refused,)*)? $($($ignored: _,)*)? } = $message;
        $($($at.unset(stringify!($refused), &$refused)?;)*)?
    };
}

pub(crate) use fields;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_an_accessor() {
        let chains = Path::ROOT.field("filter_chains");
        let second = chains.index(2);
        let kind = second.field("r#type");
        assert_eq!(kind.key("a b").to_string(), r#"filter_chains[2].type["a b"]"#);
        assert_eq!(Path::ROOT.reject("is wrong").to_string(), "is wrong");
    }
}
