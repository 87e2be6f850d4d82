//! The incremental variant, at the server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Heard, Nonces, Resource, Snapshot, encode_bytes};
use crate::TypeUrl;
use crate::envoy::service::discovery::v3::DeltaDiscoveryRequest;

/// One client's subscriptions, on one stream.
#[derive(Debug, Default)]
pub struct DeltaServer {
    subscriptions: BTreeMap<TypeUrl, Subscription>,
    nonces: Nonces,
}

/// What is new or changed, and the names of what is gone.
type Difference = (Vec<Arc<Resource>>, Vec<Arc<str>>);

#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<Arc<str>>,
    /// What the client has, or was offered, by name and version.
    offered: BTreeMap<Arc<str>, Arc<str>>,
    /// Names to answer even if they do not exist: the client asked since the last response.
    asked: BTreeSet<Arc<str>>,
    answered: bool,
    outstanding: Option<String>,
}

/// What is sent: resources by reference, so that a push to a thousand clients encodes each of them once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaResponse {
    /// The type of everything in it.
    pub type_url: TypeUrl,
    /// Repeated by the client in its answer.
    pub nonce: String,
    /// New and changed resources.
    pub resources: Vec<Arc<Resource>>,
    /// Names that no longer exist, or never did.
    pub removed: Vec<Arc<str>>,
}

impl DeltaResponse {
    /// Appends the encoded `DeltaDiscoveryResponse`.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        let mut scratch = Vec::new();
        for resource in &self.resources {
            scratch.clear();
            encode_bytes(1, resource.version.as_bytes(), &mut scratch);
            encode_bytes(2, &resource.any, &mut scratch);
            encode_bytes(3, resource.name.as_bytes(), &mut scratch);
            encode_bytes(2, &scratch, buffer);
        }
        encode_bytes(4, self.type_url.as_str().as_bytes(), buffer);
        encode_bytes(5, self.nonce.as_bytes(), buffer);
        for name in &self.removed {
            encode_bytes(6, name.as_bytes(), buffer);
        }
    }
}

impl DeltaServer {
    /// Takes a request in. Responses are made by [`DeltaServer::push`].
    pub fn hear(&mut self, request: &DeltaDiscoveryRequest) -> Heard {
        let Some(type_url) = TypeUrl::parse(&request.type_url) else { return Heard::Unknown(request.type_url.clone()) };
        let first = !self.subscriptions.contains_key(&type_url);
        let subscription = self.subscriptions.entry(type_url).or_default();
        if first {
            let versions = request.initial_resource_versions.iter();
            subscription.offered = versions.map(|(n, v)| (n.as_str().into(), v.as_str().into())).collect();
            subscription.wildcard = type_url.has_wildcard() && request.resource_names_subscribe.is_empty();
        }
        let changed = subscription.change(request) || first;
        if request.response_nonce.is_empty() || changed {
            if !request.response_nonce.is_empty() {
                subscription.outstanding = None;
            }
            return Heard::Subscribed(type_url);
        }
        if subscription.outstanding.as_deref() != Some(request.response_nonce.as_str()) {
            return Heard::Stale(type_url);
        }
        subscription.outstanding = None;
        match &request.error_detail {
            None => Heard::Acknowledged(type_url),
            Some(error) => Heard::Rejected(type_url, error.message.clone()),
        }
    }

    /// The responses that bring the client from what it has to `snapshot`, in the order in which they must be sent.
    pub fn push(&mut self, snapshot: &Snapshot) -> Vec<DeltaResponse> {
        let mut responses = Vec::new();
        for type_url in TypeUrl::ALL {
            let Some(subscription) = self.subscriptions.get_mut(&type_url) else { continue };
            let Some((resources, removed)) = subscription.difference(type_url, snapshot) else { continue };
            let nonce = self.nonces.next();
            subscription.outstanding = Some(nonce.clone());
            if type_url == TypeUrl::Cluster {
                let sent: Vec<Arc<str>> = resources.iter().map(|r| r.name.clone()).collect();
                self.forget_endpoints(&sent);
            }
            responses.push(DeltaResponse { type_url, nonce, resources, removed });
        }
        responses
    }

    /// A cluster that is sent warms anew and needs its endpoints anew.
    fn forget_endpoints(&mut self, clusters: &[Arc<str>]) {
        if let Some(endpoints) = self.subscriptions.get_mut(&TypeUrl::Endpoint) {
            for name in clusters {
                endpoints.offered.remove(name);
            }
        }
    }
}

impl Subscription {
    /// Applies the names of a request; whether it asked for anything.
    fn change(&mut self, request: &DeltaDiscoveryRequest) -> bool {
        for name in &request.resource_names_subscribe {
            if name == "*" {
                self.wildcard = true;
                continue;
            }
            let name: Arc<str> = name.as_str().into();
            // A name that is subscribed to again is sent again: the client may have dropped it meanwhile.
            if request.initial_resource_versions.is_empty() {
                self.offered.remove(&name);
            }
            self.asked.insert(name.clone());
            self.names.insert(name);
        }
        for name in &request.resource_names_unsubscribe {
            if name == "*" {
                self.wildcard = false;
                let names = &self.names;
                self.offered.retain(|name, _| names.contains(name));
                continue;
            }
            self.names.remove(name.as_str());
            self.asked.remove(name.as_str());
            if !self.wildcard {
                self.offered.remove(name.as_str());
            }
        }
        !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty()
    }

    /// What has changed, or `None` if nothing has and no answer is owed.
    fn difference(&mut self, type_url: TypeUrl, snapshot: &Snapshot) -> Option<Difference> {
        let seen = |s: &Subscription, r: &Resource| s.offered.get(&r.name).is_some_and(|v| *v == r.version);
        let changed: Vec<Arc<Resource>> = if self.wildcard {
            snapshot.of(type_url).filter(|r| !seen(self, r)).cloned().collect()
        } else {
            let named = self.names.iter().filter_map(|n| snapshot.get(type_url, n));
            named.filter(|r| !seen(self, r)).cloned().collect()
        };
        let absent = |name: &Arc<str>| snapshot.get(type_url, name).is_none();
        let known = self.offered.keys().chain(&self.asked);
        let removed: BTreeSet<Arc<str>> = known.filter(|n| absent(n)).cloned().collect();
        let owed = !self.answered;
        self.asked.clear();
        if changed.is_empty() && removed.is_empty() && !owed {
            return None;
        }
        self.answered = true;
        for resource in &changed {
            self.offered.insert(resource.name.clone(), resource.version.clone());
        }
        for name in &removed {
            self.offered.remove(name);
        }
        Some((changed, removed.into_iter().collect()))
    }
}
