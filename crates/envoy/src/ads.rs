//! The aggregated discovery service, as a state machine without sockets.
//!
//! A stream of either variant is a value: it hears requests, and says which responses are due for a [`Snapshot`].
//! Time, transport and the making of resources belong to its owner. The rules are those of the xDS protocol
//! (envoyproxy.io, "xDS REST and gRPC protocol") with what Envoy 1.40 was seen to need:
//!
//! - whenever a cluster is sent again, its endpoints follow in the same push, because Envoy warms the cluster anew and
//!   holds back its acknowledgement until they come;
//! - what refers to clusters waits until the client has taken them and their endpoints, and what is gone is told last:
//!   no moment has a route to a cluster that is not there;
//! - a first request is always answered, if with nothing, because Envoy otherwise waits for its fetch time-out;
//! - an acknowledgement counts only for the response that was sent last; older nonces are stale.

mod client;
mod delta;
mod encoding;
mod state_of_the_world;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::TypeUrl;

pub use client::{Client, Offer, OfferedResource};
pub use delta::{DeltaResponse, DeltaServer};
pub use encoding::Encoding;
pub use state_of_the_world::{StateOfTheWorldServer, WorldResponse};

/// A resource, encoded once and shared by every stream that sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    name: Arc<str>,
    version: Arc<str>,
    /// The encoded `google.protobuf.Any`.
    any: Bytes,
}

impl Resource {
    /// Wraps an encoded message; `version` changes exactly when `message` does.
    pub fn new(type_url: TypeUrl, name: &str, version: &str, message: &[u8]) -> Resource {
        let any = prost_types::Any { type_url: type_url.as_str().to_owned(), value: message.to_vec() };
        Resource { name: name.into(), version: version.into(), any: prost::Message::encode_to_vec(&any).into() }
    }

    /// The name that clients subscribe to.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The encoded `google.protobuf.Any`.
    pub fn encoded(&self) -> &Bytes {
        &self.any
    }

    /// The version that clients report back.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }
}

/// The resources of one type, by name.
pub type Resources = BTreeMap<Arc<str>, Arc<Resource>>;

/// The resources of one type, in parts: some clients share one part, and others another.
type Parts = Vec<Arc<Resources>>;

/// Everything one client may see, at one moment. Clients share what they see alike, so a snapshot is cheap to make and to
/// keep.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    types: BTreeMap<TypeUrl, Parts>,
}

impl Snapshot {
    /// Adds resources of a type to those that are there; none of them has a name that is there already.
    pub fn add(&mut self, type_url: TypeUrl, resources: Arc<Resources>) {
        self.types.entry(type_url).or_default().push(resources);
    }

    /// The resources of a type.
    pub fn of(&self, type_url: TypeUrl) -> impl Iterator<Item = &Arc<Resource>> {
        self.types.get(&type_url).into_iter().flatten().flat_map(|r| r.values())
    }

    /// Whether both are made of the same parts, so that neither has anything that the other has not.
    pub fn is(&self, other: &Snapshot) -> bool {
        let same = |a: &[Arc<Resources>], b: &[Arc<Resources>]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        self.types.len() == other.types.len()
            && self.types.iter().zip(&other.types).all(|((a, x), (b, y))| a == b && same(x, y))
    }

    fn parts(&self, type_url: TypeUrl) -> &[Arc<Resources>] {
        self.types.get(&type_url).map_or(&[], Vec::as_slice)
    }

    fn get(&self, type_url: TypeUrl, name: &str) -> Option<&Arc<Resource>> {
        self.types.get(&type_url)?.iter().find_map(|r| r.get(name))
    }
}

/// What a request meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It opened or changed a subscription; a response may be due.
    Subscribed(TypeUrl),
    /// The last response of the type is in force.
    Acknowledged(TypeUrl),
    /// The last response of the type was refused; the client keeps what it had.
    Rejected(TypeUrl, String),
    /// It answers a response that has been superseded; nothing is to be done.
    Stale(TypeUrl),
    /// A type that this server does not have.
    Unknown(String),
}

/// Numbers responses, over all types of a stream.
#[derive(Debug, Default)]
struct Nonces(u64);

impl Nonces {
    fn next(&mut self) -> String {
        self.0 += 1;
        self.0.to_string()
    }
}
