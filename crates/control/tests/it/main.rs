//! The controllers against a real API server in this process, with a kubelet that only pretends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admission;
mod cluster;
mod identity;
mod istio;
mod lifecycle;
mod mesh;
mod proxy;
mod services;
mod workloads;
