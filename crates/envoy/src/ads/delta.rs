//! The incremental variant, at the server.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BytesMut;

use super::encoding::{Encoding, Form, encode_bytes};
use super::{Heard, Nonces, Parts, Resource, Resources, Snapshot};
use crate::TypeUrl;
use crate::envoy::service::discovery::v3::DeltaDiscoveryRequest;

/// One client's subscriptions, on one stream.
#[derive(Debug, Default)]
pub struct DeltaServer {
    subscriptions: BTreeMap<TypeUrl, Subscription>,
    nonces: Nonces,
    /// Whether the last push left something for when the client has answered.
    holds_back: bool,
}

/// What is new or changed, and the names of what is gone.
type Difference = (Vec<Arc<Resource>>, Vec<Arc<str>>);

#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<Arc<str>>,
    /// What the client was last brought to, as far as it is subscribed to it and `deviations` does not say otherwise.
    base: Parts,
    /// By name the version that the client has, or `None` if it has nothing, where that is not what `base` says.
    deviations: BTreeMap<Arc<str>, Option<Arc<str>>>,
    /// Names to answer even if they do not exist: the client asked since the last response.
    asked: BTreeSet<Arc<str>>,
    answered: bool,
    outstanding: Option<String>,
    /// Whether the client has something that is gone and was not told so yet.
    keeps: bool,
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
    /// The encoded `DeltaDiscoveryResponse`.
    pub fn encode(self) -> Encoding {
        let mut head = BytesMut::new();
        encode_bytes(4, self.type_url.as_str().as_bytes(), &mut head);
        encode_bytes(5, self.nonce.as_bytes(), &mut head);
        for name in &self.removed {
            encode_bytes(6, name.as_bytes(), &mut head);
        }
        Encoding::new(head, self.resources, Form::Delta)
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
            subscription.deviations = versions.map(|(n, v)| (n.as_str().into(), Some(v.as_str().into()))).collect();
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

    /// The responses that bring the client from what it has towards `snapshot`, in the order in which they must be sent.
    /// What refers to something waits until the client has it, and what is referred to stays until nothing does: then
    /// [`DeltaServer::holds_back`] says so, and another push is due when the client has answered.
    pub fn push(&mut self, snapshot: &Snapshot) -> Vec<DeltaResponse> {
        let mut responses = Vec::new();
        self.holds_back = false;
        for type_url in TypeUrl::ALL {
            if type_url.refers() && TypeUrl::ALL.into_iter().any(|t| t.is_referred_to() && self.awaits(t)) {
                self.holds_back |= self.subscriptions.contains_key(&type_url);
                continue;
            }
            responses.extend(self.respond(type_url, snapshot, !type_url.is_referred_to()));
        }
        if !self.holds_back && !TypeUrl::ALL.into_iter().any(|t| self.awaits(t)) {
            let referred_to = TypeUrl::ALL.into_iter().filter(|t| t.is_referred_to());
            responses.extend(referred_to.filter_map(|t| self.respond(t, snapshot, true)));
        }
        self.holds_back |= self.subscriptions.values().any(|s| s.keeps);
        responses
    }

    /// Whether another push is due when the client has answered.
    pub fn holds_back(&self) -> bool {
        self.holds_back
    }

    /// Whether the client has not answered yet what it was sent of a type.
    fn awaits(&self, type_url: TypeUrl) -> bool {
        self.subscriptions.get(&type_url).is_some_and(|s| s.outstanding.is_some())
    }

    fn respond(&mut self, type_url: TypeUrl, snapshot: &Snapshot, removing: bool) -> Option<DeltaResponse> {
        let subscription = self.subscriptions.get_mut(&type_url)?;
        let (resources, removed) = subscription.difference(type_url, snapshot, removing)?;
        let nonce = self.nonces.next();
        subscription.outstanding = Some(nonce.clone());
        if type_url == TypeUrl::Cluster {
            let sent: Vec<Arc<str>> = resources.iter().map(|r| r.name.clone()).collect();
            self.forget_endpoints(&sent);
        }
        Some(DeltaResponse { type_url, nonce, resources, removed })
    }

    /// A cluster that is sent warms anew and needs its endpoints anew.
    fn forget_endpoints(&mut self, clusters: &[Arc<str>]) {
        if let Some(endpoints) = self.subscriptions.get_mut(&TypeUrl::Endpoint) {
            for name in clusters {
                endpoints.deviations.insert(name.clone(), None);
            }
        }
    }
}

