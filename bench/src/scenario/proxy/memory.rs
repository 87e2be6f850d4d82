//! Resident memory with nothing to do.

use tokio::runtime::Runtime;

use crate::proxy::bootstrap::services;
use crate::proxy::upstream::Upstream;
use crate::proxy::{Program, Proxy, free_address};

/// Megabytes, with configuration for `count` services.
pub(super) fn run(program: &Program, runtime: &Runtime, count: u32) -> anyhow::Result<f64> {
    let endpoint = runtime.block_on(Upstream::Echo.start())?;
    let listen = free_address()?;
    Proxy::start(program, &services(listen, endpoint, count), listen)?.resident()
}
