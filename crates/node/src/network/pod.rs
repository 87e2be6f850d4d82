//! A pod's end of the network.

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use ipnet::Ipv4Net;

use super::NetworkError;
use super::cluster::POD_BRIDGE;
use super::link::{End, Links};
use super::namespace::Namespace;

const INTERFACE: &str = "eth0";

/// Gives a pod's namespace its links; a namespace that has them keeps them, and its connections with them.
pub(super) async fn attach(
    node: &Links,
    pod: BorrowedFd<'_>,
    address: Ipv4Addr,
    gateway: Ipv4Addr,
) -> Result<(), NetworkError> {
    let cannot = |e| NetworkError::system(format!("cannot enter the network namespace of pod {address}"), e);
    let namespace = Namespace::enter(pod.try_clone_to_owned().map_err(cannot)?).map_err(cannot)?;
    let inside = Links::within(&namespace)?;
    let [a, b, c, d] = address.octets();
    let name = format!("veth{:08x}", u32::from(address));
    if is_attached(node, &name, &inside, address).await? {
        return Ok(());
    }
    namespace
        .configure(&[
            // The pod network is IPv4 only: eth0 gets no link-local address, while ::1 stays.
            ("ipv6/conf/default/disable_ipv6", "1"),
            ("ipv4/ip_unprivileged_port_start", "0"),
            ("ipv4/ping_group_range", "0 0"),
        ])
        .map_err(|e| NetworkError::system(format!("cannot configure pod {address}"), e))?;
    inside.up("lo").await?;
    inside.remove(INTERFACE).await?;
    node.remove(&name).await?;
    let here = End { name: &name, mac: [0x02, 0x6e, a, b, c, d] };
    let there = End { name: INTERFACE, mac: [0x02, 0x70, a, b, c, d] };
    node.add_veth(here, POD_BRIDGE, there, pod).await?;
    inside.add_address(INTERFACE, Ipv4Net::from(address)).await?;
    inside.up(INTERFACE).await?;
    inside.add_default_route(INTERFACE, gateway).await
}

async fn is_attached(node: &Links, name: &str, inside: &Links, address: Ipv4Addr) -> Result<bool, NetworkError> {
    let port = node.index(name).await?;
    Ok(port.is_some() && inside.peer(INTERFACE).await? == port && inside.has_address(INTERFACE, address).await?)
}
