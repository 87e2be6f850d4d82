//! One size of the mesh.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use envoy::TypeUrl;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use nix::unistd::Pid;
use pki::Certificate;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::transport::Channel;

use super::Value;
use crate::connection::{Connection, Server};
use crate::mesh::sidecar::{self, Acknowledged, ControlPlane, Sidecar, Variant};
use crate::mesh::{self, Edited, Size, Workload};
use crate::process::{cpu_ever, forget_peak, peak, resident};
use crate::statistics::{milliseconds, percentile};

const EDITS: usize = 20;
const IDLE: Duration = Duration::from_secs(5);
/// How often endpoints change where many do, for how long.
const CHURN: Duration = Duration::from_millis(10);
const CHURNED: Duration = Duration::from_secs(10);
/// How long nothing may be heard until all is said, and how long anything may take.
const QUIET: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_secs(120);
/// How many proxies' state is compared with that of new ones.
const COMPARED: usize = 20;
/// How many connect at once, before anything is measured.
const AT_ONCE: usize = 16;

/// A mesh of one size, and what is known of it.
pub(super) struct Run<'a> {
    pub(super) server: &'a Server,
    pub(super) process: Pid,
    pub(super) link: PathBuf,
    pub(super) size: Size,
    pub(super) variant: Variant,
    pub(super) values: Vec<Value>,
}

/// The proxies of all workloads.
struct Proxies {
    sidecars: Vec<Arc<Sidecar>>,
    acknowledged: UnboundedReceiver<anyhow::Result<Acknowledged>>,
    /// They end when this is dropped.
    _running: JoinSet<()>,
}