impl Subscription {
    /// Applies the names of a request; whether it asked for anything.
    fn change(&mut self, request: &DeltaDiscoveryRequest) -> bool {
        for name in &request.resource_names_subscribe {
            if name == "*" {
                self.widen();
                continue;
            }
            let name: Arc<str> = name.as_str().into();
            // A name that is subscribed to again is sent again: the client may have dropped it meanwhile.
            if request.initial_resource_versions.is_empty() {
                self.deviations.insert(name.clone(), None);
            }
            self.asked.insert(name.clone());
            self.names.insert(name);
        }
        for name in &request.resource_names_unsubscribe {
            if name == "*" {
                self.wildcard = false;
                let names = &self.names;
                self.deviations.retain(|name, _| names.contains(name));
                continue;
            }
            self.names.remove(name.as_str());
            self.asked.remove(name.as_str());
            if !self.wildcard {
                self.deviations.remove(name.as_str());
            }
        }
        !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty()
    }

    /// Everything is asked for, of which the client has only what it named.
    fn widen(&mut self) {
        if !self.wildcard {
            let all = self.base.iter().flat_map(|part| part.keys());
            let unknown: Vec<_> = all.filter(|name| !self.names.contains(*name)).cloned().collect();
            self.deviations.extend(unknown.into_iter().map(|name| (name, None)));
        }
        self.wildcard = true;
    }

    /// The version that the client has of what is in `base` under this name.
    fn held<'a>(&'a self, name: &str, base: Option<&'a Arc<Resource>>) -> Option<&'a Arc<str>> {
        match self.deviations.get(name) {
            Some(version) => version.as_ref(),
            None => base.filter(|_| self.wants(name)).map(|resource| &resource.version),
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// What has changed, or `None` if nothing has and no answer is owed. What is gone is told only if `removing`, or if
    /// the client asked for it.
    fn difference(&mut self, type_url: TypeUrl, snapshot: &Snapshot, removing: bool) -> Option<Difference> {
        let parts = snapshot.parts(type_url);
        let mut doubtful: BTreeSet<Arc<str>> = differing(&self.base, parts);
        doubtful.extend(self.deviations.keys().chain(&self.asked).cloned());
        let (mut changed, mut removed, mut kept) = (Vec::new(), Vec::new(), BTreeMap::new());
        for name in doubtful {
            let held = self.held(&name, find(&self.base, &name));
            match find(parts, &name) {
                Some(resource) if self.wants(&name) => {
                    if held != Some(&resource.version) {
                        changed.push(resource.clone());
                    }
                    // The client's name gives way to the one that everybody shares.
                    if self.names.remove(&name) {
                        self.names.insert(resource.name.clone());
                    }
                }
                Some(_) => {}
                None if held.is_some() && !removing && !self.asked.contains(&name) => {
                    let held = held.cloned();
                    kept.insert(name, held);
                }
                None if held.is_some() || self.asked.contains(&name) => removed.push(name),
                None => {}
            }
        }
        self.base = parts.to_vec();
        self.keeps = !kept.is_empty();
        self.deviations = kept;
        self.asked.clear();
        if changed.is_empty() && removed.is_empty() && self.answered {
            return None;
        }
        self.answered = true;
        Some((changed, removed))
    }
}

fn find<'a>(parts: &'a [Arc<Resources>], name: &str) -> Option<&'a Arc<Resource>> {
    parts.iter().find_map(|part| part.get(name))
}

/// The names under which there may be something else. What is at the same place in memory is the same, so the cost is that
/// of comparing addresses.
fn differing(old: &[Arc<Resources>], new: &[Arc<Resources>]) -> BTreeSet<Arc<str>> {
    let mut names = BTreeSet::new();
    for i in 0..old.len().max(new.len()) {
        match (old.get(i), new.get(i)) {
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {}
            (Some(old), Some(new)) => compare(old, new, &mut names),
            (Some(only), None) | (None, Some(only)) => names.extend(only.keys().cloned()),
            (None, None) => {}
        }
    }
    names
}

/// Walks through two maps, which are in the same order, side by side.
fn compare(old: &Resources, new: &Resources, names: &mut BTreeSet<Arc<str>>) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) if Arc::ptr_eq(a, b) => Ordering::Equal,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let before = if order == Ordering::Greater { None } else { old.next() };
        let after = if order == Ordering::Less { None } else { new.next() };
        match (before, after) {
            (Some((_, a)), Some((_, b))) if Arc::ptr_eq(a, b) => {}
            (_, Some((name, _))) | (Some((name, _)), None) => drop(names.insert(name.clone())),
            (None, None) => {}
        }
    }
}
