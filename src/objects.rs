//! The objects of a cluster that say something about connections.

use anyhow::Context;
use kube::api::{Api, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use crate::federation::Home;

/// A kind: its group, its version, its name and its plural.
type Kind = (&'static str, &'static str, &'static str, &'static str);

/// What of a cluster decides about connections and requests, and what that refers to. Kinds that the cluster does not serve
/// have no objects.
const KINDS: &[Kind] = &[
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "Node", "nodes"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "Service", "services"),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    ("networking.istio.io", "v1", "DestinationRule", "destinationrules"),
    ("networking.istio.io", "v1", "Gateway", "gateways"),
    ("networking.istio.io", "v1", "ServiceEntry", "serviceentries"),
    ("networking.istio.io", "v1", "Sidecar", "sidecars"),
    ("networking.istio.io", "v1", "VirtualService", "virtualservices"),
    ("networking.istio.io", "v1", "WorkloadEntry", "workloadentries"),
    ("networking.istio.io", "v1alpha3", "EnvoyFilter", "envoyfilters"),
    ("security.istio.io", "v1", "AuthorizationPolicy", "authorizationpolicies"),
    ("security.istio.io", "v1", "PeerAuthentication", "peerauthentications"),
    ("security.istio.io", "v1", "RequestAuthentication", "requestauthentications"),
    ("telemetry.istio.io", "v1", "Telemetry", "telemetries"),
    ("rbac.istio.io", "v1alpha1", "ClusterRbacConfig", "clusterrbacconfigs"),
    ("rbac.istio.io", "v1alpha1", "RbacConfig", "rbacconfigs"),
    ("rbac.istio.io", "v1alpha1", "ServiceRole", "serviceroles"),
    ("rbac.istio.io", "v1alpha1", "ServiceRoleBinding", "servicerolebindings"),
    ("authentication.istio.io", "v1alpha1", "MeshPolicy", "meshpolicies"),
    ("authentication.istio.io", "v1alpha1", "Policy", "policies"),
];

/// Where a cluster tells its pods whom to trust.
const ROOTS: (&str, &str) = ("istio-system", "istio-ca-root-cert");

/// Where the mesh's configuration is.
const MESH_CONFIG: (&str, &str) = ("istio-system", "istio");

/// The objects of the cluster of a context, and the context's namespace.
pub(crate) fn of_cluster(home: &Home, context: Option<&str>) -> anyhow::Result<(Vec<Value>, String)> {
    home.expect()?;
    runtime()?.block_on(async {
        let (client, namespace) = connect(home, context).await?;
        Ok((read(&client).await.context("the objects cannot be read")?, namespace))
    })
}

/// What the clusters of a federation have.
pub(crate) struct Everything {
    /// The namespace of the context that is asked about.
    pub(crate) namespace: String,
    /// The objects of each cluster, or why they cannot be read; that of the context is the first.
    pub(crate) clusters: Vec<(String, anyhow::Result<Vec<Value>>)>,
}

/// The objects of all clusters of a federation. One that cannot be read is told of, unless it is `context`'s own.
pub(crate) fn of_all_clusters(home: &Home, context: Option<&str>) -> anyhow::Result<Everything> {
    let federation = home.expect()?;
    let current = Kubeconfig::read_from(home.kubeconfig())?.current_context;
    let own = context.map(str::to_owned).or(current).context("the kubeconfig has no current context")?;
    runtime()?.block_on(async {
        let (client, namespace) = connect(home, Some(&own)).await?;
        let objects = read(&client).await.with_context(|| format!("the objects of {own} cannot be read"))?;
        let mut clusters = vec![(own.clone(), Ok(objects))];
        for name in federation.clusters.keys().filter(|name| **name != own) {
            let objects = async { read(&connect(home, Some(name)).await?.0).await };
            clusters.push((name.clone(), objects.await));
        }
        Ok(Everything { namespace, clusters })
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// A client of the cluster of a context, and the context's namespace.
pub(crate) async fn connect(home: &Home, context: Option<&str>) -> anyhow::Result<(kube::Client, String)> {
    let kubeconfig = Kubeconfig::read_from(home.kubeconfig())?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    let namespace = config.default_namespace.clone();
    Ok((kube::Client::try_from(config)?, namespace))
}

async fn read(client: &kube::Client) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for (group, version, kind, plural) in KINDS {
        let resource = resource(group, version, kind, plural);
        let list = match Api::<DynamicObject>::all_with(client.clone(), &resource).list(&ListParams::default()).await {
            Err(error) if is_not_found(&error) => continue,
            list => list?,
        };
        for object in list {
            objects.push(complete(&resource, object)?);
        }
    }
    let resource = resource("", "v1", "ConfigMap", "configmaps");
    for (namespace, name) in [MESH_CONFIG, ROOTS] {
        let maps = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
        if let Some(map) = maps.get_opt(name).await? {
            objects.push(complete(&resource, map)?);
        }
    }
    Ok(objects)
}

pub(crate) fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// The members of a list leave out what they are.
fn complete(resource: &ApiResource, object: DynamicObject) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(object)?;
    value["apiVersion"] = resource.api_version.as_str().into();
    value["kind"] = resource.kind.as_str().into();
    Ok(value)
}
