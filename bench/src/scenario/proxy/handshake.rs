//! A full mutual TLS handshake for each connection, one exchange, and the end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::cpu_during;
use crate::proxy::bootstrap::Hop;
use crate::proxy::certificates::Certificates;
use crate::proxy::upstream::Upstream;
use crate::proxy::{Program, Proxy, free_address};

const CONNECTIONS: usize = 2000;
const AT_ONCE: usize = 8;

/// Microseconds of processor time for each connection.
pub(super) fn run(program: &Program, runtime: &Runtime, certificates: &Certificates) -> anyhow::Result<f64> {
    let listen = free_address()?;
    let endpoint = runtime.block_on(Upstream::Echo.start())?;
    let hop = Hop { listen, endpoint, terminate: Some(certificates), originate: None };
    let proxy = Proxy::start(program, &hop.bootstrap(), listen)?;
    let connector = TlsConnector::from(certificates.client_config()?);
    let connect = async |connector: TlsConnector| {
        let stream = TcpStream::connect(listen).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("outbound.server.bench")?;
        let mut stream = connector.connect(name, stream).await?;
        let mut answer = [0; 4];
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut answer).await?;
        anyhow::Ok(stream.shutdown().await?)
    };
    let work = |count: usize| {
        let connector = connector.clone();
        async move {
            let mut clients = Vec::new();
            for _ in 0..AT_ONCE {
                let connector = connector.clone();
                clients.push(async move {
                    for _ in 0..count / AT_ONCE {
                        connect(connector.clone()).await?;
                    }
                    anyhow::Ok(())
                });
            }
            futures::future::try_join_all(clients).await.map(drop)
        }
    };
    runtime.block_on(work(CONNECTIONS / 10))?;
    let spent = cpu_during(&[&proxy], runtime, work(CONNECTIONS))?;
    Ok(spent.as_secs_f64() * 1e6 / CONNECTIONS as f64)
}
