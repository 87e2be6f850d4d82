//! Files that secrets are made of, read again when they change.
//!
//! They are looked at from time to time: a volume is replaced by turning a symbolic link to its directory, which no
//! watch on the file itself would tell.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use envoy::envoy::extensions::transport_sockets::tls::v3::Secret;
use pki::Certificate;

use crate::secret_table::{ROOTS, SecretTable, certificate, revoking, trust};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where systems keep the authorities that they trust.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A secret that is made of files.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// Roots, and what they have revoked.
    Trust(PathBuf, Option<PathBuf>),
    /// A chain and its key.
    Certificate(PathBuf, PathBuf),
}

/// What is known of a file without reading it.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// Puts the mesh's roots, and whatever secret of files is wanted, into the table, for ever.
pub(crate) async fn follow(table: &SecretTable, roots: &Path) -> Infallible {
    let mut wanted = table.wanted();
    let mut stamps: BTreeMap<String, Stamp> = BTreeMap::new();
    loop {
        let names = wanted.borrow_and_update().clone();
        for (name, source) in sources(&names, roots) {
            let stamp = stamp(&source).await;
            if stamps.get(&name) == Some(&stamp) {
                continue;
            }
            match read(&name, &source).await {
                Ok(secret) => table.put(secret),
                // What was read before stays in use.
                Err(error) => tracing::warn!("secret {name}: {error}"),
            }
            stamps.insert(name, stamp);
        }
        // The names are part of the table, so that the sender lives for as long as this.
        let _another_name = tokio::time::timeout(LOOK, wanted.changed()).await;
    }
}

fn sources(names: &BTreeSet<String>, roots: &Path) -> Vec<(String, Source)> {
    let files = names.iter().filter_map(|name| Some((name.clone(), source(name)?)));
    files.chain([(ROOTS.to_owned(), Source::Trust(roots.to_owned(), None))]).collect()
}

/// The files of a secret, by its name as Istio writes it, `file-root:CA` or `file-cert:CHAIN~KEY`, or as the control plane
/// does where authorities have revoked certificates: `file-root:CA~CRL`.
fn source(name: &str) -> Option<Source> {
    if let Some(paths) = name.strip_prefix("file-root:") {
        let (roots, revoked) = paths.split_once('~').map_or((paths, None), |(roots, list)| (roots, Some(list)));
        let roots = if roots == "system" { system_roots() } else { roots.into() };
        return Some(Source::Trust(roots, revoked.map(PathBuf::from)));
    }
    let (chain, key) = name.strip_prefix("file-cert:")?.split_once('~')?;
    Some(Source::Certificate(chain.into(), key.into()))
}

fn system_roots() -> PathBuf {
    let mut known = SYSTEM.iter().map(PathBuf::from);
    known.find(|path| path.exists()).unwrap_or_else(|| SYSTEM[0].into())
}

/// The secret of a name that stands for files, with what `text` has of them; `None` if it stands for none, or one is
/// missing.
pub fn secret_of_files(name: &str, text: impl Fn(&Path) -> Option<String>) -> Option<Secret> {
    Some(match source(name)? {
        Source::Trust(roots, None) => trust(name, text(&roots)?),
        Source::Trust(roots, Some(list)) => revoking(trust(name, text(&roots)?), text(&list)?),
        Source::Certificate(chain, key) => {
            certificate(name, &Certificate { chain_pem: text(&chain)?, key_pem: Some(text(&key)?) })
        }
    })
}

impl Source {
    fn paths(&self) -> Vec<&Path> {
        match self {
            Source::Trust(roots, revoked) => {
                [Some(roots), revoked.as_ref()].into_iter().flatten().map(AsRef::as_ref).collect()
            }
            Source::Certificate(chain, key) => vec![chain, key],
        }
    }
}

async fn stamp(source: &Source) -> Stamp {
    let mut stamp = Vec::new();
    for path in source.paths() {
        let known = tokio::fs::metadata(path).await;
        stamp.push(known.ok().and_then(|known| Some((known.modified().ok()?, known.len()))));
    }
    stamp
}

