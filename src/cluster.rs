//! The process of one cluster: API server, controllers and node, put together.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use api::{ApiError, GroupResource};
use apiserver::{ApiServer, ConnectRequest, Extensions, UserInfo};
use control::ControlPlane;
use http_body_util::{BodyExt, Full};
use node::{ClusterNetwork, NetworkConfig, Node, NodeConfig, OuterNetwork};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::federation::{Federation, Home, LockFile, Member, cluster_lock, write_atomically};
use crate::up::Readiness;
use crate::{kubeconfig, memory, output};

/// The port on which pods find the API server behind `kubernetes.default`.
const POD_API_PORT: u16 = 6443;
/// The port on which sidecars find their configuration and their certificates, as in Istio.
const MESH_PORT: u16 = 15012;
/// The port on which it says how it fares, as in Istio.
const MONITORING_PORT: u16 = 15014;
const MONITORING_PORT_NAME: &str = "http-monitoring";

/// How often memory that a burst of work has left behind is given back.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// `isthmus internal cluster NAME HOME`: tells its starter one [`Readiness`] line, then serves until SIGTERM.
pub(crate) fn main(args: &[String]) -> anyhow::Result<ExitCode> {
    let [name, home] = args else { bail!("usage: isthmus internal cluster NAME HOME") };
    let home = Home::new(PathBuf::from(home));
    match serve(&home, name) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            tell(&Readiness::Failed(format!("{error:#}")));
            Err(error)
        }
    }
}

/// Writes the line and gives standard output away, so that the starter's pipe closes.
fn tell(readiness: &Readiness) {
    if let Ok(line) = serde_json::to_string(readiness) {
        println!("{line}");
    }
    // Without /dev/null the pipe stays open, which harms nobody but a starter that waits for its end.
    if let Ok(null) = std::fs::File::create("/dev/null") {
        let _ = nix::unistd::dup2_stdout(null);
    }
}