impl Run<'_> {
    fn note(&mut self, what: impl Into<String>, value: f64, unit: &'static str, target: &'static str) {
        self.values.push((what.into(), value, unit, target));
    }

    pub(super) async fn measure(&mut self) -> anyhow::Result<()> {
        let workloads = mesh::furnish(self.server, self.size).await?;
        let mut connection = self.server.connect().await?;
        let (address, roots) = (mesh::publish(&mut connection).await?, mesh::roots(&mut connection).await?);
        let plane = ControlPlane { address, roots };
        let certificates = certify(&mut connection, &plane, &workloads).await?;
        self.note("resident without proxies", resident(self.process)?, "MB", "");

        let begin = Instant::now();
        let mut proxies = self.connect(&plane, &workloads, &certificates).await?;
        proxies.settle(begin).await?;
        let ready = proxies.last_heard(begin).await?;
        self.note("cold, until all have everything", ready.as_secs_f64(), "s", "3 s with 1,000 proxies");
        for edited in mesh::edited(self.size) {
            self.edit(&mut connection, &mut proxies, &edited, edited.what).await?;
        }
        self.churn(&mut proxies).await?;
        self.rest().await?;
        let steady = resident(self.process)?;
        self.note("resident", steady, "MB", "120 MB with 200 proxies");
        self.check(&plane, &proxies, &certificates).await?;
        self.slow_reader(&mut connection, &mut proxies, &plane, &certificates[0]).await?;
        drop(proxies);
        self.storm(&plane, &workloads, &certificates, steady).await
    }

    /// Opens a connection and a stream for each workload, all at once.
    async fn connect(
        &self,
        plane: &ControlPlane,
        workloads: &[Workload],
        certificates: &[Certificate],
    ) -> anyhow::Result<Proxies> {
        let (events, acknowledged) = unbounded_channel();
        let channels = try_join_all(certificates.iter().map(|own| plane.connect(Some(own)))).await?;
        let mut running = JoinSet::new();
        let mut sidecars = Vec::new();
        for (number, (workload, channel)) in workloads.iter().zip(channels).enumerate() {
            let sidecar = Sidecar::new(number, workload.clone());
            running.spawn(sidecar.clone().run(channel, self.variant, events.clone()));
            sidecars.push(sidecar);
        }
        Ok(Proxies { sidecars, acknowledged, _running: running })
    }

    /// Edits an object again and again, each time until all whom it concerns have accepted it and no more is said.
    async fn edit(
        &mut self,
        connection: &mut Connection,
        proxies: &mut Proxies,
        edited: &Edited,
        what: &str,
    ) -> anyhow::Result<()> {
        let concerned: Vec<bool> =
            proxies.sidecars.iter().map(|sidecar| (edited.concerns)(&sidecar.workload)).collect();
        let (mut times, mut told) = (Vec::new(), 0);
        let (carried, spent) = (self.carried()?, cpu_ever(self.process)?);
        for n in 1..=EDITS {
            let begin = Instant::now();
            edited.edit(connection, n).await?;
            let heard = proxies.hear(&concerned, begin).await.with_context(|| format!("{what}, edit {n}"))?;
            times.push(heard.last - begin);
            told += heard.proxies;
        }
        times.sort_unstable();
        let each = |sum: f64| sum / EDITS as f64;
        let target = "100 ms with 1,000 proxies";
        self.note(format!("{what}, edit to last ACK, p50"), milliseconds(percentile(&times, 50.0)), "ms", "");
        self.note(format!("{what}, edit to last ACK, p99"), milliseconds(percentile(&times, 99.0)), "ms", target);
        self.note(format!("{what}, proxies told"), each(told as f64), "", "");
        self.note(format!("{what}, on the wire"), each(self.carried()? - carried) / 1024.0, "KB", "");
        let spent = (cpu_ever(self.process)? - spent).as_secs_f64();
        self.note(format!("{what}, processor time"), each(spent) * 1e3, "ms", "");
        Ok(())
    }

    /// Changes an endpoint a hundred times a second.
    async fn churn(&mut self, proxies: &mut Proxies) -> anyhow::Result<()> {
        let mut connection = self.server.connect().await?;
        let (carried, spent) = (self.carried()?, cpu_ever(self.process)?);
        let mut ticks = interval(CHURN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (begin, mut n) = (Instant::now(), 0);
        while begin.elapsed() < CHURNED {
            ticks.tick().await;
            mesh::churned(self.size, n).edit(&mut connection, EDITS + 1 + n).await?;
            n += 1;
        }
        let written = Instant::now();
        let last = proxies.last_heard(written).await?;
        let seconds = written.duration_since(begin).as_secs_f64();
        self.note("endpoint churn, changes", n as f64 / seconds, "/s", "100/s");
        self.note("endpoint churn, last change to last ACK", milliseconds(last), "ms", "");
        let spent = (cpu_ever(self.process)? - spent).as_secs_f64();
        self.note("endpoint churn, of one core", spent / seconds * 100.0, "%", "");
        self.note("endpoint churn, on the wire", (self.carried()? - carried) / 1024.0 / seconds, "KB/s", "");
        Ok(())
    }

    async fn rest(&mut self) -> anyhow::Result<()> {
        let before = cpu_ever(self.process)?;
        tokio::time::sleep(IDLE).await;
        let idle = (cpu_ever(self.process)? - before).as_secs_f64() / IDLE.as_secs_f64();
        self.note("idle, of one core", idle * 100.0, "%", "near zero");
        Ok(())
    }

    /// Compares what proxies have after all these changes with what new ones are told of the same workloads.
    async fn check(
        &mut self,
        plane: &ControlPlane,
        proxies: &Proxies,
        certificates: &[Certificate],
    ) -> anyhow::Result<()> {
        let step = proxies.sidecars.len().div_ceil(COMPARED);
        let some: Vec<usize> = (0..proxies.sidecars.len()).step_by(step).collect();
        let workloads: Vec<Workload> = some.iter().map(|n| proxies.sidecars[*n].workload.clone()).collect();
        let own: Vec<Certificate> = some.iter().map(|n| certificates[*n].clone()).collect();
        let begin = Instant::now();
        let mut fresh = self.connect(plane, &workloads, &own).await?;
        fresh.settle(begin).await?;
        fresh.last_heard(begin).await?;
        for (n, new) in some.iter().zip(&fresh.sidecars) {
            let (old, new) = (proxies.sidecars[*n].state(), new.state());
            let different = old.iter().filter(|(key, hash)| new.get(key) != Some(*hash)).map(|(key, _)| key);
            let different: Vec<_> = different.take(5).collect();
            let (workload, has, fresh) = (&proxies.sidecars[*n].workload, old.len(), new.len());
            ensure!(
                old == new,
                "{workload:?} has {has} resources and a new one {fresh}; not the same are {different:?}"
            );
        }
        self.note("proxies that have what new ones are told", some.len() as f64, "", "all that are looked at");
        Ok(())
    }

    /// Has one more proxy that never reads, and edits beside it.
    async fn slow_reader(
        &mut self,
        connection: &mut Connection,
        proxies: &mut Proxies,
        plane: &ControlPlane,
        certificate: &Certificate,
    ) -> anyhow::Result<()> {
        let channel = plane.connect(Some(certificate)).await?;
        let _reader = sidecar::never_read(&proxies.sidecars[0], channel).await?;
        let edited = mesh::churned(self.size, 1);
        self.edit(connection, proxies, &edited, "EndpointSlice beside a slow reader").await
    }

    /// All proxies come back at once, and have nothing.
    async fn storm(
        &mut self,
        plane: &ControlPlane,
        workloads: &[Workload],
        certificates: &[Certificate],
        steady: f64,
    ) -> anyhow::Result<()> {
        forget_peak(self.process)?;
        let spent = cpu_ever(self.process)?;
        let begin = Instant::now();
        let mut proxies = self.connect(plane, workloads, certificates).await?;
        proxies.settle(begin).await?;
        let ready = proxies.last_heard(begin).await?;
        self.note("all reconnect, until all have everything", ready.as_secs_f64(), "s", "");
        let spent = (cpu_ever(self.process)? - spent).as_secs_f64();
        self.note("all reconnect, processor time", spent, "s", "");
        self.note("all reconnect, peak memory by steady", peak(self.process)? / steady, "", "2");
        Ok(())
    }

    /// The bytes that the host's link has carried, in both directions, headers and all. Nothing else goes over it: the API
    /// server is reached without.
    fn carried(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for file in ["statistics/rx_bytes", "statistics/tx_bytes"] {
            sum += std::fs::read_to_string(self.link.join(file))?.trim().parse::<f64>()?;
        }
        Ok(sum)
    }
}

