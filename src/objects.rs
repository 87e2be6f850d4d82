//! The objects of a cluster that say something about connections.

use anyhow::Context;
use kube::api::{Api, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use crate::federation::Home;

/// A kind: its group, its version, its name and its plural.
type Kind = (&'static str, &'static str, &'static str, &'static str);

/// What of a cluster decides about connections. Kinds that the cluster does not serve have no objects.
const DECISIVE: &[Kind] = &[
    ("", "v1", "Node", "nodes"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    ("networking.istio.io", "v1", "DestinationRule", "destinationrules"),
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

/// What decides about nothing, and is named by what does.
const NAMED: &[Kind] = &[
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "Secret", "secrets"),
    ("networking.istio.io", "v1", "Gateway", "gateways"),
];

/// Which objects somebody wants.
pub(crate) type Selection = &'static [&'static [Kind]];

/// What decides about connections.
pub(crate) const FOR_CONNECTIONS: Selection = &[DECISIVE];
/// The same, and what it refers to.
pub(crate) const FOR_ANALYSIS: Selection = &[DECISIVE, NAMED];

/// Where the mesh's configuration is.
const MESH_CONFIG: (&str, &str) = ("istio-system", "istio");

/// The objects of the cluster of a context, and the context's namespace.
pub(crate) fn of_cluster(
    home: &Home,
    context: Option<&str>,
    selection: Selection,
) -> anyhow::Result<(Vec<Value>, String)> {
    home.expect()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, namespace) = connect(home, context).await?;
        Ok((read(&client, selection).await.context("the objects cannot be read")?, namespace))
    })
}

/// A client of the cluster of a context, and the context's namespace.
pub(crate) async fn connect(home: &Home, context: Option<&str>) -> anyhow::Result<(kube::Client, String)> {
    let kubeconfig = Kubeconfig::read_from(home.kubeconfig())?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    let namespace = config.default_namespace.clone();
    Ok((kube::Client::try_from(config)?, namespace))
}

async fn read(client: &kube::Client, selection: Selection) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for (group, version, kind, plural) in selection.iter().copied().flatten() {
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
    let maps = Api::<DynamicObject>::namespaced_with(client.clone(), MESH_CONFIG.0, &resource);
    if let Some(map) = maps.get_opt(MESH_CONFIG.1).await? {
        objects.push(complete(&resource, map)?);
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
