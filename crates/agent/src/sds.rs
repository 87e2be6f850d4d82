//! Secrets for Envoy: the secret discovery service on a Unix socket, so that keys do not leave the pod.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;

use envoy::TypeUrl;
use envoy::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use futures::{Stream, stream};
use prost::Message;
use prost_types::Any;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::secret_table::{Entry, SecretTable};

/// Serves the table at `path`, for this user alone.
pub(crate) async fn serve(table: SecretTable, path: &Path) -> io::Result<()> {
    // A socket that an earlier agent has left would be in the way.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let service = SecretDiscoveryServiceServer::new(Service(table));
    let incoming = stream::try_unfold(listener, |listener| async {
        let (stream, _) = listener.accept().await?;
        Ok::<_, io::Error>(Some((stream, listener)))
    });
    Server::builder().serve_with_incoming(service, incoming).await.map_err(io::Error::other)
}

struct Service(SecretTable);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type StreamSecretsStream = Answers<DiscoveryResponse>;
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let (table, requests) = (self.0.clone(), request.into_inner());
        // The task ends with the stream, in either direction.
        tokio::spawn(async move {
            if let Err(status) = converse(&table, requests, &sender).await {
                // The stream may be gone already.
                let _gone = sender.send(Err(status)).await;
            }
        });
        let answers =
            stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|next| (next, receiver)) });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("ask for the state of the world: StreamSecrets"))
    }

    async fn fetch_secrets(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("ask for a stream: StreamSecrets"))
    }
}

type Sender = mpsc::Sender<Result<DiscoveryResponse, Status>>;

/// Answers one stream until it ends.
async fn converse(
    table: &SecretTable,
    mut requests: Streaming<DiscoveryRequest>,
    sender: &Sender,
) -> Result<(), Status> {
    let mut changes = table.subscribe();
    let mut subscription = Subscription::default();
    loop {
        tokio::select! {
            request = requests.message() => match request? {
                None => return Ok(()),
                Some(request) => {
                    subscription.heard(request)?;
                    table.want(subscription.names.iter().cloned());
                }
            },
            changed = changes.changed() => changed.map_err(|_| Status::unavailable("the agent ends"))?,
        }
        let response = subscription.answer(&entries(&mut changes));
        if let Some(response) = response
            && sender.send(Ok(response)).await.is_err()
        {
            return Ok(());
        }
    }
}

fn entries(changes: &mut watch::Receiver<BTreeMap<String, Entry>>) -> BTreeMap<String, Entry> {
    changes.borrow_and_update().clone()
}

/// What a stream has asked for and was given.
#[derive(Default)]
struct Subscription {
    names: BTreeSet<String>,
    sent: BTreeMap<String, u64>,
    responses: u64,
}

impl Subscription {
    /// Takes note of a request. An acknowledgement asks for nothing new.
    fn heard(&mut self, request: DiscoveryRequest) -> Result<(), Status> {
        if !request.type_url.is_empty() && request.type_url != TypeUrl::Secret.as_str() {
            return Err(Status::invalid_argument(format!("{} is not served here", request.type_url)));
        }
        if let Some(error) = request.error_detail {
            tracing::warn!("Envoy refuses {:?}: {}", request.resource_names, error.message);
        }
        self.names = request.resource_names.into_iter().collect();
        self.sent.retain(|name, _| self.names.contains(name));
        Ok(())
    }

    /// All that was asked for, if any of it is news.
    fn answer(&mut self, entries: &BTreeMap<String, Entry>) -> Option<DiscoveryResponse> {
        let known: Vec<_> = self.names.iter().filter_map(|name| Some((name.clone(), entries.get(name)?))).collect();
        let now: BTreeMap<String, u64> = known.iter().map(|(name, entry)| (name.clone(), entry.version)).collect();
        if now == self.sent {
            return None;
        }
        self.sent = now;
        self.responses += 1;
        let resource =
            |entry: &Entry| Any { type_url: TypeUrl::Secret.as_str().to_owned(), value: entry.secret.encode_to_vec() };
        Some(DiscoveryResponse {
            version_info: self.responses.to_string(),
            nonce: self.responses.to_string(),
            type_url: TypeUrl::Secret.as_str().to_owned(),
            resources: known.iter().map(|(_, entry)| resource(entry)).collect(),
            ..DiscoveryResponse::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret_table::{ROOTS, trust};

    fn request(names: &[&str]) -> DiscoveryRequest {
        let resource_names = names.iter().map(|name| (*name).to_owned()).collect();
        DiscoveryRequest { resource_names, ..DiscoveryRequest::default() }
    }

    #[test]
    fn secrets_are_sent_when_they_are_there_and_again_when_they_change() {
        let table = SecretTable::default();
        let mut stream = Subscription::default();
        stream.heard(request(&[ROOTS])).unwrap();
        let now = || table.subscribe().borrow().clone();
        assert!(stream.answer(&now()).is_none(), "nothing is there yet");
        table.put(trust(ROOTS, "one".to_owned()));
        assert_eq!(stream.answer(&now()).unwrap().resources.len(), 1);
        stream.heard(request(&[ROOTS])).unwrap();
        assert!(stream.answer(&now()).is_none(), "an acknowledgement asks for nothing");
        table.put(trust("file-root:/other", "two".to_owned()));
        assert!(stream.answer(&now()).is_none(), "another's secret is no news");
        table.put(trust(ROOTS, "three".to_owned()));
        assert_eq!(stream.answer(&now()).unwrap().version_info, "2");
    }

    #[test]
    fn other_types_are_refused() {
        let wrong = DiscoveryRequest { type_url: TypeUrl::Cluster.as_str().to_owned(), ..request(&[]) };
        assert_eq!(Subscription::default().heard(wrong).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
