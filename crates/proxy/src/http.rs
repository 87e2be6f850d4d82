//! Connections that speak HTTP.
//!
//! hyper reads and writes the messages, one connection at a time; everything between is here: the way of a request from
//! its head to its endpoint, the connections to endpoints that requests share, and what is told of it all.

mod executor;
mod filter;
mod pool;
mod upload;
mod wire;
