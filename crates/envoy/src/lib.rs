//! The nouns on the wire: Envoy's xDS v3 messages, their type URLs, what regular expressions in them mean, and the ADS
//! state machine of both ends.
//!
//! Nothing here knows Kubernetes or Istio, and nothing here has a socket. The one message of Istio's own is that by
//! which workloads get their certificates, and gRPC's own is that of health checks: they are on the same wire.
#![forbid(unsafe_code)]

pub mod ads;
mod proto;
pub mod re2;
mod type_url;

pub use proto::*;
pub use type_url::TypeUrl;

/// The descriptors of every message in this crate, for JSON; without source information.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
