//! One cluster's network: the node's namespace, and the process that holds it.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use api::{AddressPlan, ClusterIndex};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::dns::{Server, Snapshot};
use super::follow::follow;
use super::forward::Forwards;
use super::link::{End, Links};
use super::namespace::Namespace;
use super::objects::Objects;
use super::outer::{self, OuterNetwork};
use super::process::{self, Living, Lock, Ready, Start};
use super::rules::Rules;
use super::services::Services;
use super::table::{self, Place, Table};
use super::{NetworkError, arguments, pod};

/// The bridge to the pods.
pub(super) const POD_BRIDGE: &str = "pods0";
const POD_BRIDGE_MAC: [u8; 6] = [0x02, 0x6e, 0, 0, 0, 1];
/// The node's link to the outer network.
pub(super) const UPLINK: &str = "uplink0";
/// The pause after a network process could not be replaced.
const RETRY: Duration = Duration::from_secs(1);

/// Which cluster's network, and where its processes keep their files.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The federation's home.
    pub home: PathBuf,
    /// The program that has the node's own processes as `internal NAME`.
    pub executable: PathBuf,
    /// The cluster's name; its files are in `home/<cluster>`.
    pub cluster: String,
    /// The federation's addresses.
    pub plan: AddressPlan,
    /// Which of them are this cluster's.
    pub index: ClusterIndex,
}

/// A cluster's network, as seen from the cluster process. The namespace itself, the nftables rules and cluster DNS
/// live on in a process of their own (`internal network`) when the cluster process dies. When that process dies,
/// another is started in its place, with a new and empty namespace: see [`ClusterNetwork::renewals`].
/// Cheap to clone.
#[derive(Clone)]
pub struct ClusterNetwork {
    inner: Arc<Inner>,
}

struct Inner {
    gateway: Ipv4Addr,
    ends: RwLock<Arc<Ends>>,
    /// Counts the namespaces; ends with the task that renews them.
    renewals: watch::Receiver<u64>,
}

/// Where the cluster process reaches into the network.
struct Ends {
    /// Threads in the node's and in the outer namespace.
    node: Namespace,
    outer: Namespace,
    links: Links,
}

impl Ends {
    fn of(found: &Found) -> Result<Ends, NetworkError> {
        let enter = |namespace: io::Result<File>| namespace.and_then(Namespace::enter);
        let cannot = |e| NetworkError::system("cannot enter the node's network namespace", e);
        let node = enter(found.node.try_clone()).map_err(cannot)?;
        let outer = enter(found.outer.try_clone()).map_err(cannot)?;
        let links = Links::within(&node)?;
        Ok(Ends { node, outer, links })
    }
}

/// What the network process says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    #[serde(flatten)]
    agreed: Agreed,
    /// The thread whose network namespace is the node's.
    thread: i32,
}

/// What a network process must agree in with the cluster process that finds it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Agreed {
    slot: u8,
    index: ClusterIndex,
    /// The outer process that its uplink leads to.
    outer: i32,
}

fn lock_path(home: &Path, cluster: &str) -> PathBuf {
    home.join(cluster).join("network.lock")
}

impl ClusterNetwork {
    /// Finds or starts the network process, idempotently: bridge, uplink to the outer network, base rules, DNS.
    ///
    /// Services work, and names resolve, from the moment that `home/<cluster>/dns.kubeconfig` leads to an API server:
    /// the network process watches Services and EndpointSlices with it, in the host's network namespace.
    pub async fn open(config: NetworkConfig) -> Result<ClusterNetwork, NetworkError> {
        let gateway = config.plan.pod_gateway(config.index);
        let found = search(&config).await?;
        let ends = RwLock::new(Arc::new(Ends::of(&found)?));
        let (renewed, renewals) = watch::channel(0);
        let inner = Arc::new(Inner { gateway, ends, renewals });
        tokio::spawn(renew(config, found.process, Arc::downgrade(&inner), renewed));
        Ok(ClusterNetwork { inner })
    }