fn serve(home: &Home, name: &str) -> anyhow::Result<()> {
    // Namespaces are entered before the runtime starts its threads.
    let outer = OuterNetwork::find(home.path()).context("the federation's outer network is not running")?;
    outer.enter_user_namespace()?;
    let lock = LockFile::take(&cluster_lock(home, name))?;
    let _lock = lock.with_context(|| format!("cluster {name} is running already"))?;
    output::log();
    let federation = home.expect()?;
    let member =
        federation.clusters.get(name).with_context(|| format!("{name} is not a cluster of this federation"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(Cluster::new(home, name, &federation, member)?.run())
}

struct Cluster<'a> {
    home: &'a Home,
    name: &'a str,
    federation: &'a Federation,
    member: &'a Member,
    executable: PathBuf,
    keys: Keys,
}

impl<'a> Cluster<'a> {
    fn new(
        home: &'a Home,
        name: &'a str,
        federation: &'a Federation,
        member: &'a Member,
    ) -> anyhow::Result<Cluster<'a>> {
        let executable = std::env::current_exe()?;
        let keys = Keys::load_or_generate(&home.cluster(name).join("pki"), name)?;
        Ok(Cluster { home, name, federation, member, executable, keys })
    }

    async fn run(self) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        let node: Arc<OnceLock<Node>> = Arc::default();
        let control = self.control_config();
        let mesh = ControlPlane::new();
        let server = self.open_server(&control, &mesh, &node)?;
        let tls = self.tls()?;
        self.write_kubeconfigs()?;
        let mut serving = vec![serve_on(&server, self.host_listener()?, &tls, &stop)];

        let controllers = kube_client(&server, "system:kube-controller-manager");
        let (network, ()) = tokio::try_join!(
            async { ClusterNetwork::open(self.network_config()).await.map_err(anyhow::Error::from) },
            async { control::bootstrap(&control, &controllers).await.map_err(anyhow::Error::from) },
        )?;
        let mut renewals = network.renewals();
        let mut for_pods = stop.child_token();
        serving.push(serve_on(&server, network.listen_for_pods(POD_API_PORT)?, &tls, &for_pods));
        serving.push(serve_mesh_on(&mesh, network.listen_for_pods(MESH_PORT)?, &for_pods));
        serving.push(monitor_on(&mesh, network.listen_for_pods(MONITORING_PORT)?, &for_pods));
        let outer = network.listen_on_outer_loopback(self.member.port)?;
        serving.push(serve_on(&server, outer, &tls, &stop));

        let mut controllers = tokio::spawn(control::run(control, controllers, mesh.clone()));
        let kubelet = kube_client(&server, &format!("system:node:{}-node", self.name));
        let started = Node::start(self.node_config(), network.clone(), kubelet).await?;
        node.set(started).ok().context("the node is started once")?;
        tell(&Readiness::Ready);

        let mut tidying = tokio::time::interval(TIDY_EVERY);
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let outcome = loop {
            tokio::select! {
                _ = terminate.recv() => break Ok(()),
                _ = tidying.tick() => memory::give_back(),
                ended = &mut controllers => break Err(anyhow::anyhow!("the controllers ended: {ended:?}")),
                renewed = renewals.changed() => {
                    if renewed.is_err() {
                        break Err(anyhow::anyhow!("the outer network has ended"));
                    }
                    for_pods.cancel();
                    for_pods = stop.child_token();
                    serving.push(serve_on(&server, network.listen_for_pods(POD_API_PORT)?, &tls, &for_pods));
                    serving.push(serve_mesh_on(&mesh, network.listen_for_pods(MESH_PORT)?, &for_pods));
                    serving.push(monitor_on(&mesh, network.listen_for_pods(MONITORING_PORT)?, &for_pods));
                }
            }
        };
        stop.cancel();
        for task in serving {
            task.await??;
        }
        outcome
    }

    fn open_server(
        &self,
        control: &control::Config,
        mesh: &ControlPlane,
        node: &Arc<OnceLock<Node>>,
    ) -> anyhow::Result<ApiServer> {
        let mut admission = control::admission(control);
        admission.push(mesh.admission());
        let config = apiserver::Config {
            storage: self.home.cluster(self.name).join("store"),
            token_key: self.keys.tokens.clone(),
            extensions: Extensions { admission, connect: connections(node, mesh) },
        };
        Ok(ApiServer::open(config)?)
    }

    fn tls(&self) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let (plan, index) = (self.federation.plan, self.member.index);
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let ips = [Ipv4Addr::LOCALHOST, plan.kubernetes_service(index), plan.pod_gateway(index)];
        let server = self.keys.authority.issue_server(&names, &ips.map(Into::into))?;
        Ok(pki::server_config(&server, self.keys.authority.certificate_pem())?)
    }

    fn write_kubeconfigs(&self) -> anyhow::Result<()> {
        let dir = self.home.cluster(self.name);
        let ca = self.keys.authority.certificate_pem();
        let admin = self.keys.authority.issue_client("kubernetes-admin", &["system:masters"])?;
        kubeconfig::write(&dir.join("admin.kubeconfig"), self.name, self.member.port, ca, &admin)?;
        let proxier = self.keys.authority.issue_client("system:kube-proxy", &["system:node-proxiers"])?;
        kubeconfig::write(&dir.join("dns.kubeconfig"), self.name, self.member.port, ca, &proxier)
    }

    fn host_listener(&self) -> anyhow::Result<TcpListener> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.member.port));
        let remedy = || {
            let port = self.member.port;
            format!(
                "cannot listen on {address}: stop the program that uses the port (`ss -ltnp sport = :{port}` names it), \
                or remove the cluster's entry from {}/federation.json to have another port chosen",
                self.home.path().display()
            )
        };
        let listener = TcpListener::bind(address).with_context(remedy)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn control_config(&self) -> control::Config {
        let (plan, index) = (self.federation.plan, self.member.index);
        control::Config {
            cluster: self.name.to_owned(),
            plan,
            index,
            ca_pem: self.keys.authority.certificate_pem().to_owned(),
            api_endpoint: (plan.pod_gateway(index), POD_API_PORT),
            data_plane: self.federation.data_plane.for_control(),
        }
    }

    fn network_config(&self) -> NetworkConfig {
        NetworkConfig {
            home: self.home.path().to_owned(),
            executable: self.executable.clone(),
            cluster: self.name.to_owned(),
            plan: self.federation.plan,
            index: self.member.index,
        }
    }

    fn node_config(&self) -> NodeConfig {
        NodeConfig {
            home: self.home.path().to_owned(),
            executable: self.executable.clone(),
            programs: self.federation.data_plane.program().into_iter().collect(),
            cluster: self.name.to_owned(),
            plan: self.federation.plan,
            index: self.member.index,
        }
    }
}

/// Serves on one more listener, in a task of its own.
fn serve_on(
    server: &ApiServer,
    listener: TcpListener,
    tls: &Arc<rustls::ServerConfig>,
    stop: &CancellationToken,
) -> JoinHandle<std::io::Result<()>> {
    let (server, tls, stop) = (server.clone(), tls.clone(), stop.clone());
    tokio::spawn(async move { server.serve(listener, tls, stop).await })
}

