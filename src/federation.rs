//! A federation's home: which clusters it has, on which ports and addresses, and which processes are alive.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use api::{AddressPlan, ClusterIndex};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::cli::HomeArg;
use crate::data_plane::DataPlane;

/// What a federation remembers of one cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) index: ClusterIndex,
    /// The loopback port of its API server.
    pub(crate) port: u16,
}

/// `federation.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Federation {
    pub(crate) plan: AddressPlan,
    /// What sidecars run.
    #[serde(default)]
    pub(crate) data_plane: DataPlane,
    pub(crate) clusters: BTreeMap<String, Member>,
}

/// The directory of one federation.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

impl HomeArg {
    /// The home that the command line, the environment or the platform's convention names.
    pub(crate) fn resolve(&self) -> anyhow::Result<Home> {
        if let Some(dir) = &self.home {
            return Ok(Home(std::path::absolute(dir)?));
        }
        let user = std::env::var_os("HOME").filter(|v| !v.is_empty());
        let user = user.context("HOME is not set; name the federation's directory with --home DIR")?;
        Ok(Home(std::path::absolute(PathBuf::from(user).join(".isthmus"))?))
    }
}

impl Home {
    pub(crate) fn new(path: PathBuf) -> Home {
        Home(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn cluster(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    fn file(&self) -> PathBuf {
        self.0.join("federation.json")
    }

    /// Makes the directory, for its owner alone: it holds keys.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.with_context(|| format!("cannot make the home {}; choose another with --home DIR", self.0.display()))
    }

    /// The federation of this home, if there is one.
    pub(crate) fn load(&self) -> anyhow::Result<Option<Federation>> {
        let path = self.file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let parsed = serde_json::from_str(&text);
        parsed
            .map(Some)
            .with_context(|| format!("{} is damaged; `isthmus down --delete` removes this home", path.display()))
    }

    /// Like [`Home::load`], for commands that need a federation.
    pub(crate) fn expect(&self) -> anyhow::Result<Federation> {
        let found = self.load()?;
        found.with_context(|| format!("there is no federation in {}; start one with `isthmus up`", self.0.display()))
    }

    pub(crate) fn save(&self, federation: &Federation) -> anyhow::Result<()> {
        write_atomically(&self.file(), serde_json::to_string_pretty(federation)?.as_bytes())
    }

    /// Held while a command changes the federation, so that two commands do not start the same cluster twice.
    pub(crate) fn lock(&self) -> anyhow::Result<LockFile> {
        wait_for_lock(&self.0.join("lock"), &format!("another isthmus command is at work on {}", self.0.display()))
    }
}

impl Federation {
    /// An empty federation on addresses that no other federation of this machine uses.
    pub(crate) fn new() -> anyhow::Result<Federation> {
        Ok(Federation {
            plan: AddressPlan { slot: free_slot()? },
            data_plane: DataPlane::Native,
            clusters: BTreeMap::new(),
        })
    }

    /// Before the outer network is made anew: moves to other addresses if another federation has taken these meanwhile.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        if has_link(self.plan.slot) {
            self.plan.slot = free_slot()?;
        }
        Ok(())
    }

    /// Adds a cluster, or finds it again.
    pub(crate) fn admit(&mut self, name: &str) -> anyhow::Result<()> {
        if self.clusters.contains_key(name) {
            return Ok(());
        }
        let taken: Vec<ClusterIndex> = self.clusters.values().map(|m| m.index).collect();
        let free = (1..=ClusterIndex::MAX).filter_map(|n| ClusterIndex::try_from(n).ok()).find(|i| !taken.contains(i));
        let Some(index) = free else { bail!("a federation has at most {} clusters", ClusterIndex::MAX) };
        self.clusters.insert(name.to_owned(), Member { index, port: free_port()? });
        Ok(())
    }
}

/// Names of files in the home that a cluster's directory must not shadow.
const RESERVED: &[&str] = &["lock", "kubeconfig"];

/// Checks a cluster's name: it is a directory, a context and part of host names.
pub(crate) fn cluster_name(name: &str) -> Result<String, String> {
    api::name::check_label(name)?;
    if RESERVED.contains(&name) {
        return Err("this name is reserved; choose another".to_owned());
    }
    Ok(name.to_owned())
}

