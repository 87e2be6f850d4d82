//! A Kubernetes-compatible API server: a durable store, REST and watch, generic over kinds.
//!
//! A kind is data ([`Kind`]); what one particular kind needs beyond that comes in from outside as
//! [`Extensions`].
#![forbid(unsafe_code)]

mod extension;
mod http;
mod kind;
mod patch;
mod protobuf;
mod schema;
mod store;

pub use extension::{Admission, Connect, ConnectRequest, Extensions, Judge, Operation, Phase, Review, UserInfo};
pub use http::{ApiServer, Body, Config, InProcess, OpenError};
pub use kind::{Column, Discovery, Installation, Kind, Names, Registry, Row, ScalePaths, Subresource, Verbs};
pub use store::{
    Event, EventKind, Expired, Key, Object, Revision, Store, StoreError, Watch, Write, WriteError, watch_line,
};
