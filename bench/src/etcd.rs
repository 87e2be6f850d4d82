//! etcd, to compare with: what Kubernetes itself writes to.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use testkit::until;

use crate::connection::Server;

/// A running etcd, which ends when this is dropped.
pub(crate) struct Etcd {
    process: Child,
    pub(crate) server: Server,
    // Last, because it is removed when it is dropped.
    _directory: TempDir,
}

impl Etcd {
    /// Starts the etcd of this machine, if there is one. Its JSON gateway is used, in clear: the comparison is of durable
    /// writes, and spares it the TLS that the API server does.
    pub(crate) fn start() -> anyhow::Result<Option<Etcd>> {
        let directory = tempfile::tempdir()?;
        let port = free_port()?;
        let client = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{}", free_port()?);
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(directory.path()).args(["--log-level", "error", "--name", "bench"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("bench={peer}")]).stdout(Stdio::null()).stderr(Stdio::null());
        let process = match command.spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("etcd cannot be started"),
        };
        let server = Server { host: "127.0.0.1".to_owned(), port, tls: None };
        let etcd = Etcd { process, server, _directory: directory };
        until("etcd listens", Duration::from_secs(10), || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Ok(Some(etcd))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
