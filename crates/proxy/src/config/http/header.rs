//! Headers that routes add and remove.

use envoy::envoy::config::core::v3;
use envoy::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use http::{HeaderName, HeaderValue};

use super::field::header_name;
use crate::access_log::Text;
use crate::config::field::{Checked, Path, fields};

/// How many headers one list may add or remove (Envoy 1.40).
const MOST: usize = 1000;

/// Headers to remove, and then headers to add.
#[derive(Debug, Clone, Default)]
pub struct HeaderMutations {
    /// What is removed, first.
    pub remove: Box<[HeaderName]>,
    /// What is added, in order.
    pub add: Box<[HeaderAddition]>,
}

/// A header to add.
#[derive(Debug, Clone)]
pub struct HeaderAddition {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderText,
    /// What becomes of a header of the name that is there already.
    pub append: Append,
    /// Whether it is added even if its value is empty.
    pub keep_empty: bool,
}

/// The value of a header.
#[derive(Debug, Clone)]
pub enum HeaderText {
    /// The same for every request.
    Fixed(HeaderValue),
    /// With operators in it, as in access logs.
    Format(Text),
}

/// What adding does to a header that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Append {
    /// Both are there.
    AppendOrAdd,
    /// The old one stays, and nothing is added.
    AddIfAbsent,
    /// The new one takes the place of the old.
    OverwriteOrAdd,
    /// The new one takes the place of the old, and nothing is added if there is none.
    OverwriteIfPresent,
}

impl HeaderAddition {
    /// A header that is the same for every request.
    pub fn fixed(name: HeaderName, value: HeaderValue, append: Append) -> HeaderAddition {
        HeaderAddition { name, value: HeaderText::Fixed(value), append, keep_empty: true }
    }
}

impl HeaderMutations {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// The lists of a message for requests.
    pub(super) fn of_requests(
        at: &Path<'_>,
        add: Vec<v3::HeaderValueOption>,
        remove: Vec<String>,
    ) -> Checked<HeaderMutations> {
        let (add_at, remove_at) = (at.field("request_headers_to_add"), at.field("request_headers_to_remove"));
        HeaderMutations::from_messages((&add_at, add), (&remove_at, remove))
    }

    /// The lists of a message for responses.
    pub(super) fn of_responses(
        at: &Path<'_>,
        add: Vec<v3::HeaderValueOption>,
        remove: Vec<String>,
    ) -> Checked<HeaderMutations> {
        let (add_at, remove_at) = (at.field("response_headers_to_add"), at.field("response_headers_to_remove"));
        HeaderMutations::from_messages((&add_at, add), (&remove_at, remove))
    }

    fn from_messages(
        (add_at, add): (&Path<'_>, Vec<v3::HeaderValueOption>),
        (remove_at, remove): (&Path<'_>, Vec<String>),
    ) -> Checked<HeaderMutations> {
        if add.len() > MOST || remove.len() > MOST {
            return Err(if add.len() > MOST { add_at } else { remove_at }.reject(format_args!("takes at most {MOST}")));
        }
        let add = add.into_iter().enumerate().map(|(i, option)| addition(&add_at.index(i), option));
        let remove = remove.iter().enumerate().map(|(i, name)| changeable(&remove_at.index(i), name));
        Ok(HeaderMutations { add: add.collect::<Checked<_>>()?, remove: remove.collect::<Checked<_>>()? })
    }
}

/// A header that may be changed: what a request is made of may not, as in Envoy.
fn changeable(at: &Path<'_>, name: &str) -> Checked<HeaderName> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(at.reject(format_args!("{name:?} may not be changed here")));
    }
    header_name(at, name)
}

fn addition(at: &Path<'_>, message: v3::HeaderValueOption) -> Checked<HeaderAddition> {
    fields!(at, message => v3::HeaderValueOption { header, append, append_action, keep_empty_value });
    let action = match at.field("append_action").enumeration(append_action)? {
        HeaderAppendAction::AppendIfExistsOrAdd => Append::AppendOrAdd,
        HeaderAppendAction::AddIfAbsent => Append::AddIfAbsent,
        HeaderAppendAction::OverwriteIfExistsOrAdd => Append::OverwriteOrAdd,
        HeaderAppendAction::OverwriteIfExists => Append::OverwriteIfPresent,
    };
    let append = match append {
        Some(_) if action != Append::AppendOrAdd => {
            return Err(at.field("append").reject("does not go together with append_action"));
        }
        Some(false) => Append::OverwriteOrAdd,
        Some(true) | None => action,
    };
    let at = at.field("header");
    let v3::HeaderValue { key, value, raw_value } = at.required(header)?;
    Ok(HeaderAddition {
        name: changeable(&at.field("key"), &key)?,
        value: HeaderText::parse(&at, value, raw_value)?,
        append,
        keep_empty: keep_empty_value,
    })
}

impl HeaderText {
    fn parse(at: &Path<'_>, value: String, raw_value: Vec<u8>) -> Checked<HeaderText> {
        let at = at.field(if value.is_empty() { "raw_value" } else { "value" });
        let value =
            if value.is_empty() { String::from_utf8(raw_value).map_err(|_| at.reject("is not UTF-8"))? } else { value };
        let text = Text::parse(&value, true).map_err(|reason| at.reject(reason))?;
        match text.as_literal() {
            Some(literal) => header_value(&at, literal).map(HeaderText::Fixed),
            None => header_value(&at, &value).map(|_| HeaderText::Format(text)),
        }
    }
}

/// The value of a header, as it is.
pub(super) fn header_value(at: &Path<'_>, text: &str) -> Checked<HeaderValue> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| at.reject("has characters that a header cannot have"))
}
