//! A federation to test with, and namespaces that stand for pods.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use api::{AddressPlan, ClusterIndex};
use nix::sched::{CloneFlags, unshare};
use node::{ClusterNetwork, NetworkConfig, OuterNetwork};

/// Not the slot that a person's first federation gets.
pub(crate) const PLAN: AddressPlan = AddressPlan { slot: 29 };

pub(crate) fn is_possible() -> Result<(), String> {
    let home = tempfile::tempdir().map_err(|e| e.to_string())?;
    open(home.path()).and_then(OuterNetwork::close).map_err(|e| e.to_string())
}

fn open(home: &Path) -> Result<OuterNetwork, node::NetworkError> {
    OuterNetwork::open(home, &std::env::current_exe().expect("this program has a name"), PLAN)
}

/// A running outer network, and this process inside its user namespace. Everything ends with it.
pub(crate) struct World {
    pub(crate) home: PathBuf,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl World {
    pub(crate) fn new() -> World {
        let home = PathBuf::from(std::env::var_os("TEST_HOME").expect("the case is started by the program itself"));
        open(&home).and_then(|outer| outer.enter_user_namespace()).expect("an outer network");
        World { home, runtime: tokio::runtime::Runtime::new().expect("a runtime") }
    }

    pub(crate) fn config(&self, n: u8) -> NetworkConfig {
        NetworkConfig {
            home: self.home.clone(),
            executable: std::env::current_exe().expect("this program has a name"),
            cluster: format!("c{n}"),
            plan: PLAN,
            index: index(n),
        }
    }

    pub(crate) fn cluster(&self, n: u8) -> ClusterNetwork {
        self.runtime.block_on(ClusterNetwork::open(self.config(n))).expect("a cluster's network")
    }

    /// A pod of cluster `n` whose address ends in `last`.
    pub(crate) fn pod(&self, cluster: &ClusterNetwork, n: u8, last: u8) -> Pod {
        let pod = Pod::new(pod_address(n, last));
        self.attach(cluster, &pod);
        pod
    }

    pub(crate) fn attach(&self, cluster: &ClusterNetwork, pod: &Pod) {
        let attached = self.runtime.block_on(cluster.attach(pod.namespace.as_fd(), pod.address));
        attached.expect("the pod gets its network");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for n in 1..=2 {
            ClusterNetwork::close(&self.home, &format!("c{n}")).expect("the network process ends");
        }
        if let Some(outer) = OuterNetwork::find(&self.home) {
            outer.close().expect("the outer process ends");
        }
    }
}

pub(crate) fn index(n: u8) -> ClusterIndex {
    ClusterIndex::try_from(n).expect("the index of a cluster")
}

pub(crate) fn pod_address(n: u8, last: u8) -> Ipv4Addr {
    let [a, b, ..] = PLAN.pods(index(n)).network().octets();
    Ipv4Addr::new(a, b, 0, last)
}

type Work = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
pub(crate) struct Pod {
    pub(crate) address: Ipv4Addr,
    namespace: File,
    work: mpsc::Sender<Work>,
}

impl Pod {
    pub(crate) fn new(address: Ipv4Addr) -> Pod {
        let (work, queue) = mpsc::channel::<Work>();
        let (opened, namespace) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            opened.send(File::open("/proc/thread-self/ns/net").expect("the namespace")).expect("somebody waits");
            queue.into_iter().for_each(|work| work());
        });
        Pod { address, namespace: namespace.recv().expect("a namespace"), work }
    }

    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.work.send(Box::new(move || done.send(work()).expect("somebody waits"))).expect("the pod lives");
        result.recv().expect("the work in the pod succeeds")
    }

    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        let address = self.address;
        self.run(move || TcpListener::bind((address, port)).expect("a free port"))
    }

    /// Connects, or says why not within a bounded time.
    pub(crate) fn connect(&self, to: (Ipv4Addr, u16)) -> std::io::Result<TcpStream> {
        self.run(move || TcpStream::connect_timeout(&SocketAddr::from(to), Duration::from_secs(2)))
    }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < patience, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