/// Serves the mesh's proxies on one more listener, in a task of its own.
fn serve_mesh_on(
    mesh: &ControlPlane,
    listener: TcpListener,
    stop: &CancellationToken,
) -> JoinHandle<std::io::Result<()>> {
    let (mesh, stop) = (mesh.clone(), stop.clone());
    tokio::spawn(async move { mesh.serve(listener, stop).await })
}

/// Serves what the mesh's control plane knows on one more listener, in a task of its own.
fn monitor_on(mesh: &ControlPlane, listener: TcpListener, stop: &CancellationToken) -> JoinHandle<std::io::Result<()>> {
    let (mesh, stop) = (mesh.clone(), stop.clone());
    tokio::spawn(async move { mesh.serve_monitoring(listener, stop).await })
}

/// The API as one of the cluster's own components, without a socket.
fn kube_client(server: &ApiServer, component: &str) -> kube::Client {
    let user =
        UserInfo { name: component.to_owned(), groups: vec!["system:masters".to_owned()], ..UserInfo::default() };
    kube::Client::new(server.in_process(user), "default")
}

/// Who answers a connection subresource.
type Connection = ((GroupResource, String), apiserver::Connect);

/// `pods/log`, `pods/exec`, `pods/attach` and `pods/portforward`, answered by the node once it has started, and
/// `services/proxy`.
fn connections(
    node: &Arc<OnceLock<Node>>,
    mesh: &ControlPlane,
) -> BTreeMap<(GroupResource, String), apiserver::Connect> {
    let of_pods = ["log", "exec", "attach", "portforward"].map(|subresource| connection(node.clone(), subresource));
    of_pods.into_iter().chain([mesh_pages(mesh.clone())]).collect()
}

/// `services/proxy` for the mesh's control plane, whose pages are for whoever may read them through the API. Other services
/// are in the pods' network, where this process is not.
fn mesh_pages(mesh: ControlPlane) -> Connection {
    let connect: apiserver::Connect = Arc::new(move |connect: ConnectRequest| {
        let mesh = mesh.clone();
        Box::pin(async move {
            let ConnectRequest { namespace, name, port, beyond, request, .. } = connect;
            let numbered = MONITORING_PORT.to_string();
            let port = if port == MONITORING_PORT_NAME { &numbered } else { &port };
            if [&*namespace, &*name, port] != ["istio-system", "istiod", &numbered] {
                return Err(ApiError::bad_request(format!(
                    "proxy is served for istiod:{MONITORING_PORT} in istio-system alone; reach the service with `isthmus run \
                     -- COMMAND`, if it is of type NodePort or LoadBalancer"
                )));
            }
            let query = request.uri().query().unwrap_or_default();
            let page = mesh.page(request.method(), &format!("/{beyond}"), query);
            Ok(page.map(|text| Full::from(text).map_err(|never| match never {}).boxed_unsync()))
        })
    });
    ((GroupResource::new("", "services"), "proxy".to_owned()), connect)
}

fn connection(node: Arc<OnceLock<Node>>, subresource: &'static str) -> Connection {
    let connect: apiserver::Connect = Arc::new(move |connect: ConnectRequest| {
        let node = node.get().cloned();
        Box::pin(async move {
            let node = node.ok_or_else(|| ApiError::unavailable("the node is starting; try again"))?;
            let ConnectRequest { object, request, .. } = connect;
            match subresource {
                "log" => node.logs(object, request).await,
                "exec" => node.exec(object, request).await,
                "attach" => node.attach(object, request).await,
                _ => node.port_forward(object, request).await,
            }
        })
    });
    ((GroupResource::new("", "pods"), subresource.to_owned()), connect)
}

/// The cluster's lasting keys.
struct Keys {
    authority: pki::Authority,
    tokens: Arc<pki::TokenKey>,
}

impl Keys {
    fn load_or_generate(dir: &Path, cluster: &str) -> anyhow::Result<Keys> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let (certificate, key, tokens) = (dir.join("ca.crt"), dir.join("ca.key"), dir.join("token.key"));
        // The last file written tells that all of them were.
        if tokens.exists() {
            let read =
                |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
            let authority = pki::Authority::load(&read(&certificate)?, &read(&key)?)?;
            return Ok(Keys { authority, tokens: Arc::new(pki::TokenKey::load(&read(&tokens)?)?) });
        }
        let authority = pki::Authority::generate(&format!("isthmus-{cluster}"))?;
        let token_key = pki::TokenKey::generate()?;
        write_atomically(&certificate, authority.certificate_pem().as_bytes())?;
        write_atomically(&key, authority.key_pem().as_bytes())?;
        write_atomically(&tokens, token_key.key_pem().as_bytes())?;
        Ok(Keys { authority, tokens: Arc::new(token_key) })
    }
}
