//! The state-of-the-world variant, at the server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BytesMut;

use super::encoding::{Encoding, Form, encode_bytes};
use super::{Heard, Nonces, Resource, Snapshot};
use crate::TypeUrl;
use crate::envoy::service::discovery::v3::DiscoveryRequest;

/// One client's subscriptions, on one stream.
#[derive(Debug, Default)]
pub struct StateOfTheWorldServer {
    subscriptions: BTreeMap<TypeUrl, Subscription>,
    nonces: Nonces,
    /// Whether the last push left something for when the client has answered.
    holds_back: bool,
}

#[derive(Debug, Default)]
struct Subscription {
    /// `None` asks for everything.
    names: Option<BTreeSet<Arc<str>>>,
    /// What was sent last; `None` before the first response.
    sent: Option<Vec<Arc<Resource>>>,
    /// Whether something is among it that is gone.
    keeps: bool,
    outstanding: Option<(String, String)>,
    /// How often this type was sent, for `version_info`.
    version: u64,
}

/// What is sent: all resources of a type that the client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldResponse {
    /// The type of everything in it.
    pub type_url: TypeUrl,
    /// Increases with every response of the type.
    pub version: String,
    /// Repeated by the client in its answer.
    pub nonce: String,
    /// Everything that exists of what was asked for.
    pub resources: Vec<Arc<Resource>>,
}

impl WorldResponse {
    /// The encoded `DiscoveryResponse`.
    pub fn encode(self) -> Encoding {
        let mut head = BytesMut::new();
        encode_bytes(1, self.version.as_bytes(), &mut head);
        encode_bytes(4, self.type_url.as_str().as_bytes(), &mut head);
        encode_bytes(5, self.nonce.as_bytes(), &mut head);
        Encoding::new(head, self.resources, Form::World)
    }
}

impl StateOfTheWorldServer {
    /// Takes a request in. Responses are made by [`StateOfTheWorldServer::push`].
    pub fn hear(&mut self, request: &DiscoveryRequest) -> Heard {
        let Some(type_url) = TypeUrl::parse(&request.type_url) else { return Heard::Unknown(request.type_url.clone()) };
        let subscription = self.subscriptions.entry(type_url).or_default();
        let first = request.response_nonce.is_empty();
        let current = subscription.outstanding.as_ref().is_some_and(|(nonce, _)| *nonce == request.response_nonce);
        let answered = subscription.sent.is_some() && subscription.outstanding.is_none();
        if !first && !current && !answered {
            return Heard::Stale(type_url);
        }
        let asks = subscription.ask(type_url, request) || first;
        if let (true, Some(error)) = (current, &request.error_detail) {
            subscription.outstanding = None;
            return Heard::Rejected(type_url, error.message.clone());
        }
        // A request that repeats the nonce with an older version follows a rejection and accepts nothing.
        let accepts = current && subscription.outstanding.as_ref().is_some_and(|(_, v)| *v == request.version_info);
        if current {
            subscription.outstanding = None;
        }
        match (asks, accepts) {
            (true, _) => Heard::Subscribed(type_url),
            (false, true) => Heard::Acknowledged(type_url),
            (false, false) => Heard::Stale(type_url),
        }
    }

    /// The responses that bring the client towards `snapshot`, in the order in which they must be sent, and as far as
    /// they may be: see [`super::DeltaServer::push`].
    pub fn push(&mut self, snapshot: &Snapshot) -> Vec<WorldResponse> {
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
            responses.extend(self.respond(TypeUrl::Cluster, snapshot, true));
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

    fn respond(&mut self, type_url: TypeUrl, snapshot: &Snapshot, removing: bool) -> Option<WorldResponse> {
        let subscription = self.subscriptions.get_mut(&type_url)?;
        let resources = subscription.difference(type_url, snapshot, removing)?;
        let nonce = self.nonces.next();
        subscription.version += 1;
        let version = subscription.version.to_string();
        subscription.outstanding = Some((nonce.clone(), version.clone()));
        if type_url == TypeUrl::Cluster
            && let Some(endpoints) = self.subscriptions.get_mut(&TypeUrl::Endpoint)
        {
            endpoints.sent = None;
        }
        Some(WorldResponse { type_url, version, nonce, resources })
    }
}

impl Subscription {
    /// Takes the request's names; whether they differ from before.
    fn ask(&mut self, type_url: TypeUrl, request: &DiscoveryRequest) -> bool {
        let names: BTreeSet<Arc<str>> = request.resource_names.iter().map(|n| n.as_str().into()).collect();
        let wildcard = type_url.has_wildcard() && (names.is_empty() || names.contains("*"));
        let names = if wildcard { None } else { Some(names) };
        let differs = names != self.names;
        if differs {
            // Envoy waits for an answer to every name that it adds, even to one that does not exist.
            self.sent = None;
        }
        self.names = names;
        differs
    }

    /// What is to be sent, if it is not what was. What is gone is left out only if `removing`; of endpoints what is left
    /// out stays with the client in any case.
    fn difference(&mut self, type_url: TypeUrl, snapshot: &Snapshot, removing: bool) -> Option<Vec<Arc<Resource>>> {
        let mut resources: Vec<Arc<Resource>> = match &self.names {
            None => snapshot.of(type_url).cloned().collect(),
            Some(names) => names.iter().filter_map(|n| snapshot.get(type_url, n)).cloned().collect(),
        };
        self.keeps = false;
        if type_url == TypeUrl::Cluster && !removing {
            let present: BTreeSet<&str> = resources.iter().map(|r| &*r.name).collect();
            let sent = self.sent.iter().flatten();
            let kept: Vec<_> = sent.filter(|r| !present.contains(&*r.name)).cloned().collect();
            self.keeps = !kept.is_empty();
            resources.extend(kept);
        }
        let same = |a: &Arc<Resource>, b: &Arc<Resource>| a.name == b.name && a.version == b.version;
        let sent = self.sent.as_ref();
        if sent.is_some_and(|s| s.len() == resources.len() && s.iter().zip(&resources).all(|(a, b)| same(a, b))) {
            return None;
        }
        self.sent = Some(resources.clone());
        Some(resources)
    }
}