    /// Counts how often the network process had to be replaced. What was made in the namespace before (listeners, the
    /// pods' links) is gone then and must be made again. Closes when the outer network has ended, which nothing can
    /// replace.
    pub fn renewals(&self) -> watch::Receiver<u64> {
        self.inner.renewals.clone()
    }

    /// A listener in the node's namespace (pods reach it at the pod gateway's address). SO_REUSEADDR, non-blocking.
    pub fn listen_for_pods(&self, port: u16) -> io::Result<TcpListener> {
        listen(&self.inner.ends().node, (self.inner.gateway, port).into())
    }

    /// A listener on 127.0.0.1 of the outer network's namespace, so that `isthmus run -- kubectl` works there.
    pub fn listen_on_outer_loopback(&self, port: u16) -> io::Result<TcpListener> {
        listen(&self.inner.ends().outer, (Ipv4Addr::LOCALHOST, port).into())
    }

    /// Gives a pod's namespace its `lo`, its `eth0` with `address`/32 and its default route. A pod that has them
    /// keeps them.
    pub async fn attach(&self, pod: BorrowedFd<'_>, address: Ipv4Addr) -> Result<(), NetworkError> {
        pod::attach(&self.inner.ends().links, pod, address, self.inner.gateway).await
    }

    /// A TCP connection made from the node's namespace (for probes).
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        connect(&self.inner.ends().node, to).await
    }

    /// Ends the network process; its namespace goes with it.
    pub fn close(home: &Path, cluster: &str) -> Result<(), NetworkError> {
        process::find::<State>(&lock_path(home, cluster)).map_or(Ok(()), Living::end)
    }
}

