//! The outer network: the namespace between the clusters, and the process that holds it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::AddressPlan;
use ipnet::Ipv4Net;
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};
use rustix::thread::{CapabilitySet, capabilities};
use serde::{Deserialize, Serialize};

use super::link::{End, Links};
use super::process::{self, Living, Lock, Ready, Start};
use super::{NetworkError, arguments};

/// The bridge in the outer namespace.
pub(super) const BRIDGE: &str = "outer0";
const BRIDGE_MAC: [u8; 6] = [0x02, 0x69, 0, 0, 0, 1];
/// The bridge's port to the host, as root.
const HOST_PORT: &str = "host0";
const HOST_PORT_MAC: [u8; 6] = [0x02, 0x69, 0, 0, 1, 1];
const HOST_MAC: [u8; 6] = [0x02, 0x69, 0, 0, 1, 2];

/// The federation's outer network: one namespace that holds a bridge to every cluster's node and, as root, to the host.
/// Kept alive by a process of its own (`internal outer`), which also holds the user namespace when not root.
pub struct OuterNetwork {
    process: Living<State>,
}

/// What the outer process says of itself.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    slot: u8,
    /// Whether it made a user namespace, because it was started without privileges.
    user_namespace: bool,
    /// Whether the host takes part in the outer network.
    host: bool,
}

fn lock_path(home: &Path) -> PathBuf {
    home.join("outer.lock")
}

impl OuterNetwork {
    /// Finds the live outer process of this home or starts it (detached). Blocking; call before threads exist.
    pub fn open(home: &Path, executable: &Path, plan: AddressPlan) -> Result<OuterNetwork, NetworkError> {
        if let Some(outer) = OuterNetwork::find(home) {
            return outer.expect_slot(home, plan);
        }
        let cannot = |e| NetworkError::system(format!("cannot make {}", home.display()), e);
        fs::create_dir_all(home).map_err(cannot)?;
        let home = fs::canonicalize(home).map_err(cannot)?;
        let args = [home.display().to_string(), plan.slot.to_string()];
        let (log, lock) = (home.join("outer.log"), lock_path(&home));
        let process = Start { executable, name: "outer", args: &args, log: &log, lock: &lock }.start()?;
        OuterNetwork { process }.expect_slot(&home, plan)
    }

    fn expect_slot(self, home: &Path, plan: AddressPlan) -> Result<OuterNetwork, NetworkError> {
        match self.process.state.slot {
            slot if slot == plan.slot => Ok(self),
            slot => Err(NetworkError::Refused(format!("the federation in {} runs in slot {slot}", home.display()))),
        }
    }

    /// The live outer process of this home, if there is one.
    pub fn find(home: &Path) -> Option<OuterNetwork> {
        process::find(&lock_path(home)).map(|process| OuterNetwork { process })
    }

    /// Whether load balancers and node ports answer on the host itself.
    pub fn includes_host(&self) -> bool {
        self.process.state.host
    }

    /// Enters the federation's user namespace (a no-op as root). The process must be single-threaded.
    pub fn enter_user_namespace(&self) -> Result<(), NetworkError> {
        if self.process.state.user_namespace { enter_user_namespace(self.open_namespace("user")?) } else { Ok(()) }
    }

    /// Enters user and network namespace, for `isthmus run -- CMD`. The process must be single-threaded.
    pub fn enter(&self) -> Result<(), NetworkError> {
        let network = self.open_namespace("net")?;
        self.enter_user_namespace()?;
        setns(network, CloneFlags::CLONE_NEWNET)
            .map_err(|e| NetworkError::system("cannot enter the outer network namespace", e.into()))
    }

    /// Ends the outer process; its namespaces go with it.
    pub fn close(self) -> Result<(), NetworkError> {
        self.process.end()
    }

    pub(super) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Waits until the outer process has ended.
    pub(super) fn wait(&self) -> Result<(), NetworkError> {
        self.process.wait()
    }

    pub(super) fn open_namespace(&self, kind: &str) -> Result<File, NetworkError> {
        let path = format!("/proc/{}/ns/{kind}", self.process.pid());
        File::open(&path).map_err(|e| NetworkError::system(format!("cannot open {path}"), e))
    }
}

