//! Keys that are fetched, as one worker has them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use http::uri::Uri;
use http::{Request, StatusCode, header};
use hyper::body::Bytes;
use tokio::time::Instant;

use crate::config::http::{Jwks, RemoteJwks};
use crate::http::errand::call;
use crate::metrics::JwtAuthnStats;
use crate::upstream::Establish;

/// Keys by where they come from.
#[derive(Debug, Default)]
pub(crate) struct KeyStore(RefCell<HashMap<(Arc<str>, Uri), Fetched>>);

#[derive(Debug)]
struct Fetched {
    keys: Arc<Jwks>,
    until: Instant,
}

impl KeyStore {
    /// Keys that are there and still good.
    pub(crate) fn get(&self, remote: &RemoteJwks) -> Option<Arc<Jwks>> {
        let fetched = self.0.borrow();
        let fetched = fetched.get(&(remote.cluster.clone(), remote.uri.clone()))?;
        (Instant::now() < fetched.until).then(|| fetched.keys.clone())
    }

    /// Fetches keys, unless they are there.
    pub(crate) async fn fetch(&self, remote: &RemoteJwks, cluster: Option<Rc<Establish>>, stats: &JwtAuthnStats) {
        if self.get(remote).is_some() {
            return;
        }
        let Some(keys) = ask(remote, cluster).await else {
            stats.jwks_fetch_failed.inc();
            return;
        };
        stats.jwks_fetch_success.inc();
        let fetched = Fetched { keys: Arc::new(keys), until: Instant::now() + remote.cache_duration };
        self.0.borrow_mut().insert((remote.cluster.clone(), remote.uri.clone()), fetched);
    }
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
