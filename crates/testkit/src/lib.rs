//! What the tests stand on: bounded waits, real federations, and shells to use them from. Never shipped.
//!
//! A [`Federation`] is brought up with the real binary, as the current user or as an ordinary one, and leaves nothing
//! behind. A [`Session`] is a shell in a namespace of its own, where the commands of a document run as they are written.
#![forbid(unsafe_code)]

mod account;
mod federation;
mod process;
mod real_envoy;
mod require;
mod session;
mod shell;
mod terminal;
mod wait;

pub use account::Account;
pub use federation::{Federation, Shared};
pub use real_envoy::RealEnvoy;
pub use require::{envoy, kubectl, namespaces, program, skip};
pub use session::Session;
pub use shell::{Done, Running, Shell};
pub use terminal::Terminal;
pub use wait::{look_for, until, until_async};
