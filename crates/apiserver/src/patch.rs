//! The four patch types and the ownership of fields. Pure functions of the objects and a schema.

mod apply;
mod combine;
mod fields;
mod json;
mod managed;
mod merge;
mod ownership;
mod shape;
mod strategic;

pub(crate) use apply::apply;
pub(crate) use json::json;
pub(crate) use managed::track;
pub(crate) use merge::merge;
pub(crate) use strategic::strategic;

/// Whose fields a write changes.
pub(crate) struct Manager<'a> {
    /// `fieldManager`, or the user agent's first word.
    pub(crate) name: &'a str,
    /// `status`, `scale` or empty.
    pub(crate) subresource: &'a str,
    /// The `apiVersion` of the request.
    pub(crate) api_version: &'a str,
    /// RFC 3339, seconds.
    pub(crate) now: &'a str,
}
