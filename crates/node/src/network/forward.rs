//! Ports of 127.0.0.1 that lead to load balancers and node ports, for when the host takes no part in the outer network.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::cluster::connect;
use super::namespace::Namespace;
use super::table::Offer;

/// One line of `forwards.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(flatten)]
    offer: Offer,
    /// The port of 127.0.0.1 that leads there.
    local_port: u16,
}

/// The forwards of one cluster. An offer keeps its port for as long as the home exists and nobody else takes it.
pub(super) struct Forwards {
    outer: Arc<Namespace>,
    file: PathBuf,
    remembered: BTreeMap<Offer, u16>,
    open: BTreeMap<Offer, Open>,
}

struct Open {
    local_port: u16,
    accepting: AbortHandle,
}

impl Forwards {
    pub(super) fn new(outer: Arc<Namespace>, file: PathBuf) -> Forwards {
        // A file that is missing or cannot be read only costs the ports their memory.
        let lines = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Vec<Line>>(&text).ok());
        let remembered = lines.into_iter().flatten().map(|line| (line.offer, line.local_port)).collect();
        Forwards { outer, file, remembered, open: BTreeMap::new() }
    }

    /// Opens and closes ports until exactly these are offered. Connections that exist are left alone.
    pub(super) async fn update(&mut self, offers: &BTreeSet<Offer>) -> io::Result<()> {
        let gone = self.open.extract_if(.., |offer, _| !offers.contains(offer));
        gone.for_each(|(_, open)| open.accepting.abort());
        for offer in offers {
            if !self.open.contains_key(offer) {
                let listener = self.listen(offer).await?;
                let local_port = listener.local_addr()?.port();
                let to = SocketAddrV4::new(offer.address, offer.port);
                let accepting = tokio::spawn(accept(listener, self.outer.clone(), to)).abort_handle();
                self.remembered.insert(offer.clone(), local_port);
                self.open.insert(offer.clone(), Open { local_port, accepting });
            }
        }
        self.write()
    }

    async fn listen(&self, offer: &Offer) -> io::Result<TcpListener> {
        if let Some(port) = self.remembered.get(offer)
            && let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).await
        {
            return Ok(listener);
        }
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
    }

    fn write(&self) -> io::Result<()> {
        let line = |(offer, open): (&Offer, &Open)| Line { offer: offer.clone(), local_port: open.local_port };
        let lines: Vec<Line> = self.open.iter().map(line).collect();
        let new = self.file.with_extension("json.new");
        std::fs::write(&new, serde_json::to_vec_pretty(&lines)?)?;
        std::fs::rename(&new, &self.file)
    }
}

async fn accept(listener: TcpListener, outer: Arc<Namespace>, to: SocketAddrV4) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(forward(client, outer.clone(), to));
            }
            Err(error) => {
                tracing::warn!(%error, %to, "cannot accept a connection to forward");
                // Out of file descriptors, as a rule: some connections must end first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn forward(mut client: TcpStream, outer: Arc<Namespace>, to: SocketAddrV4) {
    let copied = async {
        let mut server = connect(&outer, to.into()).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        copy_bidirectional(&mut client, &mut server).await
    };
    if let Err(error) = copied.await {
        tracing::debug!(%error, %to, "a forwarded connection has ended");
    }
}
