//! The resources of one type, by name, each with what is in force and what is to follow it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use envoy::TypeUrl;
use envoy::envoy::config::{cluster, endpoint, listener, route};
use envoy::envoy::extensions::transport_sockets::tls;
use prost::Message;
use prost_types::Any;

use super::Offered;
use crate::config::http::RouteTable;
use crate::config::{Cluster, Listener, LoadAssignment, Rejected, Secret};

/// A resource in force, with what it was made from.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The resource.
    pub config: Arc<T>,
    /// The message that it was made from.
    pub message: Arc<Any>,
    /// The version that the server gave it.
    pub version: Arc<str>,
}

impl<T> Clone for Loaded<T> {
    fn clone(&self) -> Loaded<T> {
        Loaded { config: self.config.clone(), message: self.message.clone(), version: self.version.clone() }
    }
}

/// What is in force, and what follows it once it is complete; at least one of the two.
#[derive(Debug)]
struct Slot<T> {
    active: Option<Loaded<T>>,
    warming: Option<Loaded<T>>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Slot<T> {
        Slot { active: self.active.clone(), warming: self.warming.clone() }
    }
}

/// The resources of one type.
#[derive(Debug)]
pub(super) struct Slots<T>(HashMap<Arc<str>, Slot<T>>);

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots(HashMap::new())
    }
}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Slots<T> {
        Slots(self.0.clone())
    }
}

impl<T> Slots<T> {
    pub(super) fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.0.get(name)?.active.as_ref().map(|l| &l.config)
    }

    pub(super) fn active(&self) -> BTreeMap<&str, &Loaded<T>> {
        self.0.iter().filter_map(|(name, slot)| Some((&**name, slot.active.as_ref()?))).collect()
    }

    pub(super) fn warming(&self) -> impl Iterator<Item = (&str, &Loaded<T>)> {
        self.0.iter().filter_map(|(name, slot)| Some((&**name, slot.warming.as_ref()?)))
    }

    pub(super) fn has_version(&self, name: &str, version: &str) -> bool {
        let slot = self.0.get(name);
        slot.is_some_and(|slot| slot.active.iter().chain(&slot.warming).any(|l| *l.version == *version))
    }

    /// Everything in force or to follow.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values().flat_map(|slot| slot.active.iter().chain(&slot.warming)).map(|l| &l.config)
    }

    /// Whether a resource is announced, but none of its versions has been in force yet.
    pub(super) fn is_first_warming(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|slot| slot.active.is_none())
    }

    /// Lets a resource follow what is in force.
    pub(super) fn warm(&mut self, decoded: Decoded<T>) {
        let (name, loaded) = decoded.into_loaded();
        let active = self.0.remove(&name).and_then(|slot| slot.active);
        self.0.insert(name, Slot { active, warming: Some(loaded) });
    }

    /// Puts a resource in force.
    pub(super) fn set(&mut self, decoded: Decoded<T>) {
        let (name, loaded) = decoded.into_loaded();
        self.0.insert(name, Slot { active: Some(loaded), warming: None });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub(super) fn promote(&mut self, names: &[Arc<str>]) {
        for name in names {
            if let Some(slot) = self.0.get_mut(name)
                && let Some(loaded) = slot.warming.take()
            {
                slot.active = Some(loaded);
            }
        }
    }
}

/// A resource that was decoded and found good.
pub(super) struct Decoded<T> {
    pub(super) config: T,
    name: Arc<str>,
    message: Any,
    version: String,
}

/// A type of resource: which message it comes as, and what it is called.
pub(super) trait Kind: Sized {
    type Message: Message + Default + TryInto<Self, Error = Rejected>;
    const TYPE_URL: TypeUrl;

    fn name(&self) -> &Arc<str>;
}

impl Kind for Listener {
    type Message = listener::v3::Listener;
    const TYPE_URL: TypeUrl = TypeUrl::Listener;

    fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl Kind for Cluster {
    type Message = cluster::v3::Cluster;
    const TYPE_URL: TypeUrl = TypeUrl::Cluster;

    fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl Kind for LoadAssignment {
    type Message = endpoint::v3::ClusterLoadAssignment;
    const TYPE_URL: TypeUrl = TypeUrl::Endpoint;

    fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl Kind for RouteTable {
    type Message = route::v3::RouteConfiguration;
    const TYPE_URL: TypeUrl = TypeUrl::Route;

    fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl Kind for Secret {
    type Message = tls::v3::Secret;
    const TYPE_URL: TypeUrl = TypeUrl::Secret;

    fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl<T: Kind> Decoded<T> {
    /// Decodes and checks a resource. `None` if the same message is the last that `slots` took: then nothing changes,
    /// and no connection has to be drained.
    pub(super) fn new(offered: Offered, slots: &Slots<T>) -> Result<Option<Decoded<T>>, Rejected> {
        let refuse = |reason: String| Rejected { field: String::new(), reason };
        let message = offered.message.ok_or_else(|| refuse("the resource has no message".to_owned()))?;
        let slot = slots.0.get(offered.name.as_str());
        let last = slot.and_then(|s| s.warming.as_ref().or(s.active.as_ref()));
        if last.is_some_and(|l| *l.message == message) {
            return Ok(None);
        }
        if message.type_url != T::TYPE_URL.as_str() {
            return Err(refuse(format!("the message is a {:?}, not a {:?}", message.type_url, T::TYPE_URL.as_str())));
        }
        let decoded = T::Message::decode(message.value.as_slice());
        let config: T = decoded.map_err(|e| refuse(format!("cannot be decoded: {e}")))?.try_into()?;
        let name = config.name().clone();
        if *name != offered.name {
            return Err(refuse(format!("the resource {:?} has a message named {name:?}", offered.name)));
        }
        Ok(Some(Decoded { config, name, message, version: offered.version }))
    }
}

impl<T> Decoded<T> {
    fn into_loaded(self) -> (Arc<str>, Loaded<T>) {
        let loaded =
            Loaded { config: Arc::new(self.config), message: Arc::new(self.message), version: self.version.into() };
        (self.name, loaded)
    }
}
