//! What `build.rs` generates.
#![expect(warnings, clippy::all, reason = "generated code is not held to the rules of written code")]

include!(concat!(env!("OUT_DIR"), "/envoy.rs"));
