//! From objects in YAML to resources, and through the proxy's own matcher to what becomes of a connection.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod authorization;
mod call;
mod destination;
mod golden;
mod inbound;
mod order;
mod outbound;
mod real_envoy;
mod scope;
mod world;
