//! The objects of a cluster that say something about connections.

use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use xds::Objects;

/// What of a cluster decides about connections. Kinds that the cluster does not serve have no objects.
const KINDS: [(&str, &str, &str, &str); 20] = [
    ("", "v1", "Node", "nodes"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    ("networking.istio.io", "v1", "DestinationRule", "destinationrules"),
    ("networking.istio.io", "v1", "ServiceEntry", "serviceentries"),
    ("networking.istio.io", "v1", "Sidecar", "sidecars"),
    ("networking.istio.io", "v1", "VirtualService", "virtualservices"),
    ("networking.istio.io", "v1", "WorkloadEntry", "workloadentries"),
    ("security.istio.io", "v1", "AuthorizationPolicy", "authorizationpolicies"),
    ("security.istio.io", "v1", "PeerAuthentication", "peerauthentications"),
    ("security.istio.io", "v1", "RequestAuthentication", "requestauthentications"),
    ("telemetry.istio.io", "v1", "Telemetry", "telemetries"),
    ("networking.istio.io", "v1alpha3", "EnvoyFilter", "envoyfilters"),
    ("rbac.istio.io", "v1alpha1", "ServiceRole", "serviceroles"),
    ("rbac.istio.io", "v1alpha1", "ServiceRoleBinding", "servicerolebindings"),
    ("rbac.istio.io", "v1alpha1", "RbacConfig", "rbacconfigs"),
    ("rbac.istio.io", "v1alpha1", "ClusterRbacConfig", "clusterrbacconfigs"),
    ("authentication.istio.io", "v1alpha1", "Policy", "policies"),
    ("authentication.istio.io", "v1alpha1", "MeshPolicy", "meshpolicies"),
];

/// Where the mesh's configuration is.
const MESH_CONFIG: (&str, &str) = ("istio-system", "istio");

/// Reads every object of a cluster.
pub(super) async fn read(client: &kube::Client) -> anyhow::Result<Objects> {
    let mut objects = Objects::default();
    for (group, version, kind, plural) in KINDS {
        let resource = resource(group, version, kind, plural);
        let list = match Api::<DynamicObject>::all_with(client.clone(), &resource).list(&ListParams::default()).await {
            Err(error) if is_not_found(&error) => continue,
            list => list?,
        };
        for object in list {
            insert(&mut objects, &resource, object)?;
        }
    }
    let resource = resource("", "v1", "ConfigMap", "configmaps");
    let maps = Api::<DynamicObject>::namespaced_with(client.clone(), MESH_CONFIG.0, &resource);
    if let Some(map) = maps.get_opt(MESH_CONFIG.1).await? {
        insert(&mut objects, &resource, map)?;
    }
    Ok(objects)
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// The members of a list leave out what they are.
fn insert(objects: &mut Objects, resource: &ApiResource, object: DynamicObject) -> anyhow::Result<()> {
    let mut value = serde_json::to_value(object)?;
    value["apiVersion"] = resource.api_version.as_str().into();
    value["kind"] = resource.kind.as_str().into();
    objects.insert(value);
    Ok(())
}
