//! When resources came, for people who look at the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use envoy::TypeUrl;

/// The time at which each version of a resource came.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(BTreeMap<(TypeUrl, Arc<str>), BTreeMap<Arc<str>, SystemTime>>);

impl Arrivals {
    /// Notes a version of a resource, and forgets those of it that `kept` does not have.
    pub(super) fn note(
        &mut self,
        type_url: TypeUrl,
        name: &str,
        version: &str,
        now: SystemTime,
        kept: impl Fn(&str) -> bool,
    ) {
        let versions = self.0.entry((type_url, name.into())).or_default();
        versions.insert(version.into(), now);
        versions.retain(|version, _| kept(version));
    }

    /// Forgets a resource.
    pub(super) fn forget(&mut self, type_url: TypeUrl, name: &str) {
        self.0.remove(&(type_url, Arc::from(name)));
    }

    /// When a version of a resource came.
    pub(crate) fn at(&self, type_url: TypeUrl, name: &str, version: &str) -> Option<SystemTime> {
        self.0.get(&(type_url, Arc::from(name)))?.get(version).copied()
    }
}
