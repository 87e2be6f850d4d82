//! What of a request's head can be named like a header.

use http::HeaderName;

use crate::config::field::{Checked, Path};

/// A header, or one of the parts of a request that HTTP/2 sends like headers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Field {
    /// `:method`.
    Method,
    /// `:path`, with the query.
    Path,
    /// `:authority`, which is `host`, too.
    Authority,
    /// `:scheme`.
    Scheme,
    /// A header.
    Header(HeaderName),
}

impl Field {
    /// The field of this name, which is read without regard to case.
    pub(in crate::config) fn parse(at: &Path<'_>, name: &str) -> Checked<Field> {
        Ok(match at.named(name)? {
            ":method" => Field::Method,
            ":path" => Field::Path,
            ":authority" => Field::Authority,
            ":scheme" => Field::Scheme,
            name => match header_name(at, name)? {
                http::header::HOST => Field::Authority,
                name => Field::Header(name),
            },
        })
    }
}

/// A header's name.
pub(in crate::config) fn header_name(at: &Path<'_>, name: &str) -> Checked<HeaderName> {
    HeaderName::from_bytes(at.named(name)?.as_bytes())
        .map_err(|_| at.reject(format_args!("{name:?} is not the name of a header")))
}
