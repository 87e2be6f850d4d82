//! Many bytes on one connection.

use std::net::SocketAddr;

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::{cpu_during, pair};
use crate::proxy::bootstrap::Hop;
use crate::proxy::certificates::Certificates;
use crate::proxy::upstream::Upstream;
use crate::proxy::{Program, Proxy, free_address};

const BYTES: u64 = 1 << 30;

/// Seconds of both proxies' processor time for each gigabyte.
pub(super) fn over_mtls(program: &Program, runtime: &Runtime, certificates: &Certificates) -> anyhow::Result<f64> {
    let endpoint = runtime.block_on(Upstream::Send(BYTES).start())?;
    let (client, server, address) = pair(program, certificates, endpoint)?;
    Ok(cpu_during(&[&client, &server], runtime, fetch(address))?.as_secs_f64())
}

/// Seconds of one proxy's processor time for each gigabyte.
pub(super) fn plain(program: &Program, runtime: &Runtime) -> anyhow::Result<f64> {
    let endpoint = runtime.block_on(Upstream::Send(BYTES).start())?;
    let listen = free_address()?;
    let hop = Hop { listen, endpoint, terminate: None, originate: None };
    let proxy = Proxy::start(program, &hop.bootstrap(), listen)?;
    Ok(cpu_during(&[&proxy], runtime, fetch(listen))?.as_secs_f64())
}

async fn fetch(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"go").await?;
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        total += length as u64;
    }
    ensure!(total == BYTES, "{total} bytes came of {BYTES}");
    Ok(())
}