async fn read(name: &str, source: &Source) -> io::Result<Secret> {
    let text = async |path: &Path| {
        let text = tokio::fs::read_to_string(path).await;
        text.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
    };
    Ok(match source {
        Source::Trust(roots, None) => trust(name, text(roots).await?),
        Source::Trust(roots, Some(list)) => revoking(trust(name, text(roots).await?), text(list).await?),
        Source::Certificate(chain, key) => {
            let pair = Certificate { chain_pem: text(chain).await?, key_pem: Some(text(key).await?) };
            certificate(name, &pair)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_secret_says_which_files_it_is() {
        assert_eq!(source("file-root:/etc/ca.pem"), Some(Source::Trust("/etc/ca.pem".into(), None)));
        let revoking = Source::Trust("/etc/ca.pem".into(), Some("/etc/crl.pem".into()));
        assert_eq!(source("file-root:/etc/ca.pem~/etc/crl.pem"), Some(revoking));
        let pair = Source::Certificate("/a/tls.crt".into(), "/a/tls.key".into());
        assert_eq!(source("file-cert:/a/tls.crt~/a/tls.key"), Some(pair));
        assert!(matches!(source("file-root:system"), Some(Source::Trust(path, None)) if path.is_absolute()));
        assert_eq!(source("file-cert:/a/tls.crt"), None);
        assert_eq!(source("default"), None);
    }

    #[tokio::test]
    async fn what_is_revoked_is_followed_like_who_is_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let [roots, ca, list] = ["root-cert.pem", "ca.pem", "crl.pem"].map(|name| dir.path().join(name));
        std::fs::write(&roots, "roots").unwrap();
        std::fs::write(&ca, "ca").unwrap();
        let name = format!("file-root:{}~{}", ca.display(), list.display());
        let table = SecretTable::default();
        table.want([name.clone()]);
        let followed = table.clone();
        let follower = tokio::spawn(async move { follow(&followed, &roots).await });
        let mut seen = table.subscribe();
        seen.wait_for(|entries| entries.contains_key(ROOTS)).await.unwrap();
        assert!(!seen.borrow().contains_key(&name), "nobody is trusted while nobody knows what is revoked");
        for (version, text) in [(1, "one"), (2, "another")] {
            std::fs::write(&list, text).unwrap();
            let entries = seen.wait_for(|all| all.get(&name).is_some_and(|e| e.version == version)).await.unwrap();
            let secret = revoking(trust(&name, "ca".to_owned()), text.to_owned());
            assert_eq!(*entries[&name].secret, secret);
        }
        follower.abort();
    }

    #[tokio::test]
    async fn a_changed_file_is_a_changed_secret() {
        let dir = tempfile::tempdir().unwrap();
        let (roots, other) = (dir.path().join("root-cert.pem"), dir.path().join("ca.pem"));
        std::fs::write(&roots, "one").unwrap();
        let table = SecretTable::default();
        let followed = table.clone();
        let follower = tokio::spawn(async move { follow(&followed, &roots).await });
        let mut seen = table.subscribe();
        seen.wait_for(|entries| entries.contains_key(ROOTS)).await.unwrap();
        let name = format!("file-root:{}", other.display());
        table.want([name.clone()]);
        std::fs::write(&other, "first").unwrap();
        seen.wait_for(|entries| entries.contains_key(&name)).await.unwrap();
        // A volume is replaced as a whole.
        let next = dir.path().join("next");
        std::fs::write(&next, "the second").unwrap();
        std::fs::rename(&next, &other).unwrap();
        seen.wait_for(|entries| entries[&name].version == 2).await.unwrap();
        std::fs::remove_file(&other).unwrap();
        table.want(["file-root:/nowhere".to_owned()]);
        assert_eq!(table.subscribe().borrow()[&name].version, 2, "what was read stays");
        follower.abort();
    }
}
