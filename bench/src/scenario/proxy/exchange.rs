//! Small messages back and forth on connections that stay.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::{cpu_during, pair};
use crate::proxy::Program;
use crate::proxy::certificates::Certificates;
use crate::proxy::upstream::Upstream;

const CONNECTIONS: usize = 8;
const EXCHANGES: usize = 5000;
const MESSAGE: [u8; 64] = [b'x'; 64];

/// Microseconds of both proxies' processor time for each message and its answer.
pub(super) fn run(program: &Program, runtime: &Runtime, certificates: &Certificates) -> anyhow::Result<f64> {
    let endpoint = runtime.block_on(Upstream::Echo.start())?;
    let (client, server, address) = pair(program, certificates, endpoint)?;
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = runtime.block_on(TcpStream::connect(address))?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    runtime.block_on(exchange(&mut streams, EXCHANGES / 10))?;
    let spent = cpu_during(&[&client, &server], runtime, exchange(&mut streams, EXCHANGES))?;
    Ok(spent.as_secs_f64() * 1e6 / (CONNECTIONS * EXCHANGES) as f64)
}

async fn exchange(streams: &mut [TcpStream], count: usize) -> anyhow::Result<()> {
    let all = streams.iter_mut().map(async |stream| {
        let mut answer = [0; MESSAGE.len()];
        for _ in 0..count {
            stream.write_all(&MESSAGE).await?;
            stream.read_exact(&mut answer).await?;
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(all).await.map(drop)
}
