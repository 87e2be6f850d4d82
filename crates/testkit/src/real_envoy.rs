//! A real Envoy, as the other side of a comparison.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{envoy, until};

/// How long Envoy may take to listen.
const LIMIT: Duration = Duration::from_secs(60);

/// A running Envoy, which ends when it is dropped.
#[derive(Debug)]
pub struct RealEnvoy {
    child: Child,
    listeners: BTreeMap<String, SocketAddr>,
    _folder: TempDir,
}

impl RealEnvoy {
    /// Starts an Envoy with one worker whose bootstrap is `config`, in YAML or JSON and with an admin address that has
    /// port 0, and waits until it has `listeners` of these. Without an Envoy, the test that asks is skipped.
    ///
    /// # Panics
    /// When Envoy does not come up.
    pub fn start(config: &str, listeners: usize) -> Option<RealEnvoy> {
        RealEnvoy::run("envoy.yaml", config.as_bytes(), listeners)
    }

    /// The same, with the bootstrap as an encoded message.
    ///
    /// # Panics
    /// When Envoy does not come up.
    pub fn start_encoded(config: &[u8], listeners: usize) -> Option<RealEnvoy> {
        RealEnvoy::run("envoy.pb", config, listeners)
    }

    fn run(name: &str, config: &[u8], listeners: usize) -> Option<RealEnvoy> {
        let program = envoy()?;
        let folder = tempfile::tempdir().expect("a folder for Envoy can be made");
        let (file, admin) = (folder.path().join(name), folder.path().join("admin"));
        std::fs::write(&file, config).expect("Envoy's configuration can be written");
        let child = Command::new(program)
            .arg("--config-path")
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&admin)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"])
            .args(["--file-flush-interval-msec", "10"])
            .stdout(Stdio::null())
            .spawn()
            .expect("Envoy can be run");
        let mut envoy = RealEnvoy { child, listeners: BTreeMap::new(), _folder: folder };
        envoy.listeners = until("Envoy's listeners", LIMIT, || {
            let ended = envoy.child.try_wait().expect("Envoy can be waited for");
            assert!(ended.is_none(), "Envoy has ended: {}", String::from_utf8_lossy(config));
            addresses(&admin).filter(|found| found.len() == listeners)
        });
        Some(envoy)
    }

    /// Where the listener of this name listens.
    ///
    /// # Panics
    /// When there is none.
    pub fn listener(&self, name: &str) -> SocketAddr {
        *self.listeners.get(name).unwrap_or_else(|| panic!("Envoy has no listener {name}"))
    }
}

impl Drop for RealEnvoy {
    fn drop(&mut self) {
        // It may have ended by itself, which is no reason to fail here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where Envoy listens, once it does.
fn addresses(admin: &Path) -> Option<BTreeMap<String, SocketAddr>> {
    let admin: SocketAddr = std::fs::read_to_string(admin).ok()?.trim().parse().ok()?;
    let mut stream = TcpStream::connect(admin).ok()?;
    stream.write_all(b"GET /listeners HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    let address = |line: &str| {
        let (name, address) = line.split_once("::")?;
        Some((name.to_owned(), address.trim().parse().ok()?))
    };
    Some(page.lines().filter_map(address).collect())
}
