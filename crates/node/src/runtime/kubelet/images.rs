//! The catalog as the kubelet sees it: read again when its file changes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::runtime::catalog::{Catalog, CatalogError};

/// How often the file is looked at.
const POLL: Duration = Duration::from_millis(500);

/// A catalog or why there is none, with the time of the file that it was read from.
type Loaded = (Option<SystemTime>, Result<Arc<Catalog>, Arc<CatalogError>>);

pub(super) struct Images {
    home: PathBuf,
    loaded: Mutex<Option<Loaded>>,
}

impl Images {
    pub(super) fn new(home: PathBuf) -> Images {
        Images { home, loaded: Mutex::new(None) }
    }

    fn modified(&self) -> Option<SystemTime> {
        std::fs::metadata(self.home.join("images.yaml")).and_then(|found| found.modified()).ok()
    }

    /// The catalog as its file is now.
    pub(super) fn current(&self) -> Result<Arc<Catalog>, Arc<CatalogError>> {
        let modified = self.modified();
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, catalog)) = loaded.as_ref().filter(|(time, _)| *time == modified) {
            return catalog.clone();
        }
        let catalog = Catalog::load(&self.home).map(Arc::new).map_err(Arc::new);
        *loaded = Some((modified, catalog.clone()));
        catalog
    }

    /// Returns when the catalog's file has changed.
    pub(super) async fn changed(&self) {
        let before = self.modified();
        while self.modified() == before {
            tokio::time::sleep(POLL).await;
        }
    }
}
