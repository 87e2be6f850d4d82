//! `isthmus internal proxy`: the data plane by itself, with what a file says: for measurements, and to try things.

use std::future::pending;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ::proxy::admin::Loggers;
use ::proxy::config::Bootstrap;
use ::proxy::{Options, Proxy, Settings};
use anyhow::{Context, bail};
use clap::Parser;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::{memory, output};

/// How long open connections may go on when the proxy ends, or when a listener changes.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Parser)]
#[command(name = "isthmus internal proxy", about = "Runs the data plane with an Envoy bootstrap")]
struct Args {
    /// How many threads carry connections
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    concurrency: NonZeroUsize,
    /// The bootstrap, in JSON
    bootstrap: PathBuf,
}

pub(crate) fn main(args: &[String]) -> anyhow::Result<ExitCode> {
    let Args { concurrency, bootstrap } = Args::parse_from(std::iter::once(&"proxy".to_owned()).chain(args));
    let file = bootstrap.display();
    let text = std::fs::read_to_string(&bootstrap).with_context(|| format!("cannot read {file}"))?;
    let bootstrap = Bootstrap::parse(&text).with_context(|| file.to_string())?;
    let loggers = Loggers::new(output::adjustable_log());
    let data_plane = Options { workers: concurrency, drain_time: DRAIN, workload: std::sync::Arc::default() };
    let settings = Settings { data_plane, initial_fetch_timeout: Duration::ZERO, loggers };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let proxy = Proxy::start(bootstrap.node, settings)?;
        for update in bootstrap.resources {
            if let Some((name, why)) = proxy.apply(update).first() {
                bail!("{file}: {name}: {why}");
            }
        }
        memory::give_back();
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = administer(&proxy, bootstrap.admin) => outcome?,
            () = follow(&proxy, bootstrap.control_plane) => {}
            _ = terminate.recv() => {}
            () = proxy.quit_requested() => {}
        }
        proxy.stop(DRAIN).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Serves the admin pages, if they are asked for.
async fn administer(proxy: &Proxy, address: Option<SocketAddr>) -> anyhow::Result<()> {
    let Some(address) = address else { return pending().await };
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    match proxy.serve_admin(listener).await {}
}

/// Follows a control plane, if there is one.
async fn follow(proxy: &Proxy, address: Option<SocketAddr>) {
    let Some(address) = address else { return pending().await };
    match proxy.discover(|| TcpStream::connect(address)).await {}
}
