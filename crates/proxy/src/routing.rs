//! What routes do with requests: which of them takes a request, and what becomes of its path, authority and headers.
//!
//! Pure functions of the configuration and of the head of a request. Matching borrows, and allocates nothing.

mod hash;
mod head;
mod headers;
mod matches;
mod redirect;
mod rewrite;
#[cfg(test)]
mod tests;

pub use hash::{Hashed, cookie_value, hash};
pub use head::{authority, forwarded_proto, full_path, is_grpc, path, query, query_parameter, scheme};
pub use headers::Changes;
pub use matches::{Request, TlsFacts};
pub use redirect::{location, tls_location};
pub use rewrite::{rewritten_authority, rewritten_path};
