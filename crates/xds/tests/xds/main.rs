//! From objects in YAML to resources, and through the proxy's own matcher to what becomes of a connection.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod authorization;
mod behaviour;
mod call;
mod certificates;
mod destination;
mod envoy_filter;
mod gateway;
mod gateway_merging;
mod gateway_policy;
mod golden;
mod inbound;
mod legacy;
mod order;
mod outbound;
mod real_envoy;
mod request;
mod scope;
mod telemetry;
mod world;
