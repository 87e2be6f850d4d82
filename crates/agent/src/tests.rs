//! The agent against a control plane at the wire: a CA behind TLS on a port of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ::envoy::envoy::service::discovery::v3::DiscoveryRequest;
use ::envoy::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use ::envoy::istio::v1::auth::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use ::envoy::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use futures::stream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use pki::{MeshAuthority, SigningRequest, SpiffeId};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);
const TOKEN_TEXT: &str = "a token";

/// A CA that may be told to refuse.
#[derive(Clone)]
struct Ca {
    authority: Arc<Mutex<Arc<MeshAuthority>>>,
    asked: Arc<AtomicUsize>,
    refusal: Arc<Mutex<Option<Status>>>,
}

#[tonic::async_trait]
impl IstioCertificateService for Ca {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(status) = self.refusal.lock().unwrap().clone() {
            return Err(status);
        }
        let sent = request.metadata().get("authorization").unwrap();
        assert_eq!(sent.to_str().unwrap(), format!("Bearer {TOKEN_TEXT}"));
        let message = request.into_inner();
        let lifetime = u64::try_from(message.validity_duration).ok().filter(|s| *s > 0).map(Duration::from_secs);
        let request = SigningRequest::parse(&message.csr).unwrap();
        let authority = self.authority.lock().unwrap().clone();
        Ok(Response::new(IstioCertificateResponse { cert_chain: authority.sign(&request, &id(), lifetime).unwrap() }))
    }
}

fn id() -> SpiffeId {
    SpiffeId::new("cluster.local", "foo", "sleep").unwrap()
}

/// A control plane, and the files of a pod.
struct World {
    ca: Ca,
    address: SocketAddr,
    files: TempDir,
}

impl World {
    async fn start() -> World {
        let authority = MeshAuthority::generate("cluster.local").unwrap();
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("root-cert.pem"), authority.root_bundle_pem()).unwrap();
        std::fs::write(files.path().join("istio-token"), format!("{TOKEN_TEXT}\n")).unwrap();
        let authority = Arc::new(Mutex::new(Arc::new(authority)));
        let ca = Ca { authority, asked: Arc::default(), refusal: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, ca.clone()));
        World { ca, address, files }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn certification(&self, lifetime: Option<Duration>) -> Certification {
        let address = format!("localhost:{}", self.address.port());
        Certification {
            control_plane: ControlPlane { address, roots: self.file("root-cert.pem") },
            token: self.file("istio-token"),
            id: id(),
            lifetime,
        }
    }

    /// Starts to keep keys valid.
    fn keep(&self, lifetime: Option<Duration>) -> Keys {
        let (keys, certification, roots) = (Keys::default(), self.certification(lifetime), self.file("root-cert.pem"));
        let kept = keys.clone();
        tokio::spawn(async move { kept.keep(certification, &roots).await });
        keys
    }
}

/// Serves the CA with a certificate of its own.
async fn serve(listener: TcpListener, ca: Ca) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let authority = ca.authority.lock().unwrap().clone();
        let certificate = authority.issue_server(&["localhost"]).unwrap();
        let tls = pki::server_config(&certificate, authority.root_bundle_pem()).unwrap();
        // A client that does not trust this CA leaves here.
        let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { continue };
        let service = TowerToHyperService::new(IstioCertificateServiceServer::new(ca.clone()));
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
    }
}

/// The certificates that the keys have from now on, as they change.
async fn next(seen: &mut watch::Receiver<Option<Arc<Identity>>>) -> Arc<Identity> {
    let next = async {
        seen.changed().await.unwrap();
        seen.borrow_and_update().clone().unwrap()
    };
    tokio::time::timeout(LIMIT, next).await.expect("a certificate in time")
}

