//! From the command to three clusters that serve.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;
use testkit::{Account, Federation};
use tokio::runtime::Runtime;

use crate::cluster::server;
use crate::report::Report;

const RUNS: usize = 5;

pub(crate) fn run(binary: &Path, runtime: &Runtime) -> anyhow::Result<Report> {
    let (mut new, mut again) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let federation = Federation::prepare(binary, Account::current());
        for times in [&mut new, &mut again] {
            let begin = Instant::now();
            federation.isthmus("up c1 c2 c3 --detach").ok();
            times.push(begin.elapsed());
            federation.fetch_kubeconfig();
            for cluster in ["c1", "c2", "c3"] {
                let ready = runtime.block_on(async {
                    let mut connection = server(&federation, cluster).await?.connect().await?;
                    anyhow::Ok(connection.is_ok("/readyz").await)
                })?;
                ensure!(ready, "{cluster} is not ready although the command says so");
            }
            federation.isthmus("down").ok();
        }
    }
    let report = Report::new("start").times("three new clusters serve", &mut new, "1000 ms");
    Ok(report.times("three clusters serve again", &mut again, "1000 ms"))
}
