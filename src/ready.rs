//! Whether a cluster serves.

use std::time::{Duration, Instant};

use anyhow::bail;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::federation::{Home, LockFile, cluster_lock};

/// How long an API server may take to answer one question.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a cluster process that somebody else has started may take to serve.
const START: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// Whether the cluster has a process that serves. One that is starting, or on its way to its end, is waited for.
pub(crate) fn is_running(home: &Home, cluster: &str) -> anyhow::Result<bool> {
    let deadline = Instant::now() + START;
    while let Some(pid) = LockFile::holder(&cluster_lock(home, cluster)) {
        if answers(home, cluster) {
            return Ok(true);
        }
        if Instant::now() > deadline {
            let log = home.cluster(cluster).join("cluster.log");
            bail!(
                "cluster {cluster}: process {pid} does not answer; its log is {}; `isthmus down` ends it",
                log.display()
            );
        }
        std::thread::sleep(PAUSE);
    }
    Ok(false)
}

/// Whether the cluster's API server answers. That it accepts a connection would say nothing: the kernel does so for a
/// process that hangs.
pub(crate) fn answers(home: &Home, cluster: &str) -> bool {
    let ask = async {
        let config = Kubeconfig::read_from(home.cluster(cluster).join("admin.kubeconfig"))?;
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        kube::Client::try_from(config)?.apiserver_version().await?;
        anyhow::Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .is_ok_and(|runtime| runtime.block_on(async { matches!(tokio::time::timeout(ANSWER, ask).await, Ok(Ok(()))) }))
}
