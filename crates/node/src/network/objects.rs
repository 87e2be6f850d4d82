//! The Services and EndpointSlices of the cluster, as last seen.

use std::collections::BTreeMap;

use api::NamespacedName;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

/// The label by which an EndpointSlice says whose endpoints it has.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What is known of the cluster. Kept, and served from, while the API server is away.
#[derive(Default)]
pub(super) struct Objects {
    services: Mirror<Service>,
    slices: Mirror<EndpointSlice>,
    /// The slices' names by their services' names.
    by_service: BTreeMap<NamespacedName, Vec<NamespacedName>>,
}

impl Objects {
    pub(super) fn services(&self) -> impl Iterator<Item = (&NamespacedName, &Service)> {
        self.services.current.iter()
    }

    /// The slices of one service that have IPv4 addresses.
    pub(super) fn slices(&self, service: &NamespacedName) -> impl Iterator<Item = &EndpointSlice> {
        let names = self.by_service.get(service).into_iter().flatten();
        names.filter_map(|name| self.slices.current.get(name)).filter(|slice| slice.address_type == "IPv4")
    }

    /// Takes a change in. Says whether it shows.
    pub(super) fn take_service(&mut self, event: Event<Service>) -> bool {
        self.services.take(event)
    }

    /// Takes a change in. Says whether it shows.
    pub(super) fn take_slice(&mut self, event: Event<EndpointSlice>) -> bool {
        let shows = self.slices.take(event);
        if shows {
            self.by_service.clear();
            for (name, slice) in &self.slices.current {
                if let Some(service) = slice.labels().get(SERVICE_NAME) {
                    let service = NamespacedName::new(name.namespace.clone(), service.clone());
                    self.by_service.entry(service).or_default().push(name.clone());
                }
            }
        }
        shows
    }

    /// Whether both kinds have been listed once.
    pub(super) fn are_complete(&self) -> bool {
        self.services.listed && self.slices.listed
    }
}

/// The objects of one kind.
struct Mirror<K> {
    current: BTreeMap<NamespacedName, K>,
    /// What a list that is under way has brought so far; it takes the place of `current` when it is complete.
    incoming: BTreeMap<NamespacedName, K>,
    listed: bool,
}

impl<K> Default for Mirror<K> {
    fn default() -> Mirror<K> {
        Mirror { current: BTreeMap::new(), incoming: BTreeMap::new(), listed: false }
    }
}

impl<K: Resource> Mirror<K> {
    fn take(&mut self, event: Event<K>) -> bool {
        match event {
            Event::Init => {
                self.incoming.clear();
                // Only asked for: whether it is answered is not known yet.
                return false;
            }
            Event::InitApply(object) => insert(&mut self.incoming, object),
            Event::InitDone => {
                self.current = std::mem::take(&mut self.incoming);
                self.listed = true;
            }
            Event::Apply(object) => insert(&mut self.current, object),
            Event::Delete(object) => {
                self.current.remove(&name(&object));
            }
        }
        self.incoming.is_empty() && self.listed
    }
}

fn insert<K: Resource>(map: &mut BTreeMap<NamespacedName, K>, mut object: K) {
    // Nobody here reads them, and they are the larger part of many an object.
    object.managed_fields_mut().clear();
    object.annotations_mut().clear();
    map.insert(name(&object), object);
}

fn name<K: Resource>(object: &K) -> NamespacedName {
    NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any())
}
