//! What a cluster has of its mesh: Istio's kinds, and the namespace with the mesh's configuration and control plane.

use api::istio::definitions;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::{Existing, ensure};
use crate::Config;
use crate::engine;

/// The root namespace.
const NAMESPACE: &str = "istio-system";

/// Where proxies find the control plane and their authority.
const DISCOVERY_PORT: u16 = 15012;
/// Where the control plane's metrics are.
const MONITORING_PORT: u16 = 15014;

/// What holds for the mesh until somebody changes it.
const MESH: &str = "\
defaultConfig:
  discoveryAddress: istiod.istio-system.svc:15012
rootNamespace: istio-system
trustDomain: cluster.local
";

/// Creates what is missing, brings the kinds up to date, and points the control plane's service at this process. What
/// users have changed in the mesh's configuration stays.
pub(super) async fn run(config: &Config, client: &Client) -> Result<(), kube::Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    ensure(&namespaces, json!({ "metadata": { "name": NAMESPACE } }), Existing::Kept).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let mesh = json!({
        "metadata": { "name": "istio", "labels": { "istio.io/rev": "default" } },
        "data": { "mesh": MESH, "meshNetworks": "networks: {}" },
    });
    futures::try_join!(define(client), control_plane(config, client), ensure(&maps, mesh, Existing::Kept))?;
    Ok(())
}

/// The kinds. A definition of another version of this program, or of Istio itself, gives way to ours.
async fn define(client: &Client) -> Result<(), kube::Error> {
    let resource = ApiResource::erase::<CustomResourceDefinition>(&());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    futures::future::try_join_all(definitions().into_iter().map(|wanted| define_one(&api, wanted))).await?;
    Ok(())
}

async fn define_one(api: &Api<DynamicObject>, wanted: Value) -> Result<(), kube::Error> {
    let mut wanted: DynamicObject = serde_json::from_value(wanted).map_err(kube::Error::SerdeError)?;
    match api.create(&engine::post_params(), &wanted).await {
        Ok(_) => Ok(()),
        Err(error) if engine::refused(&error, 409, "AlreadyExists") => {
            let stored = api.get(&wanted.name_any()).await?;
            if stored.data["spec"] != wanted.data["spec"] {
                wanted.metadata.resource_version = stored.metadata.resource_version;
                api.replace(&wanted.name_any(), &engine::post_params(), &wanted).await?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The service `istiod`, whose only endpoint is this process.
async fn control_plane(config: &Config, client: &Client) -> Result<(), kube::Error> {
    let address = config.plan.pod_gateway(config.index);
    let port = |name: &str, port: u16| json!({ "name": name, "port": port, "protocol": "TCP" });
    let ports = [port("https-dns", DISCOVERY_PORT), port("http-monitoring", MONITORING_PORT)];
    let service = json!({
        "metadata": { "name": "istiod", "labels": { "app": "istiod", "istio": "pilot", "istio.io/rev": "default" } },
        "spec": { "ports": ports },
    });
    let endpoints = json!({
        "metadata": { "name": "istiod", "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
        "subsets": [{ "addresses": [{ "ip": address }], "ports": ports }],
    });
    let slice = json!({
        "metadata": { "name": "istiod", "labels": { "kubernetes.io/service-name": "istiod" } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }],
        "ports": ports,
    });
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let lists: Api<Endpoints> = Api::namespaced(client.clone(), NAMESPACE);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    futures::try_join!(
        ensure(&services, service, Existing::Corrected),
        ensure(&lists, endpoints, Existing::Corrected),
        ensure(&slices, slice, Existing::Corrected),
    )?;
    Ok(())
}
