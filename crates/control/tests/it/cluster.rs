//! A cluster without a node: an API server over a temporary store, the controllers, and a kubelet that marks pods
//! ready instead of running them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use api::AddressPlan;
use apiserver::{ApiServer, Extensions, UserInfo};
use control::ControlPlane;
use http::Request;
use kube::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Cluster {
    client: Client,
    pub(crate) mesh: ControlPlane,
    tasks: JoinSet<()>,
    directory: TempDir,
    pub(crate) token_key: Arc<pki::TokenKey>,
}

/// The code and message of a refusal.
pub(crate) type Refusal = (u16, String);

impl Cluster {
    /// A cluster with a node that runs pods.
    pub(crate) async fn start() -> Cluster {
        let cluster = Cluster::without_node().await;
        cluster.add_node().await;
        cluster
    }

    /// A cluster whose controllers run, and that has no node yet.
    pub(crate) async fn without_node() -> Cluster {
        Cluster::open(tempfile::tempdir().unwrap()).await
    }

    /// Ends the cluster's process, so to speak, and starts it again on the same store.
    pub(crate) async fn restart(self) -> Cluster {
        let Cluster { client, mesh, mut tasks, directory, token_key: _ } = self;
        tasks.shutdown().await;
        drop((client, mesh));
        Cluster::open(directory).await
    }

    async fn open(directory: TempDir) -> Cluster {
        let config = control::Config {
            cluster: "c1".to_owned(),
            plan: AddressPlan { slot: 0 },
            index: 1.try_into().unwrap(),
            ca_pem: "the CA".to_owned(),
            api_endpoint: (Ipv4Addr::new(10, 33, 0, 1), 6443),
            data_plane: control::DataPlane::default(),
        };
        let mesh = ControlPlane::new();
        let mut admission = control::admission(&config);
        admission.push(mesh.admission());
        let extensions = Extensions { admission, ..Extensions::default() };
        let token_key = Arc::new(pki::TokenKey::generate().unwrap());
        // What an earlier server left to the runtime may hold the store for a moment.
        let open = async || {
            let token_key = token_key.clone();
            let extensions = extensions.clone();
            ApiServer::open(apiserver::Config { storage: directory.path().to_owned(), token_key, extensions }).ok()
        };
        let server = testkit::until_async("the store", LIMIT, open).await;
        let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        let user = UserInfo { name: "admin".to_owned(), groups, ..UserInfo::default() };
        let client = Client::new(server.in_process(user), "default");
        let mut tasks = JoinSet::new();
        control::bootstrap(&config, &client).await.unwrap();
        tasks.spawn(control::run(config, client.clone(), mesh.clone()));
        tasks.spawn(run_pods(client.clone()));
        let cluster = Cluster { client, mesh, tasks, directory, token_key };
        cluster.until("/api/v1/namespaces/default/serviceaccounts/default", |_| true).await;
        cluster
    }

    pub(crate) async fn add_node(&self) {
        self.create("/api/v1/nodes", json!({"metadata": {"name": "node"}})).await;
    }

