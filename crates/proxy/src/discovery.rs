//! The proxy's end of ADS: one stream of changes from the control plane, reopened whenever it ends.
//!
//! Without a control plane everything goes on as it is. When it is back it is told which versions are in force, and
//! sends what has changed; nothing that did not change is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::error::Error;
use std::fmt::Write;
use std::io;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use envoy::TypeUrl;
use envoy::ads::{Client, Offer};
use envoy::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use futures::channel::mpsc;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use tower::service_fn;

use crate::config::SecretSource;
use crate::{Proxy, Update, Wanted};

/// How soon a stream is opened again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long a connection to the control plane may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the control plane may be silent before it is asked for a sign of life, and how long it has for that.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// The largest response that is read.
const LARGEST_RESPONSE: usize = 256 << 20;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("no connection within {CONNECT_TIMEOUT:?}")]
    ConnectTimeout,
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("cannot speak HTTP/2")]
    Transport(#[source] tonic::transport::Error),
    #[error("the stream failed with {}: {}", .0.code(), .0.message())]
    Failed(Status),
    #[error("the control plane closed the stream")]
    Closed,
}

impl Proxy {
    /// Follows the control plane, for ever. `connect` makes a connection to it, secured as the caller wishes; it is
    /// called again whenever the last one has ended.
    pub async fn discover<F, C, T>(&self, connect: F) -> Infallible
    where
        F: Fn() -> C,
        C: Future<Output = io::Result<T>>,
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let streams = self.follow(connect);
        tokio::select! {
            never = streams => never,
            never = self.give_up_waiting() => never,
        }
    }

    async fn follow<F, C, T>(&self, connect: F) -> Infallible
    where
        F: Fn() -> C,
        C: Future<Output = io::Result<T>>,
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(BACKOFF.0)
            .with_max_delay(BACKOFF.1)
            .with_jitter()
            .without_max_times();
        let mut delays = backoff.build();
        let mut client = Client::new(self.node().clone());
        loop {
            let mut stream = Stream { proxy: self, client: &mut client, wanted: self.wanted(), heard: false };
            let ended = match open(&connect).await {
                Ok(channel) => stream.run(channel).await,
                Err(ended) => ended,
            };
            if stream.heard {
                delays = backoff.build();
            }
            self.state().connected(false);
            let delay = delays.next().unwrap_or(BACKOFF.1);
            tracing::warn!("ADS: {}; trying again in {} ms", reason(&ended), delay.as_millis());
            tokio::time::sleep(delay).await;
        }
    }
}

/// A channel over a new connection. It has that connection only, so that the stream ends with it.
async fn open<F, C, T>(connect: &F) -> Result<Channel, Ended>
where
    F: Fn() -> C,
    C: Future<Output = io::Result<T>>,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = tokio::time::timeout(CONNECT_TIMEOUT, connect()).await.map_err(|_| Ended::ConnectTimeout)?;
    let mut connection = Some(TokioIo::new(connection.map_err(Ended::Connect)?));
    // The connection is made already: the address is only what is written into the requests.
    let endpoint = Endpoint::from_static("http://control-plane")
        .http2_keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .keep_alive_while_idle(true);
    let once = service_fn(move |_| {
        let connection = connection.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        async move { connection }
    });
    let channel = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(once)).await;
    channel.map_err(|_| Ended::ConnectTimeout)?.map_err(Ended::Transport)
}

/// An error with its causes.
fn reason(ended: &Ended) -> String {
    let mut text = ended.to_string();
    let mut cause = ended.source();
    while let Some(error) = cause {
        write!(text, ": {error}").expect("a string takes all");
        cause = error.source();
    }
    text
}

/// One stream.
struct Stream<'a> {
    proxy: &'a Proxy,
    client: &'a mut Client,
    wanted: watch::Receiver<Wanted>,
    /// Whether a response has come.
    heard: bool,
}

type Requests = mpsc::UnboundedSender<DeltaDiscoveryRequest>;