#[tokio::test]
async fn a_workload_gets_its_certificate_with_its_token() {
    let world = World::start().await;
    let identity = world.certification(Some(Duration::from_secs(60))).obtain().await.unwrap();
    assert!(identity.expires <= SystemTime::now() + Duration::from_secs(60));
    assert_eq!(identity.certificate.chain_pem.matches("BEGIN CERTIFICATE").count(), 2);
    let as_itself = world.certification(None).control_plane.connect(Some(&identity.certificate)).await;
    assert!(as_itself.is_ok());
}

#[tokio::test]
async fn a_short_lived_certificate_is_replaced_before_it_ends() {
    let world = World::start().await;
    let keys = world.keep(Some(Duration::from_secs(3)));
    let mut seen = keys.identity.subscribe();
    let first = next(&mut seen).await;
    let second = next(&mut seen).await;
    assert!(second.obtained < first.expires, "the first was still valid");
    assert_ne!(first.certificate.key_pem, second.certificate.key_pem, "every certificate has a key of its own");
    let mut table = keys.table.subscribe();
    table.wait_for(|entries| entries.get(secret_table::OWN).is_some_and(|entry| entry.version >= 2)).await.unwrap();
}

#[tokio::test]
async fn a_control_plane_that_refuses_is_asked_again() {
    let world = World::start().await;
    *world.ca.refusal.lock().unwrap() = Some(Status::unauthenticated("no"));
    let keys = world.keep(None);
    let asked = async || (world.ca.asked.load(Ordering::SeqCst) >= 2).then_some(());
    testkit::until_async("a second attempt", LIMIT, asked).await;
    assert!(keys.identity.borrow().is_none());
    *world.ca.refusal.lock().unwrap() = None;
    next(&mut keys.identity.subscribe()).await;
}

#[tokio::test]
async fn a_server_that_the_roots_do_not_lead_to_gets_no_token() {
    let world = World::start().await;
    let other = MeshAuthority::generate("cluster.local").unwrap();
    std::fs::write(world.file("root-cert.pem"), other.root_bundle_pem()).unwrap();
    let refused = world.certification(None).obtain().await.err().unwrap();
    assert!(reason(&refused).contains("certificate"), "{}", reason(&refused));
    assert_eq!(world.ca.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn new_roots_bring_a_new_certificate_at_once() {
    let world = World::start().await;
    let keys = world.keep(None);
    let mut seen = keys.identity.subscribe();
    next(&mut seen).await;
    let another = MeshAuthority::generate("another").unwrap();
    let roots = another.root_bundle_pem().to_owned();
    *world.ca.authority.lock().unwrap() = Arc::new(another);
    std::fs::write(world.file("next"), &roots).unwrap();
    std::fs::rename(world.file("next"), world.file("root-cert.pem")).unwrap();
    let second = next(&mut seen).await;
    assert!(second.certificate.chain_pem.ends_with(&roots));
}

#[tokio::test]
async fn secrets_are_served_on_a_socket_that_is_the_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::start().await;
    let keys = world.keep(Some(Duration::from_secs(3)));
    let socket = world.file("sds/socket");
    let (table, path) = (keys.table.clone(), socket.clone());
    tokio::spawn(async move { sds::serve(table, &path).await });
    testkit::until_async("the socket", LIMIT, async || socket.exists().then_some(())).await;
    let (path, connect) = (socket.clone(), Endpoint::from_static("http://agent"));
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = connect.connect_with_connector(connector).await.unwrap();
    let names = vec![secret_table::OWN.to_owned()];
    let first = DiscoveryRequest { resource_names: names, ..DiscoveryRequest::default() };
    let requests = futures::StreamExt::chain(stream::iter([first]), stream::pending());
    let mut answers = SecretDiscoveryServiceClient::new(channel).stream_secrets(requests).await.unwrap().into_inner();
    let mut versions = Vec::new();
    for _ in 0..2 {
        let answer = tokio::time::timeout(LIMIT, answers.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer.resources.len(), 1);
        versions.push(answer.version_info);
    }
    assert_eq!(versions, ["1", "2"], "the second is the rotated certificate");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
}