fn listen(namespace: &Namespace, address: SocketAddr) -> io::Result<TcpListener> {
    let listener = namespace.run(move || TcpListener::bind(address))??;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A TCP connection made from another namespace.
pub(super) async fn connect(namespace: &Namespace, to: SocketAddr) -> io::Result<TcpStream> {
    let new = if to.is_ipv4() { TcpSocket::new_v4 } else { TcpSocket::new_v6 };
    namespace.run(new)??.connect(to).await
}

impl Inner {
    fn ends(&self) -> Arc<Ends> {
        self.ends.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The network process, with the node's and the outer network namespace.
struct Found {
    process: Living<State>,
    node: File,
    outer: File,
}

async fn search(config: &NetworkConfig) -> Result<Found, NetworkError> {
    let config = config.clone();
    let found = tokio::task::spawn_blocking(move || find_or_start(&config)).await;
    found.map_err(|e| NetworkError::system("cannot start the network", e.into()))?
}

/// Replaces a network process that has ended, for as long as there are an outer network and somebody who cares.
async fn renew(config: NetworkConfig, mut process: Living<State>, inner: Weak<Inner>, renewed: watch::Sender<u64>) {
    loop {
        if let Err(error) = ended(process).await {
            return tracing::error!(%error, "the network process is not watched any more");
        }
        tracing::warn!("the network process has ended; another takes its place");
        let found = loop {
            let found = search(&config).await.and_then(|found| Ok((Ends::of(&found)?, found.process)));
            match found {
                Ok(found) => break found,
                Err(error @ NetworkError::NotRunning(_)) => {
                    return tracing::error!(%error, "the outer network has ended");
                }
                Err(error) => tracing::error!(%error, "the network process cannot be replaced"),
            }
            tokio::time::sleep(RETRY).await;
        };
        let Some(inner) = inner.upgrade() else { return };
        process = found.1;
        *inner.ends.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found.0);
        renewed.send_modify(|count| *count += 1);
    }
}

/// Returns when the process has ended. A thread waits for it, because it may be no child of this process.
async fn ended(process: Living<State>) -> Result<(), NetworkError> {
    let (done, waited) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("network".to_owned())
        .spawn(move || {
            // Nobody listens any more when this process is about to end itself.
            drop(done.send(process.wait().map(|()| process.reap())));
        })
        .map_err(|e| NetworkError::system("cannot start a thread", e))?;
    waited.await.map_err(|_| NetworkError::system("cannot wait", io::ErrorKind::BrokenPipe.into()))?
}

fn find_or_start(config: &NetworkConfig) -> Result<Found, NetworkError> {
    let outer = OuterNetwork::find(&config.home).ok_or_else(|| NetworkError::NotRunning(config.home.clone()))?;
    let directory = config.home.join(&config.cluster);
    let cannot = |e| NetworkError::system(format!("cannot make {}", directory.display()), e);
    let home = fs::create_dir_all(&directory).and_then(|()| fs::canonicalize(&config.home)).map_err(cannot)?;
    let lock = lock_path(&home, &config.cluster);
    let agreed = Agreed { slot: config.plan.slot, index: config.index, outer: outer.pid() };
    let process = match process::find::<State>(&lock) {
        Some(found) if found.state.agreed == agreed => found,
        found => {
            found.map_or(Ok(()), Living::end)?;
            let (slot, index) = (config.plan.slot.to_string(), u8::from(config.index).to_string());
            let args = [home.display().to_string(), config.cluster.clone(), slot, index];
            let log = directory.join("network.log");
            Start { executable: &config.executable, name: "network", args: &args, log: &log, lock: &lock }.start()?
        }
    };
    Ok(Found { node: open_namespace(&process)?, outer: outer.open_namespace("net")?, process })
}

fn open_namespace(process: &Living<State>) -> Result<File, NetworkError> {
    let path = format!("/proc/{}/task/{}/ns/net", process.pid(), process.state.thread);
    File::open(&path).map_err(|e| NetworkError::system(format!("cannot open {path}"), e))
}

/// The network process: makes the node's namespace and serves it until it is told to end, or the outer network ends.
pub(super) fn hold(args: &[String], ready: Ready) -> Result<(), NetworkError> {
    let [home, cluster, slot, index] = arguments(args)?;
    let home = PathBuf::from(home);
    let plan = AddressPlan { slot: slot.parse().map_err(|_| not_a("slot", slot))? };
    let index = index.parse::<u8>().ok().and_then(|n| ClusterIndex::try_from(n).ok());
    let index = index.ok_or_else(|| not_a("cluster index", args.last().map_or("", String::as_str)))?;
    let lock = Lock::take(lock_path(&home, cluster))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| NetworkError::system("cannot start a runtime", e))?;
    runtime.block_on(serve(&home, cluster, Place { plan, index }, lock, ready))
}

fn not_a(noun: &str, text: &str) -> NetworkError {
    NetworkError::Refused(format!("{text:?} is not a {noun}"))
}

async fn serve(home: &Path, cluster: &str, place: Place, mut lock: Lock, ready: Ready) -> Result<(), NetworkError> {
    let Place { plan, index } = place;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| NetworkError::system("cannot await signals", e))?;
    let outer = OuterNetwork::find(home).ok_or_else(|| NetworkError::NotRunning(home.to_owned()))?;
    let node = Namespace::create().map_err(|e| NetworkError::namespaces("cannot make a network namespace", e))?;
    furnish(&node, &outer, plan, index).await?;
    let rules = Rules::install(&node, plan.outer())?;
    let bind = |address| Server::bind(&node, address);
    let servers =
        [plan.dns_service(index), plan.pod_gateway(index)].map(bind).into_iter().collect::<io::Result<Vec<_>>>();
    let servers = servers.map_err(|e| NetworkError::system("cannot take the DNS port of the node", e))?;
    let outside = Namespace::enter(outer.open_namespace("net")?);
    let outside = outside.map_err(|e| NetworkError::system("cannot enter the outer network namespace", e))?;
    let directory = home.join(cluster);
    let services = Services {
        rules,
        links: Links::within(&node)?,
        forwards: Forwards::new(Arc::new(outside), directory.join("forwards.json")),
        offers: !outer.includes_host(),
    };
    lock.publish(State {
        agreed: Agreed { slot: plan.slot, index, outer: outer.pid() },
        thread: node.thread().as_raw(),
    })?;
    ready.tell()?;
    start_services(directory.join("dns.kubeconfig"), place, services, servers);
    let (ended, outer_ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let waited = outer.wait();
        // Nobody listens any more when this process is about to end itself.
        drop(ended.send(waited));
    });
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        waited = outer_ended => {
            tracing::warn!(?waited, "the outer network has ended, and this one with it");
            Ok(())
        }
    }
}

