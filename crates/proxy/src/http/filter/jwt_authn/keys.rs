//! Keys that are fetched, once for all workers.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use http::uri::Uri;
use http::{Request, StatusCode, header};
use hyper::body::Bytes;
use tokio::time::Instant;

use crate::config::http::{Jwks, RemoteJwks};
use crate::http::errand::call;
use crate::metrics::JwtAuthnStats;
use crate::upstream::Establish;

/// Where keys come from: a cluster, and what is asked there.
type Source = (Arc<str>, Uri);

/// Keys by where they come from.
#[derive(Debug, Default)]
pub(crate) struct KeyStore {
    known: ArcSwap<HashMap<Source, Fetched>>,
    /// Who holds the lock of a source asks there; when nobody got anything is noted in it.
    asking: Mutex<HashMap<Source, Arc<tokio::sync::Mutex<Option<Instant>>>>>,
}

#[derive(Debug, Clone)]
struct Fetched {
    keys: Arc<Jwks>,
    until: Instant,
}

impl KeyStore {
    /// Keys that are there and still good.
    pub(crate) fn get(&self, remote: &RemoteJwks) -> Option<Arc<Jwks>> {
        let known = self.known.load();
        let fetched = known.get(&source(remote))?;
        (Instant::now() < fetched.until).then(|| fetched.keys.clone())
    }

    /// Fetches keys, unless they are there. Whoever wants them while somebody asks for them waits for that answer.
    pub(crate) async fn fetch(&self, remote: &RemoteJwks, cluster: Option<Rc<Establish>>, stats: &JwtAuthnStats) {
        let begun = Instant::now();
        let asking = {
            // A panic elsewhere cannot have left a map half changed.
            let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            asking.entry(source(remote)).or_default().clone()
        };
        let mut failed = asking.lock().await;
        if self.get(remote).is_some() || failed.is_some_and(|failed| failed >= begun) {
            return;
        }
        let Some(keys) = ask(remote, cluster).await else {
            stats.jwks_fetch_failed.inc();
            *failed = Some(Instant::now());
            return;
        };
        stats.jwks_fetch_success.inc();
        let fetched = Fetched { keys: Arc::new(keys), until: Instant::now() + remote.cache_duration };
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.insert(source(remote), fetched.clone());
            known
        });
    }
}

fn source(remote: &RemoteJwks) -> Source {
    (remote.cluster.clone(), remote.uri.clone())
}

async fn ask(remote: &RemoteJwks, cluster: Option<Rc<Establish>>) -> Option<Jwks> {
    let answer = call(&cluster?, question(remote).ok()?, remote.timeout).await?;
    if answer.status() == StatusCode::OK { Jwks::parse(answer.body()) } else { None }
}

fn question(remote: &RemoteJwks) -> Result<Request<Bytes>, http::Error> {
    let authority = remote.uri.authority().map_or("", |authority| authority.as_str());
    let path = remote.uri.path_and_query().map_or("/", |path| path.as_str());
    Request::get(path).header(header::HOST, authority).body(Bytes::new())
}