/// As root, federations share the host's routes, so each takes its own slot; without root every federation has an
/// outer network that nobody else sees.
fn free_slot() -> anyhow::Result<u8> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(0);
    }
    (0..AddressPlan::SLOTS).find(|slot| !has_link(*slot)).context("32 federations run on this machine already")
}

/// Whether a federation of root uses the slot now.
fn has_link(slot: u8) -> bool {
    nix::unistd::geteuid().is_root() && Path::new("/sys/class/net").join(format!("isthmus{slot}")).exists()
}

/// Held from the choice of a slot until its link exists, so that two federations of root never choose the same.
pub(crate) fn lock_slots() -> anyhow::Result<Option<LockFile>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    wait_for_lock(Path::new("/run/isthmus-slots.lock"), "another federation is being started").map(Some)
}

/// A loopback port that is free now and stays so: no outgoing connection is given one of these, nor is a node port
/// among them. Where all that are tried are taken, it is any free port.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    const PORTS: std::ops::Range<u16> = 16_000..30_000;
    const ATTEMPTS: usize = 32;
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr());
    let random = |_| PORTS.start + (RandomState::new().hash_one(()) % PORTS.len() as u64) as u16;
    let address = (0..ATTEMPTS).map(random).chain([0]).find_map(|port| free(port).ok());
    Ok(address.context("no port of 127.0.0.1 is free")?.port())
}

/// Takes a lock that others hold for moments; `why` is told when it takes too long.
fn wait_for_lock(path: &Path, why: &str) -> anyhow::Result<LockFile> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(lock) = LockFile::take(path)? {
            return Ok(lock);
        }
        ensure!(Instant::now() < deadline, "{why}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Replaces a file so that a reader sees the old or the new content, also after a power loss.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A lock that names its holder: it is held for as long as the holding process lives.
pub(crate) struct LockFile {
    _lock: Flock<File>,
}

impl LockFile {
    /// Takes the lock and writes this process's id into it; `None` if another process holds it.
    pub(crate) fn take(path: &Path) -> anyhow::Result<Option<LockFile>> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.with_context(|| format!("cannot open {}", path.display()))?;
        let mut lock = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                // Whoever only looks shares the lock for a moment.
                Err((back, Errno::EWOULDBLOCK)) => match Flock::lock(back, FlockArg::LockSharedNonblock) {
                    Ok(shared) => file = shared.unlock().map_err(|(_, e)| e)?,
                    Err(_) => return Ok(None),
                },
                Err((_, e)) => return Err(e).with_context(|| format!("cannot lock {}", path.display())),
            }
        };
        lock.set_len(0)?;
        lock.seek(SeekFrom::Start(0))?;
        write!(lock, "{}", std::process::id())?;
        Ok(Some(LockFile { _lock: lock }))
    }

    /// The process that holds the lock at `path`, if one does.
    pub(crate) fn holder(path: &Path) -> Option<Pid> {
        let mut file = OpenOptions::new().read(true).write(true).open(path).ok()?;
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => None,
            Err(_) => text.trim().parse().ok().map(Pid::from_raw),
        }
    }
}

/// The file whose lock a live cluster process holds.
pub(crate) fn cluster_lock(home: &Home, cluster: &str) -> PathBuf {
    home.cluster(cluster).join("cluster.lock")
}

/// Ends the process that holds the lock at `path`: asks, waits, then kills.
pub(crate) fn end_holder(path: &Path) -> anyhow::Result<()> {
    for (signal, patience) in [(Signal::SIGTERM, 5), (Signal::SIGKILL, 5)] {
        let Some(pid) = LockFile::holder(path) else { return Ok(()) };
        // The process may end between the look and the signal; the loop below sees it.
        let _ = kill(pid, signal);
        let deadline = Instant::now() + Duration::from_secs(patience);
        while Instant::now() < deadline {
            if LockFile::holder(path).is_none() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    bail!("the process that holds {} does not end", path.display())
}