/// Starts everything that depends on what the API server says.
fn start_services(kubeconfig: PathBuf, place: Place, services: Services, servers: Vec<Server>) {
    let (tables, table) = watch::channel(Table::default());
    let (snapshots, names) = watch::channel(None);
    // An empty table is true already, but for the file that says so.
    tables.send_modify(|_| {});
    tokio::spawn(services.serve(table));
    for server in servers {
        let names = names.clone();
        tokio::spawn(async move {
            if let Err(error) = server.serve(names).await {
                tracing::error!(%error, "cluster DNS does not answer");
            }
        });
    }
    tokio::spawn(async move {
        let mut serial = 0;
        let changed = |objects: &Objects| {
            serial += 1;
            snapshots.send_replace(Some(Arc::new(Snapshot::new(objects, place, serial))));
            let new = table::table(objects, place);
            tables.send_if_modified(|old| std::mem::replace(old, new.clone()) != new);
        };
        follow(&kubeconfig, changed).await
    });
}

/// Makes the node's links, addresses and routes.
///
/// There is no default route: what is neither in the cluster nor on the outer network is unreachable, and said to be
/// so at once.
async fn furnish(
    node: &Namespace,
    outer: &OuterNetwork,
    plan: AddressPlan,
    index: ClusterIndex,
) -> Result<(), NetworkError> {
    node.configure(&[
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
        ("ipv4/ip_forward", "1"),
        // Pods reach one another through the node on purpose; telling them of a shorter way would be wrong.
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        // A reply to a connection from the outer network may leave by another link than the route back says.
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        // Where the host has loaded br_netfilter, packets would meet the rules on the bridge, before they are routed.
        ("bridge/bridge-nf-call-iptables", "0"),
    ])
    .map_err(|e| NetworkError::system("cannot configure the node's network", e))?;
    let inside = Links::within(node)?;
    let gateway = plan.pod_gateway(index);
    inside.up("lo").await?;
    inside.add_bridge(End { name: POD_BRIDGE, mac: POD_BRIDGE_MAC }).await?;
    let pods = Ipv4Net::new(gateway, plan.pods(index).prefix_len()).expect("the length is that of a network");
    inside.add_address(POD_BRIDGE, pods).await?;
    inside.add_local_range(plan.services(index), gateway).await?;

    let cannot = |e| NetworkError::system("cannot enter the outer network namespace", e);
    let outside = Namespace::enter(outer.open_namespace("net")?).map_err(cannot)?;
    let outside = Links::within(&outside)?;
    let node_namespace = node.run(|| File::open("/proc/thread-self/ns/net")).and_then(|opened| opened);
    let node_namespace = node_namespace.map_err(|e| NetworkError::system("cannot open /proc/thread-self/ns/net", e))?;
    let n = u8::from(index);
    let port = format!("cluster{n}");
    // One that is left belongs to a network process that has just ended: there is one per cluster.
    outside.remove(&port).await?;
    let here = End { name: &port, mac: [0x02, 0x69, 0, n, 0, 1] };
    let there = End { name: UPLINK, mac: [0x02, 0x69, 0, n, 0, 2] };
    outside.add_veth(here, outer::BRIDGE, there, node_namespace.as_fd()).await?;
    inside.add_address(UPLINK, outer::network(plan.node(index), plan)).await?;
    inside.up(UPLINK).await
}
