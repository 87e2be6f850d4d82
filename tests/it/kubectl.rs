//! Every command a person types, typed as they type it.

mod access;
mod crd;
mod exec;
mod istio;
mod objects;
mod output;
mod refusals;
mod server_side;
mod workloads;
