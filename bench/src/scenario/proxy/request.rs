//! Requests on connections that stay.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::cpu_during;
use crate::proxy::bootstrap::Hop;
use crate::proxy::certificates::Certificates;
use crate::proxy::requests::{self, Requests};
use crate::proxy::upstream::{ANSWER, Upstream};
use crate::proxy::{Program, Proxy, free_address};

const CONNECTIONS: usize = 32;
/// How many of a connection's requests wait for their answers at once, in HTTP/2.
const STREAMS: usize = 8;
const REQUESTS: usize = 1000;

/// Microseconds of the proxy's processor time for each request in HTTP/1.1, by the last of so many routes.
pub(super) fn plain(program: &Program, runtime: &Runtime, routes: u32) -> anyhow::Result<f64> {
    let bench = Bench::start(program, runtime, routes, None)?;
    bench.cost(runtime, async |mut clients, routes, count| one_after_another(&mut clients, routes, count).await)
}

/// The same in HTTP/2 towards the proxy, and HTTP/1.1 behind it.
pub(super) fn multiplexed(program: &Program, runtime: &Runtime) -> anyhow::Result<f64> {
    let bench = Bench::start(program, runtime, 1, None)?;
    bench.cost(runtime, side_by_side)
}

/// Microseconds of both proxies' time, with mutual TLS between them.
pub(super) fn over_mtls(program: &Program, runtime: &Runtime, certificates: &Certificates) -> anyhow::Result<f64> {
    let bench = Bench::start(program, runtime, 1, Some(certificates))?;
    bench.cost(runtime, async |mut clients, routes, count| one_after_another(&mut clients, routes, count).await)
}

/// Megabytes that the proxy has after the requests, with their connections still open.
pub(super) fn resident(program: &Program, runtime: &Runtime) -> anyhow::Result<f64> {
    let bench = Bench::start(program, runtime, 1, None)?;
    let mut clients = bench.clients(runtime)?;
    runtime.block_on(one_after_another(&mut clients, bench.routes, REQUESTS))?;
    bench.proxies[0].resident()
}

/// Proxies on the way to a server, the first of them first.
struct Bench {
    proxies: Vec<Proxy>,
    address: SocketAddr,
    routes: u32,
    _logs: tempfile::TempDir,
}

impl Bench {
    fn start(
        program: &Program,
        runtime: &Runtime,
        routes: u32,
        certificates: Option<&Certificates>,
    ) -> anyhow::Result<Bench> {
        let logs = tempfile::tempdir()?;
        let log = |name: &str| logs.path().join(name);
        let mut endpoint = runtime.block_on(Upstream::Answer.start())?;
        let mut proxies = Vec::new();
        if certificates.is_some() {
            let hop = Hop { listen: free_address()?, endpoint, terminate: certificates, originate: None };
            endpoint = hop.listen;
            proxies.push(start(program, hop, routes, &log("inner"))?);
        }
        let hop = Hop { listen: free_address()?, endpoint, terminate: None, originate: certificates };
        let address = hop.listen;
        proxies.insert(0, start(program, hop, routes, &log("outer"))?);
        Ok(Bench { proxies, address, routes, _logs: logs })
    }

    fn clients(&self, runtime: &Runtime) -> anyhow::Result<Vec<TcpStream>> {
        let clients = (0..CONNECTIONS).map(|_| {
            let stream = runtime.block_on(TcpStream::connect(self.address))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        clients.collect()
    }

    /// Microseconds of all the proxies' processor time for each request that `ask` makes, after some to warm up.
    fn cost(
        &self,
        runtime: &Runtime,
        ask: impl AsyncFn(Vec<TcpStream>, u32, usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<f64> {
        let proxies: Vec<&Proxy> = self.proxies.iter().collect();
        runtime.block_on(ask(self.clients(runtime)?, self.routes, REQUESTS / 10))?;
        let clients = self.clients(runtime)?;
        let spent: Duration = cpu_during(&proxies, runtime, ask(clients, self.routes, REQUESTS))?;
        Ok(spent.as_secs_f64() * 1e6 / (CONNECTIONS * REQUESTS) as f64)
    }
}

fn start(program: &Program, hop: Hop<'_>, routes: u32, log: &Path) -> anyhow::Result<Proxy> {
    let listen = hop.listen;
    Proxy::start(program, &Requests { hop, routes, log }.bootstrap(), listen)
}

/// Each connection asks when it has its last answer.
async fn one_after_another(clients: &mut [TcpStream], routes: u32, count: usize) -> anyhow::Result<()> {
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: shop.bench.svc.cluster.local:9080\r\nuser-agent: bench/1.0\r\naccept: */*\r\n\
         accept-encoding: gzip, deflate\r\ncookie: session=0f8fad5b-d9cb-469f-a165-70867728950e\r\n\r\n",
        requests::path(routes)
    );
    let all = clients.iter_mut().map(async |stream| {
        let mut answer = Vec::with_capacity(4096);
        for _ in 0..count {
            stream.write_all(request.as_bytes()).await?;
            answer.clear();
            while !answer.ends_with(ANSWER) {
                ensure!(stream.read_buf(&mut answer).await? > 0, "the proxy has closed the connection");
            }
            ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(all).await.map(drop)
}

/// Each connection has several requests at once.
async fn side_by_side(clients: Vec<TcpStream>, routes: u32, count: usize) -> anyhow::Result<()> {
    let mut asking = Vec::new();
    for stream in clients {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // Its errors come back from the requests, too.
        tokio::spawn(async { drop(connection.await) });
        for _ in 0..STREAMS {
            asking.push(ask(sender.clone(), routes, count / STREAMS));
        }
    }
    futures::future::try_join_all(asking).await.map(drop)
}

async fn ask(mut sender: http2::SendRequest<Empty<Bytes>>, routes: u32, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        let request = http::Request::get(format!("http://shop.bench.svc.cluster.local:9080{}", requests::path(routes)))
            .header("user-agent", "bench/1.0")
            .header("accept", "*/*")
            .header("accept-encoding", "gzip, deflate")
            .header("cookie", "session=0f8fad5b-d9cb-469f-a165-70867728950e");
        sender.ready().await?;
        let answer = sender.send_request(request.body(Empty::new())?).await?;
        ensure!(answer.status() == http::StatusCode::OK, "{answer:?}");
        let body = answer.into_body().collect().await.context("the answer is cut off")?;
        ensure!(body.to_bytes() == ANSWER, "the answer is another");
    }
    Ok(())
}