fn enter_user_namespace(namespace: File) -> Result<(), NetworkError> {
    let cannot = |e| NetworkError::system("cannot enter the federation's user namespace", e);
    let there = namespace.metadata().map_err(cannot)?;
    let here = fs::metadata("/proc/self/ns/user").map_err(cannot)?;
    // The kernel refuses to enter the namespace that one is in.
    if (here.dev(), here.ino()) == (there.dev(), there.ino()) {
        return Ok(());
    }
    setns(namespace, CloneFlags::CLONE_NEWUSER).map_err(|e| cannot(e.into()))
}

/// The outer process: makes the namespaces and holds them until it is told to end.
pub(super) fn hold(args: &[String], ready: Ready) -> Result<(), NetworkError> {
    let [home, slot] = arguments(args)?;
    let slot = slot.parse().map_err(|e| NetworkError::Refused(format!("{slot} is not a slot: {e}")))?;
    let mut lock = Lock::take(lock_path(Path::new(home)))?;
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().map_err(|e| NetworkError::system("cannot block signals", e.into()))?;
    let user_namespace = !privileged();
    if user_namespace {
        make_user_namespace()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(|e| NetworkError::system("cannot start a runtime", e))?;
    let (outer, host) = runtime.block_on(make_network(AddressPlan { slot }, user_namespace))?;
    lock.publish(State { slot, user_namespace, host })?;
    ready.tell()?;
    signals.wait().map_err(|e| NetworkError::system("cannot wait for signals", e.into()))?;
    // The kernel would remove it some time after this process has ended, in the way of a new one.
    if host { runtime.block_on(outer.remove(HOST_PORT)) } else { Ok(()) }
}

fn privileged() -> bool {
    capabilities(None).is_ok_and(|have| have.effective.contains(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN))
}

/// Makes a user namespace in which this user is root. The process must be single-threaded.
fn make_user_namespace() -> Result<(), NetworkError> {
    const WHAT: &str = "cannot make a user namespace";
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| NetworkError::namespaces(WHAT, e.into()))?;
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ];
    maps.iter().try_for_each(|(path, map)| fs::write(path, map)).map_err(|e| NetworkError::namespaces(WHAT, e))
}

/// Leaves for a new network namespace and furnishes it. Says whether the host takes part.
async fn make_network(plan: AddressPlan, user_namespace: bool) -> Result<(Links, bool), NetworkError> {
    let host_namespace =
        File::open("/proc/self/ns/net").map_err(|e| NetworkError::system("cannot open /proc/self/ns/net", e))?;
    let host = Links::here()?;
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|e| NetworkError::namespaces("cannot make a network namespace", e.into()))?;
    let outer = Links::here()?;
    outer.up("lo").await?;
    outer.add_bridge(End { name: BRIDGE, mac: BRIDGE_MAC }).await?;
    outer.add_address(BRIDGE, network(plan.outer_gateway(), plan)).await?;
    let takes_part = !user_namespace && connect_host(&outer, &host, host_namespace, plan).await?;
    Ok((outer, takes_part))
}

/// Connects the host, unless its namespace is not ours to change (root of somebody's user namespace).
async fn connect_host(outer: &Links, host: &Links, namespace: File, plan: AddressPlan) -> Result<bool, NetworkError> {
    let name = format!("isthmus{}", plan.slot);
    // A link whose namespace has just ended takes the kernel a moment to remove.
    let patience = Instant::now() + Duration::from_secs(2);
    loop {
        let (here, there) = (End { name: HOST_PORT, mac: HOST_PORT_MAC }, End { name: &name, mac: HOST_MAC });
        match outer.add_veth(here, BRIDGE, there, namespace.as_fd()).await {
            Ok(()) => break,
            Err(NetworkError::System { source, .. }) if source.raw_os_error() == Some(libc::EPERM) => return Ok(false),
            Err(NetworkError::System { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => {
                if Instant::now() > patience {
                    return Err(NetworkError::Refused(format!(
                        "slot {} is taken: the host has a link {name}, probably of another federation; \
                         end that one, or remove the link: ip link delete {name}",
                        plan.slot
                    )));
                }
                tokio::task::yield_now().await;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error),
        }
    }
    host.add_address(&name, network(plan.host(), plan)).await?;
    host.up(&name).await?;
    Ok(true)
}

/// An address of the outer network together with the network's length.
pub(super) fn network(address: std::net::Ipv4Addr, plan: AddressPlan) -> Ipv4Net {
    Ipv4Net::new(address, plan.outer().prefix_len()).expect("the length is that of a network")
}
