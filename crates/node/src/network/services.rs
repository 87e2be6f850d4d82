//! Keeps what the node does for services in step with what the API server says of them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use tokio::sync::watch;

use super::NetworkError;
use super::cluster::UPLINK;
use super::forward::Forwards;
use super::link::Links;
use super::rules::Rules;
use super::table::Table;

/// How long after a failure it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What a table is made true with.
pub(super) struct Services {
    pub(super) rules: Rules,
    /// Of the node's namespace.
    pub(super) links: Links,
    pub(super) forwards: Forwards,
    /// Whether the outer network's ports are offered on the host's loopback.
    pub(super) offers: bool,
}

impl Services {
    /// Makes every table true, until there will be no more.
    pub(super) async fn serve(mut self, mut tables: watch::Receiver<Table>) {
        let mut addresses = BTreeSet::new();
        while tables.changed().await.is_ok() {
            loop {
                let table = tables.borrow_and_update().clone();
                match self.apply(&table, &mut addresses).await {
                    Ok(()) => break,
                    Err(error) => tracing::error!(%error, "services are not up to date"),
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn apply(&mut self, table: &Table, addresses: &mut BTreeSet<Ipv4Addr>) -> Result<(), NetworkError> {
        for new in table.load_balancers.difference(addresses) {
            self.links.add_address(UPLINK, Ipv4Net::from(*new)).await?;
        }
        // A transaction waits for the packets that are on their way: some milliseconds, on a thread that may block.
        let updated = tokio::task::block_in_place(|| self.rules.update(table));
        updated.map_err(|e| NetworkError::system("cannot change the nftables rules", std::io::Error::other(e)))?;
        for old in addresses.difference(&table.load_balancers) {
            self.links.remove_address(UPLINK, *old).await?;
        }
        addresses.clone_from(&table.load_balancers);
        let offers = if self.offers { table.offers.clone() } else { BTreeSet::new() };
        let forwarded = self.forwards.update(&offers).await;
        forwarded.map_err(|e| NetworkError::system("cannot forward ports of 127.0.0.1", e))
    }
}