/// What was heard after an edit.
struct Heard {
    last: Instant,
    /// How many proxies said something.
    proxies: usize,
}

impl Proxies {
    async fn next(&mut self) -> anyhow::Result<Acknowledged> {
        let next = timeout(LIMIT, self.acknowledged.recv()).await.context("the proxies are told nothing")?;
        next.context("no proxy is left")?
    }

    /// Waits until every proxy has endpoints.
    async fn settle(&mut self, begin: Instant) -> anyhow::Result<()> {
        let mut has = vec![false; self.sidecars.len()];
        while !has.iter().all(|has| *has) {
            let without = || {
                format!("{} proxies have nothing after {:?}", has.iter().filter(|has| !**has).count(), begin.elapsed())
            };
            let news = self.next().await.with_context(without)?;
            has[news.proxy] |= news.type_url == TypeUrl::Endpoint;
        }
        Ok(())
    }

    /// Waits until no more is said; when the last was, since `begin`.
    async fn last_heard(&mut self, begin: Instant) -> anyhow::Result<Duration> {
        let mut last = Instant::now();
        while let Ok(news) = timeout(QUIET, self.acknowledged.recv()).await {
            last = news.context("no proxy is left")??.at;
        }
        Ok(last.saturating_duration_since(begin))
    }

    /// Waits until all that are concerned have accepted something and no more is said.
    async fn hear(&mut self, concerned: &[bool], begin: Instant) -> anyhow::Result<Heard> {
        let mut missing = concerned.iter().filter(|is| **is).count();
        let mut told = vec![false; concerned.len()];
        let mut last = begin;
        loop {
            let news = if missing > 0 {
                self.next().await.with_context(|| format!("{missing} proxies were not told"))?
            } else {
                match timeout(QUIET, self.acknowledged.recv()).await {
                    Ok(news) => news.context("no proxy is left")??,
                    Err(_) => break,
                }
            };
            last = last.max(news.at);
            if !std::mem::replace(&mut told[news.proxy], true) && concerned[news.proxy] {
                missing -= 1;
            }
        }
        Ok(Heard { last, proxies: told.iter().filter(|told| **told).count() })
    }
}

/// A certificate for each workload.
async fn certify(
    connection: &mut Connection,
    plane: &ControlPlane,
    workloads: &[Workload],
) -> anyhow::Result<Vec<Certificate>> {
    let authority: Channel = plane.connect(None).await?;
    let mut tokens = Vec::new();
    for workload in workloads {
        tokens.push(mesh::token(connection, workload).await?);
    }
    let certified =
        workloads.iter().zip(&tokens).map(|(workload, token)| sidecar::certify(&authority, workload, token));
    stream::iter(certified).buffered(AT_ONCE).try_collect().await
}
