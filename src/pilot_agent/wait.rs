//! `pilot-agent wait`: a hook that ends when the pod's sidecar is ready, so that other containers start after it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use super::request;

/// Where a sidecar tells whether it is ready.
const STATUS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15021);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to wait
    #[arg(long = "timeoutSeconds", default_value_t = 60)]
    timeout: u64,
    /// How often to ask
    #[arg(long = "periodMillis", default_value_t = 500)]
    period: u64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { timeout, period } = args;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ready = until_ready(STATUS, Duration::from_millis(*period));
    let waited = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(*timeout), ready).await });
    match waited {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(_) => bail!("the sidecar was not ready within {timeout} s; its log says why"),
    }
}

async fn until_ready(status: SocketAddr, period: Duration) {
    let question = request::Args::get("/healthz/ready");
    loop {
        let answer =
            tokio::time::timeout(period.max(Duration::from_millis(100)), request::ask(status, &question)).await;
        if let Ok(Ok((status, _))) = answer
            && status.is_success()
        {
            return;
        }
        tokio::time::sleep(period).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_sidecar_is_asked_until_it_is_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let status = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["503 Service Unavailable", "200 OK"] {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        });
        until_ready(status, Duration::from_millis(1)).await;
        server.join().unwrap();
    }
}
