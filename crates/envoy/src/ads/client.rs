//! The incremental variant, at the client.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::Any;

use crate::TypeUrl;
use crate::envoy::config::core::v3::Node;
use crate::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::google::rpc::Status;

/// A client's subscriptions and what it holds, across reconnections.
#[derive(Debug)]
pub struct Client {
    node: Node,
    interests: BTreeMap<TypeUrl, Interest>,
    /// The node is told once per stream.
    introduced: bool,
}

#[derive(Debug, Default)]
struct Interest {
    names: BTreeSet<String>,
    /// Versions in force, by name.
    held: BTreeMap<String, String>,
    opened: bool,
}

/// A response to be applied, then answered with [`Client::answer`].
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The type of everything in it.
    pub type_url: TypeUrl,
    /// New and changed resources.
    pub resources: Vec<OfferedResource>,
    /// Names that are gone.
    pub removed: Vec<String>,
    nonce: String,
}

/// A resource of an [`Offer`].
#[derive(Debug, Clone, PartialEq)]
pub struct OfferedResource {
    /// Its name.
    pub name: String,
    /// Its encoded message; `None` if the server sent none, which must be rejected.
    pub message: Option<Any>,
    version: String,
}

impl OfferedResource {
    /// The version that the server gave it.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl Client {
    /// A client that wants every cluster and listener, and nothing else yet.
    pub fn new(node: Node) -> Client {
        let interests = [TypeUrl::Cluster, TypeUrl::Listener].map(|t| (t, Interest::default())).into();
        Client { node, interests, introduced: false }
    }

    /// The requests that open a stream. Versions already held are named, so that only differences come.
    pub fn open(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.introduced = false;
        let types: Vec<TypeUrl> = self.interests.keys().copied().collect();
        types.into_iter().map(|t| self.open_type(t)).collect()
    }

    fn open_type(&mut self, type_url: TypeUrl) -> DeltaDiscoveryRequest {
        let mut request = self.request(type_url);
        let interest = self.interests.entry(type_url).or_default();
        interest.opened = true;
        request.initial_resource_versions = interest.held.clone();
        request.resource_names_subscribe = interest.names.iter().cloned().collect();
        request
    }

    /// Asks for exactly `names` of a type that has no wildcard. `None` if nothing changes.
    pub fn want(&mut self, type_url: TypeUrl, names: BTreeSet<String>) -> Option<DeltaDiscoveryRequest> {
        let interest = self.interests.entry(type_url).or_default();
        let subscribe: Vec<String> = names.difference(&interest.names).cloned().collect();
        let unsubscribe: Vec<String> = interest.names.difference(&names).cloned().collect();
        interest.names = names;
        for name in &unsubscribe {
            interest.held.remove(name);
        }
        if subscribe.is_empty() && unsubscribe.is_empty() {
            return None;
        }
        if !interest.opened {
            return Some(self.open_type(type_url));
        }
        let mut request = self.request(type_url);
        request.resource_names_subscribe = subscribe;
        request.resource_names_unsubscribe = unsubscribe;
        Some(request)
    }

    /// Reads a response; `None` for a type that nobody asked for.
    pub fn receive(&self, response: DeltaDiscoveryResponse) -> Option<Offer> {
        let type_url = TypeUrl::parse(&response.type_url).filter(|t| self.interests.contains_key(t))?;
        let offered = response.resources.into_iter();
        let resources = offered.map(|r| OfferedResource { name: r.name, message: r.resource, version: r.version });
        let nonce = response.nonce;
        Some(Offer { type_url, resources: resources.collect(), removed: response.removed_resources, nonce })
    }

    /// Acknowledges an offer that was applied, or rejects it, naming what was wrong with which resource. A rejected
    /// resource keeps its old version; the others of the same offer count as applied.
    pub fn answer(&mut self, offer: Offer, rejected: &BTreeMap<String, String>) -> DeltaDiscoveryRequest {
        let Offer { type_url, resources, removed, nonce } = offer;
        let interest = self.interests.entry(type_url).or_default();
        for resource in resources.into_iter().filter(|r| !rejected.contains_key(&r.name)) {
            interest.held.insert(resource.name, resource.version);
        }
        for name in removed {
            interest.held.remove(&name);
        }
        let mut request = self.request(type_url);
        request.response_nonce = nonce;
        if !rejected.is_empty() {
            let reasons: Vec<String> = rejected.iter().map(|(name, why)| format!("{name}: {why}")).collect();
            request.error_detail =
                Some(Status { code: INVALID_ARGUMENT, message: reasons.join("; "), ..Status::default() });
        }
        request
    }

    fn request(&mut self, type_url: TypeUrl) -> DeltaDiscoveryRequest {
        let node = (!self.introduced).then(|| self.node.clone());
        self.introduced = true;
        DeltaDiscoveryRequest { node, type_url: type_url.as_str().to_owned(), ..DeltaDiscoveryRequest::default() }
    }
}

/// `google.rpc.Code.INVALID_ARGUMENT`, which Envoy sends with a rejection.
const INVALID_ARGUMENT: i32 = 3;