    /// The mesh's CA, once it is in force.
    pub(crate) async fn mesh_authority(&self) -> pki::MeshAuthority {
        use base64::Engine as _;
        self.until("/api/v1/namespaces/default/configmaps/istio-ca-root-cert", |_| true).await;
        let secret = self.get("/api/v1/namespaces/istio-system/secrets/istio-ca-secret").await.unwrap();
        let text = |key: &str| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(secret["data"][key].as_str().unwrap());
            String::from_utf8(bytes.unwrap()).unwrap()
        };
        pki::MeshAuthority::load(&text("ca-cert.pem"), &text("ca-key.pem")).unwrap()
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: &Value) -> Result<Value, Refusal> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body).unwrap();
        self.client.request::<Value>(request).await.map_err(|error| match error {
            kube::Error::Api(status) => (status.code, status.message),
            other => panic!("{method} {path}: {other}"),
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Option<Value> {
        match self.send("GET", path, "application/json", &Value::Null).await {
            Ok(object) => Some(object),
            Err((404, _)) => None,
            Err(refusal) => panic!("{path}: {refusal:?}"),
        }
    }

    /// The objects of a collection.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        let list = self.get(path).await.unwrap();
        list["items"].as_array().unwrap().clone()
    }

    pub(crate) async fn try_create(&self, path: &str, object: Value) -> Result<Value, Refusal> {
        self.send("POST", path, "application/json", &object).await
    }

    pub(crate) async fn create(&self, path: &str, object: Value) -> Value {
        self.try_create(path, object).await.unwrap_or_else(|refusal| panic!("{path}: {refusal:?}"))
    }

    /// Creates an object, and returns what its maker is warned of.
    pub(crate) async fn warnings(&self, path: &str, object: &Value) -> Vec<String> {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(object.to_string().into_bytes().into()).unwrap();
        let response = self.client.send(request).await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        let warnings = response.headers().get_all("warning").into_iter();
        warnings.map(|w| w.to_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn try_patch(&self, path: &str, patch: Value) -> Result<Value, Refusal> {
        self.send("PATCH", path, "application/merge-patch+json", &patch).await
    }

    pub(crate) async fn patch(&self, path: &str, patch: Value) -> Value {
        self.try_patch(path, patch).await.unwrap_or_else(|refusal| panic!("{path}: {refusal:?}"))
    }

    /// As kubectl applies an object that it has applied before.
    pub(crate) async fn strategic(&self, path: &str, patch: &Value) -> Value {
        let patched = self.send("PATCH", path, "application/strategic-merge-patch+json", patch).await;
        patched.unwrap_or_else(|refusal| panic!("{path}: {refusal:?}"))
    }

    pub(crate) async fn replace(&self, path: &str, object: &Value) -> Value {
        let replaced = self.send("PUT", path, "application/json", object).await;
        replaced.unwrap_or_else(|refusal| panic!("{path}: {refusal:?}"))
    }

    pub(crate) async fn try_delete(&self, path: &str, options: Value) -> Result<Value, Refusal> {
        self.send("DELETE", path, "application/json", &options).await
    }

    pub(crate) async fn delete(&self, path: &str) {
        self.try_delete(path, Value::Null).await.unwrap_or_else(|refusal| panic!("{path}: {refusal:?}"));
    }

    /// Waits until the object exists and is as `wanted`.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        testkit::until_async(path, LIMIT, async || self.get(path).await.filter(|object| wanted(object))).await
    }

    /// Waits until the objects of a collection are as `wanted`.
    pub(crate) async fn until_list(&self, path: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let look = async || Some(self.list(path).await).filter(|list| wanted(list));
        testkit::until_async(path, LIMIT, look).await
    }

    /// Waits until there is no such object.
    pub(crate) async fn until_gone(&self, path: &str) {
        let look = async || self.get(path).await.is_none().then_some(());
        testkit::until_async(&format!("the end of {path}"), LIMIT, look).await;
    }
}

/// Gives every bound pod an address and an end that depends on its image: `works` runs, `succeeds` and `fails` end,
/// anything else never gets ready. Pods on their way out end at once.
async fn run_pods(client: Client) {
    use futures::TryStreamExt;
    use k8s_openapi::api::core::v1::Pod;
    use kube::api::{Api, DeleteParams, Patch, PatchParams};
    use kube::runtime::{WatchStreamExt, watcher};

    let all: Api<Pod> = Api::all(client.clone());
    let mut pods = Box::pin(watcher(all, watcher::Config::default()).applied_objects());
    let mut address = 1u8;
    while let Ok(Some(pod)) = pods.try_next().await {
        let (Some(name), Some(namespace)) = (&pod.metadata.name, &pod.metadata.namespace) else { continue };
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let spec = pod.spec.unwrap_or_default();
        let bound = spec.node_name.is_some();
        let known = pod.status.is_some_and(|status| status.pod_ip.is_some());
        if pod.metadata.deletion_timestamp.is_some() {
            // Somebody may have been faster.
            let _gone = api.delete(name, &DeleteParams::default().grace_period(0)).await;
        } else if bound && !known {
            address = address.wrapping_add(1);
            let image = spec.containers.first().and_then(|c| c.image.clone()).unwrap_or_default();
            let (phase, ready) = match image.split(':').next().unwrap_or_default() {
                "works" => ("Running", "True"),
                "succeeds" => ("Succeeded", "False"),
                "fails" => ("Failed", "False"),
                _ => ("Running", "False"),
            };
            let condition = json!({"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let status = json!({"status": {
                "phase": phase, "podIP": format!("10.33.1.{address}"), "conditions": [condition],
            }});
            let _gone = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await;
        }
    }
}
