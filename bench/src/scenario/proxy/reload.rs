//! All certificates of a gateway are replaced while it has load.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::time::sleep;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::MANY;
use crate::comparison::runtime;
use crate::pace::{Outcome, at_rate};
use crate::proxy::certificates::{Hosts, Identity, host};
use crate::proxy::client::{Client, Kind, Secured, request};
use crate::proxy::hop::{Hop, Requests, Terminate, Work, path};
use crate::proxy::secrets::Secrets;
use crate::proxy::upstream::{ANSWER, Upstream};
use crate::proxy::{Program, Proxy, free_address};
use crate::report::Report;
use crate::statistics::{milliseconds, percentile};

pub(super) const WHAT: &str = "1,000 certificates replaced under load";

/// Requests on connections that stay, and connections with a request each, in a second.
const REQUESTS: f64 = 1000.0;
const CONNECTIONS: f64 = 200.0;
const LOADED: Duration = Duration::from_secs(6);
/// When the certificates are replaced.
const LATER: Duration = Duration::from_secs(2);
/// How long it may take until every server shows its new one.
const REPLACED: Duration = Duration::from_secs(60);

pub(super) fn run(mut report: Report, programs: &[Program]) -> anyhow::Result<Report> {
    for program in programs.iter().filter(|program| matches!(program, Program::Isthmus(_) | Program::Envoy(_))) {
        let reload = measure(program).with_context(|| format!("{WHAT}: {}", program.name()))?;
        let name = program.name();
        let errors = reload.requests.errors + reload.connections.errors;
        if let Some(complaint) = reload.requests.complaint.as_ref().or(reload.connections.complaint.as_ref()) {
            eprintln!("{WHAT}: {name}: {complaint}");
        }
        let largest = |outcome: &Outcome| milliseconds(percentile(&outcome.times, 100.0));
        let target = if matches!(program, Program::Isthmus(_)) { "0" } else { "" };
        report = report
            .row(format!("{WHAT}, errors: {name}"), errors as f64, "", target)
            .row(format!("{WHAT}, slowest request: {name}"), largest(&reload.requests), "ms", "")
            .row(format!("{WHAT}, slowest new connection: {name}"), largest(&reload.connections), "ms", "")
            .row(format!("{WHAT}, until the last is shown: {name}"), milliseconds(reload.shown), "ms", "");
    }
    Ok(report)
}

struct Reload {
    requests: Outcome,
    connections: Outcome,
    /// From the replacement until every server was seen to show its new certificate.
    shown: Duration,
}

fn measure(program: &Program) -> anyhow::Result<Reload> {
    let runtime = runtime()?;
    let mut hosts = Hosts::generate(MANY, false)?;
    let fresh = hosts.certificates.hosts(MANY)?;
    let secrets = Secrets::start(&hosts.identities)?;
    hosts.secrets = Some(secrets.address);
    let endpoint = runtime.block_on(Upstream::Answer(0).start())?;
    let listen = free_address()?;
    let work = Work::Requests(Requests::USUAL);
    let hop = Hop { listen, endpoint, terminate: Some(Terminate::Hosts(&hosts)), originate: None, work };
    let _proxy = Proxy::start(program, &hop)?.context("it has no gateway")?;
    let config = hosts.certificates.client_config(&["http/1.1"])?;
    let secured = Secured::new(config, &hosts.names())?;
    let (asked, body) = (request(&path(1), &host(0), 0), ANSWER.len());
    let staying = Client::new(listen, Kind::Http1 { request: asked.clone(), body }, Some(secured.clone()));
    let coming = Client::new(listen, Kind::Once { request: asked, body }, Some(secured.clone()));
    let seeing = Client::new(listen, Kind::Connect { resumed: false }, Some(secured));
    runtime.block_on(async {
        let (mut stay, mut come) = (staying.lanes(32).await?, coming.lanes(16).await?);
        let replace = async {
            sleep(LATER).await;
            secrets.replace(&fresh, 2);
            until_shown(&seeing, &fresh).await
        };
        let (requests, connections, shown) = tokio::join!(
            at_rate(&staying, &mut stay, REQUESTS, LOADED),
            at_rate(&coming, &mut come, CONNECTIONS, LOADED),
            replace
        );
        anyhow::Ok(Reload { requests: requests?, connections: connections?, shown: shown? })
    })
}

/// Looks at one server after the other until each shows its certificate of these; how long that took.
async fn until_shown(client: &Client, fresh: &[Identity]) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let parse = |identity: &Identity| Ok(CertificateDer::from_pem_slice(identity.certificate.as_bytes())?.to_vec());
    let mut awaited = fresh.iter().map(parse).collect::<anyhow::Result<BTreeSet<Vec<u8>>>>()?;
    while !awaited.is_empty() {
        ensure!(begin.elapsed() < REPLACED, "{} servers do not show their new certificates", awaited.len());
        awaited.remove(&client.see_certificate().await?);
    }
    Ok(begin.elapsed())
}
