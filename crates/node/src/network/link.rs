//! Links, addresses and routes of one network namespace, by rtnetlink.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use futures::{StreamExt, TryStreamExt};
use ipnet::Ipv4Net;
use nix::errno::Errno;
use nix::libc;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::NetworkError;
use super::namespace::Namespace;

/// The routing table of what is this machine's own (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;

/// The netlink socket through which a namespace's links are made.
pub(super) struct Links {
    handle: rtnetlink::Handle,
}

/// One end of a veth pair.
pub(super) struct End<'a> {
    pub(super) name: &'a str,
    /// Fixed, so that neighbours that remember it are right when the link is made again.
    pub(super) mac: [u8; 6],
}

impl Links {
    /// Of the calling thread's namespace. Must be called within a runtime.
    pub(super) fn here() -> Result<Links, NetworkError> {
        let cannot = |e| NetworkError::system("cannot open a route netlink socket", e);
        let (connection, handle, _) = rtnetlink::new_connection().map_err(cannot)?;
        tokio::spawn(connection);
        Ok(Links { handle })
    }

    /// Of another namespace. Must be called within a runtime.
    pub(super) fn within(namespace: &Namespace) -> Result<Links, NetworkError> {
        let runtime = tokio::runtime::Handle::current();
        let made = namespace.run(move || {
            let _context = runtime.enter();
            Links::here()
        });
        made.map_err(|e| NetworkError::system("cannot enter a network namespace", e))?
    }

    async fn find(&self, name: &str) -> Result<Option<LinkMessage>, NetworkError> {
        match self.handle.link().get().match_name(name).execute().try_next().await {
            Ok(found) => Ok(found),
            Err(error) if errno(&error) == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(failed(format!("cannot look for link {name}"), error)),
        }
    }

    /// The number of a link.
    pub(super) async fn index(&self, name: &str) -> Result<Option<u32>, NetworkError> {
        Ok(self.find(name).await?.map(|link| link.header.index))
    }

    async fn require(&self, name: &str) -> Result<u32, NetworkError> {
        let missing = || NetworkError::system(format!("link {name} is gone"), Errno::ENODEV.into());
        self.index(name).await?.ok_or_else(missing)
    }

    /// The number of a veth's other end, in the other end's namespace.
    pub(super) async fn peer(&self, name: &str) -> Result<Option<u32>, NetworkError> {
        let attributes = self.find(name).await?.map(|link| link.attributes).unwrap_or_default();
        Ok(attributes.iter().find_map(|a| if let LinkAttribute::Link(peer) = a { Some(*peer) } else { None }))
    }

    /// Makes a bridge that is up. Its hardware address is fixed: left alone it would change with every port.
    pub(super) async fn add_bridge(&self, end: End<'_>) -> Result<(), NetworkError> {
        let bridge = LinkBridge::new(end.name).address(end.mac.to_vec()).up().build();
        let made = self.handle.link().add(bridge).execute().await;
        made.map_err(|e| failed(format!("cannot make bridge {}", end.name), e))
    }

    /// Makes a veth pair: `here`, up and a port of `bridge`, and `there` in another namespace.
    pub(super) async fn add_veth(
        &self,
        here: End<'_>,
        bridge: &str,
        there: End<'_>,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), NetworkError> {
        let bridge = self.require(bridge).await?;
        let there = LinkMessageBuilder::<LinkUnspec>::new()
            .name(there.name)
            .address(there.mac.to_vec())
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(here.name)
            .address(here.mac.to_vec())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(there)))
            .controller(bridge)
            .up()
            .build();
        let made = self.handle.link().add(pair).execute().await;
        made.map_err(|e| failed(format!("cannot make link {}", here.name), e))
    }

    /// Removes a link if there is one of that name.
    pub(super) async fn remove(&self, name: &str) -> Result<(), NetworkError> {
        let Some(index) = self.index(name).await? else { return Ok(()) };
        match self.handle.link().del(index).execute().await {
            Err(error) if errno(&error) != Some(Errno::ENODEV) => {
                Err(failed(format!("cannot remove link {name}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Switches a link on.
    pub(super) async fn up(&self, name: &str) -> Result<(), NetworkError> {
        let link = LinkUnspec::new_with_index(self.require(name).await?).up().build();
        let set = self.handle.link().set(link).execute().await;
        set.map_err(|e| failed(format!("cannot switch link {name} on"), e))
    }

    /// Gives a link an address, unless it has it.
    pub(super) async fn add_address(&self, link: &str, address: Ipv4Net) -> Result<(), NetworkError> {
        let index = self.require(link).await?;
        let added = self.handle.address().add(index, IpAddr::V4(address.addr()), address.prefix_len()).execute().await;
        match added {
            Err(error) if errno(&error) != Some(Errno::EEXIST) => {
                Err(failed(format!("cannot give link {link} the address {address}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Takes a single address (a /32) from a link, if it has it.
    pub(super) async fn remove_address(&self, link: &str, address: Ipv4Addr) -> Result<(), NetworkError> {
        let index = self.require(link).await?;
        let message = rtnetlink::AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, 32).build();
        match self.handle.address().del(message).execute().await {
            Err(error) if errno(&error) != Some(Errno::EADDRNOTAVAIL) => {
                Err(failed(format!("cannot take the address {address} from link {link}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Whether a link has an address.
    pub(super) async fn has_address(&self, link: &str, address: Ipv4Addr) -> Result<bool, NetworkError> {
        let Some(index) = self.index(link).await? else { return Ok(false) };
        let mut addresses = std::pin::pin!(self.handle.address().get().set_link_index_filter(index).execute());
        while let Some(message) = addresses.next().await {
            let message = message.map_err(|e| failed(format!("cannot list the addresses of link {link}"), e))?;
            if message.attributes.contains(&AddressAttribute::Local(IpAddr::V4(address))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Routes everything through `gateway`, which is a neighbour on `link`.
    pub(super) async fn add_default_route(&self, link: &str, gateway: Ipv4Addr) -> Result<(), NetworkError> {
        let index = self.require(link).await?;
        let neighbour = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(gateway, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).build();
        for route in [neighbour, default] {
            self.handle.route().add(route).replace().execute().await.map_err(|e| failed("cannot add a route", e))?;
        }
        Ok(())
    }

    /// Makes a whole range this namespace's own: what no rule sends elsewhere is answered here, with a refusal
    /// where nothing listens.
    pub(super) async fn add_local_range(&self, range: Ipv4Net, source: Ipv4Addr) -> Result<(), NetworkError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(LOCAL_TABLE)
            .destination_prefix(range.network(), range.prefix_len())
            .output_interface(self.require("lo").await?)
            .scope(RouteScope::Host)
            .kind(RouteType::Local)
            .pref_source(source)
            .build();
        let added = self.handle.route().add(route).replace().execute().await;
        added.map_err(|e| failed(format!("cannot make {range} local"), e))
    }
}

fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| Errno::from_raw(code.get().abs())),
        _ => None,
    }
}

fn failed(what: impl Into<String>, error: rtnetlink::Error) -> NetworkError {
    const MODULES: &str = "sudo modprobe -a bridge veth";
    match errno(&error).map(|e| e as i32) {
        Some(libc::EOPNOTSUPP) => {
            NetworkError::Missing { what: what.into(), missing: "bridge or veth links", remedy: MODULES }
        }
        Some(code) => NetworkError::system(what, std::io::Error::from_raw_os_error(code)),
        None => NetworkError::system(what, std::io::Error::other(error)),
    }
}