impl Stream<'_> {
    async fn run(&mut self, channel: Channel) -> Ended {
        let (requests, outgoing) = mpsc::unbounded();
        // What has been wanted since the last stream is asked for by the requests that open this one.
        self.ask();
        for request in self.client.open() {
            send(&requests, request);
        }
        let client = AggregatedDiscoveryServiceClient::new(channel);
        let stream = client.max_decoding_message_size(LARGEST_RESPONSE).delta_aggregated_resources(outgoing).await;
        match stream {
            Ok(responses) => self.converse(responses.into_inner(), &requests).await,
            Err(status) => Ended::Failed(status),
        }
    }

    async fn converse(&mut self, mut responses: Streaming<DeltaDiscoveryResponse>, requests: &Requests) -> Ended {
        self.proxy.state().connected(true);
        tracing::info!("ADS: connected to the control plane");
        loop {
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => self.take(response, requests),
                    Ok(None) => return Ended::Closed,
                    Err(status) => return Ended::Failed(status),
                },
                // The proxy has the sender, so that this never fails.
                _ = self.wanted.changed() => {}
            }
            for request in self.ask() {
                send(requests, request);
            }
        }
    }

    /// Applies a response, and answers it.
    fn take(&mut self, response: DeltaDiscoveryResponse, requests: &Requests) {
        self.heard = true;
        let type_url = response.type_url.clone();
        let Some(offer) = self.client.receive(response) else {
            tracing::warn!("ADS: a response of the type {type_url:?}, which was not asked for, is not read");
            return;
        };
        // What is borrowed must be given back before the update changes what is wanted.
        let update = wanted_of(&offer, &self.wanted.borrow());
        let refused = self.proxy.apply(update);
        let rejected: BTreeMap<String, String> =
            refused.into_iter().map(|(name, rejected)| (name, rejected.to_string())).collect();
        tracing::debug!(
            "ADS: {} resources of {}, {} removed, {} refused",
            offer.resources.len(),
            offer.type_url,
            offer.removed.len(),
            rejected.len()
        );
        for (name, why) in &rejected {
            tracing::warn!("ADS: {} {name:?} is refused: {why}", offer.type_url);
        }
        // What new clusters need is asked for before they are acknowledged. Otherwise the server would take it that they are
        // ready, and send routes to them too early.
        for request in self.ask() {
            send(requests, request);
        }
        send(requests, self.client.answer(offer, &rejected));
    }

    /// The requests that change what is asked for to what is wanted now.
    fn ask(&mut self) -> Vec<DeltaDiscoveryRequest> {
        let Wanted { endpoints, routes, secrets } = self.wanted.borrow_and_update().clone();
        let endpoints = endpoints.iter().map(|name| name.to_string()).collect();
        let routes = routes.iter().map(|name| name.to_string()).collect();
        let secrets = secrets.iter().filter(|s| s.source == SecretSource::Ads).map(|s| s.name.to_string());
        let secrets: BTreeSet<String> = secrets.collect();
        let endpoints = self.client.want(TypeUrl::Endpoint, endpoints);
        let routes = self.client.want(TypeUrl::Route, routes);
        endpoints.into_iter().chain(routes).chain(self.client.want(TypeUrl::Secret, secrets)).collect()
    }
}

/// What of an offer may be applied. A name that is no longer wanted, or never was, would stay for ever; and nobody
/// but the pod's own agent may bring the secrets that are its to bring.
fn wanted_of(offer: &Offer, wanted: &Wanted) -> Update {
    let mut update = Update::from(offer.clone());
    let asked = |name: &str| match offer.type_url {
        TypeUrl::Endpoint => wanted.endpoints.contains(name),
        TypeUrl::Secret => wanted.secrets.iter().any(|s| *s.name == *name && s.source == SecretSource::Ads),
        TypeUrl::Route => wanted.routes.contains(name),
        TypeUrl::Cluster | TypeUrl::Listener => true,
    };
    update.resources.retain(|resource| asked(&resource.name));
    update.removed.retain(|name| asked(name));
    if offer.type_url == TypeUrl::Secret {
        // As in Envoy, a secret in use is not taken away but by taking away what uses it.
        update.removed.clear();
    }
    update
}

fn send(requests: &Requests, request: DeltaDiscoveryRequest) {
    // It fails only when the stream has ended, which the next response will say.
    let _ = requests.unbounded_send(request);
}

#[cfg(test)]
mod tests;
