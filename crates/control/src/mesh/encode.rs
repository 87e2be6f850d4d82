//! Resources, encoded once.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use envoy::TypeUrl;
use envoy::ads::{Resource, Resources};
use prost::Message;
use sha2::{Digest, Sha256};

/// Encodes resources, and gives out one copy of equal ones: most are the same for callers in every namespace. A version
/// is a hash of the content, so that a proxy that comes back, to whichever control plane, is sent nothing it has.
#[derive(Default)]
pub(super) struct Encoder {
    known: HashMap<Arc<str>, Weak<Resource>>,
}

impl Encoder {
    /// The resources of a type. Those that `old` has in the same version are taken from there, and `old` itself if
    /// nothing differs.
    pub(super) fn all<M: Message>(
        &mut self,
        type_url: TypeUrl,
        messages: impl IntoIterator<Item = (String, M)>,
        old: Option<&Arc<Resources>>,
    ) -> Arc<Resources> {
        let encoded = messages.into_iter().map(|(name, message)| {
            let resource = self.one(type_url, &name, &message);
            (resource.name().clone(), resource)
        });
        let new: Resources = encoded.collect();
        match old {
            Some(old) if same(old, &new) => old.clone(),
            _ => Arc::new(new),
        }
    }

    /// `old` with some of its resources made anew; `None` if one of these was not there.
    pub(super) fn some<M: Message>(
        &mut self,
        type_url: TypeUrl,
        messages: impl IntoIterator<Item = (String, M)>,
        old: &Arc<Resources>,
    ) -> Option<Arc<Resources>> {
        let mut changed = Vec::new();
        for (name, message) in messages {
            let known = old.get(name.as_str())?;
            let resource = self.one(type_url, &name, &message);
            if !Arc::ptr_eq(known, &resource) {
                changed.push(resource);
            }
        }
        if changed.is_empty() {
            return Some(old.clone());
        }
        let mut new = Resources::clone(old);
        for resource in changed {
            // The key of the map stays, so that what is the same is seen to be by its address.
            new.entry(resource.name().clone()).and_modify(|held| *held = resource.clone());
        }
        Some(Arc::new(new))
    }

    fn one(&mut self, type_url: TypeUrl, name: &str, message: &impl Message) -> Arc<Resource> {
        let bytes = message.encode_to_vec();
        let version = version(type_url, &bytes);
        if let Some(known) = self.known.get(version.as_str()).and_then(Weak::upgrade) {
            return known;
        }
        let resource = Arc::new(Resource::new(type_url, name, &version, &bytes));
        self.known.insert(resource.version().clone(), Arc::downgrade(&resource));
        resource
    }

    /// Forgets what nobody has any more.
    pub(super) fn sweep(&mut self) {
        self.known.retain(|_, resource| resource.strong_count() > 0);
    }
}

/// Whether both have the very same resources.
fn same(a: &Resources, b: &Resources) -> bool {
    a.len() == b.len() && a.values().zip(b.values()).all(|(a, b)| Arc::ptr_eq(a, b))
}

fn version(type_url: TypeUrl, bytes: &[u8]) -> String {
    let hash = Sha256::new().chain_update(type_url.as_str()).chain_update(bytes).finalize();
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use envoy::envoy::config::cluster::v3::Cluster;

    use super::*;

    fn cluster(name: &str) -> (String, Cluster) {
        (name.to_owned(), Cluster { name: name.to_owned(), ..Cluster::default() })
    }

    #[test]
    fn equal_resources_are_one_and_equal_sets_too() {
        let mut encoder = Encoder::default();
        let first = encoder.all(TypeUrl::Cluster, [cluster("a"), cluster("b")], None);
        let other = encoder.all(TypeUrl::Cluster, [cluster("b")], None);
        assert!(Arc::ptr_eq(&first["b"], &other["b"]));
        assert!(Arc::ptr_eq(&first, &encoder.all(TypeUrl::Cluster, [cluster("a"), cluster("b")], Some(&first))));
        let changed = ("b".to_owned(), Cluster { alt_stat_name: "x".to_owned(), ..cluster("b").1 });
        let patched = encoder.some(TypeUrl::Cluster, [changed.clone()], &first).unwrap();
        assert!(Arc::ptr_eq(&patched["a"], &first["a"]) && !Arc::ptr_eq(&patched["b"], &first["b"]));
        assert!(Arc::ptr_eq(&encoder.some(TypeUrl::Cluster, [cluster("a")], &first).unwrap(), &first));
        assert!(encoder.some(TypeUrl::Cluster, [changed, cluster("c")], &first).is_none());
        drop((first, other, patched));
        encoder.sweep();
        assert!(encoder.known.is_empty());
    }
}
