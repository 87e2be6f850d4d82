//! Clients that ask as fast as they are answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;

use crate::connection::Server;

pub(crate) const CLIENTS: usize = 16;
const TIME: Duration = Duration::from_secs(10);

/// A request: method, path and body.
pub(crate) type Ask = (Method, String, Bytes);

/// What a load came to.
pub(crate) struct Load {
    pub(crate) per_second: f64,
    /// How long each request took, sorted.
    pub(crate) times: Vec<Duration>,
}

/// Has each client, on a connection of its own, send `ask(client, n)` for `n` = 0, 1, …. The first error ends it all: a
/// server that refuses is fast, and no comparison.
pub(crate) async fn load(
    server: &Server,
    ask: impl Fn(usize, usize) -> Ask + Send + Sync + 'static,
) -> anyhow::Result<Load> {
    let ask = Arc::new(ask);
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(server.connect().await?);
    }
    let begin = Instant::now();
    let clients = connections.into_iter().enumerate().map(|(client, mut connection)| {
        let ask = ask.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            for n in 0.. {
                let sent = Instant::now();
                if sent - begin > TIME {
                    break;
                }
                let (method, path, body) = ask(client, n);
                connection.request(method, &path, body).await?;
                times.push(sent.elapsed());
            }
            anyhow::Ok(times)
        })
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await??);
    }
    let per_second = times.len() as f64 / begin.elapsed().as_secs_f64();
    times.sort();
    Ok(Load { per_second, times })
}
