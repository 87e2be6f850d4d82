//! The data plane: Envoy's resources become listeners, filters and clusters.
//!
//! Configuration arrives as xDS and is converted once, at the border, into the types of [`config`]: what is not
//! supported is refused with the path of the field. A [`Snapshot`] holds all of it, immutable, with its indexes built.
//! Nothing here knows Kubernetes or Istio.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod access_log;
pub mod admin;
pub mod config;
mod data_plane;
mod discovery;
mod downstream;
mod dynamic_metadata;
mod health;
mod http;
pub mod inspect;
pub mod metrics;
mod prepared;
mod proxy;
pub mod rbac;
mod relay;
pub mod routing;
pub mod select;
mod snapshot;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod upstream;
mod worker;

pub use data_plane::{DataPlane, Drained, EndpointState, Options, Unbound};
pub use dynamic_metadata::DynamicMetadata;
pub use proxy::{Proxy, Settings};
pub use snapshot::{Loaded, Missing, Offered, Snapshot, Update, Wanted};
