//! Connections that speak HTTP.
//!
//! hyper reads and writes the messages, one connection at a time; everything between is here: the way of a request from
//! its head to its endpoint, the connections to endpoints that requests share, and what is told of it all.

mod authorization;
mod body;
pub(crate) mod connection;
mod deadline;
mod errand;
mod exchange;
mod executor;
mod failure;
pub(crate) mod filter;
mod flood;
mod forward;
mod gate;
pub(crate) mod head;
mod messages;
mod mirror;
mod peer;
pub(crate) mod pool;
mod reply;
mod report;
mod request;
mod response;
mod retry;
mod screening;
mod trace;
mod tunnel;
mod upload;
mod watch;
mod wire;

pub(crate) use connection::{Connection, Life, LocalManager, serve};
pub(crate) use errand::grpc as grpc_call;
pub(crate) use executor::Local;
pub(crate) use filter::jwt_authn::KeyStore;
pub(crate) use head::client_certificate::PeerCertificate;
pub(crate) use head::names;
pub(crate) use reply::Reply;
pub(crate) use report::Reports;
pub(crate) use trace::Spans;
