//! What every cluster has from the start.

mod istio;

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::Api;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Config;
use crate::engine;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates what is missing, and corrects the services that depend on where this process listens.
pub(crate) async fn run(config: &Config, client: &Client) -> Result<(), kube::Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let all =
        NAMESPACES.iter().map(|name| ensure(&namespaces, json!({ "metadata": { "name": name } }), Existing::Kept));
    futures::future::try_join_all(all).await?;
    futures::try_join!(services(config, client), roles(client), istio::run(config, client))?;
    Ok(())
}

/// What happens to an object that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Kept,
    Corrected,
}

async fn ensure<K>(api: &Api<K>, object: Value, existing: Existing) -> Result<(), kube::Error>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let typed: K = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
    match api.create(&engine::post_params(), &typed).await {
        Ok(_) => Ok(()),
        Err(error) if engine::refused(&error, 409, "AlreadyExists") => {
            if existing == Existing::Corrected {
                engine::merge(api, &typed.name_any(), &object).await?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn services(config: &Config, client: &Client) -> Result<(), kube::Error> {
    let (ip, port) = config.api_endpoint;
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    let kubernetes = json!({
        "metadata": { "name": "kubernetes", "labels": labels },
        "spec": {
            "clusterIP": config.plan.kubernetes_service(config.index).to_string(),
            "ports": [{ "name": "https", "port": 443, "targetPort": port, "protocol": "TCP" }],
        },
    });
    let endpoints = json!({
        "metadata": { "name": "kubernetes", "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
        "subsets": [{ "addresses": [{ "ip": ip }], "ports": [{ "name": "https", "port": port, "protocol": "TCP" }] }],
    });
    let slice = json!({
        "metadata": { "name": "kubernetes", "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [ip], "conditions": { "ready": true } }],
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    });
    // The node answers at this address itself, so there is nothing to select.
    let dns = json!({
        "metadata": { "name": "kube-dns", "labels": { "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS" } },
        "spec": {
            "clusterIP": config.plan.dns_service(config.index).to_string(),
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP" },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
            ],
        },
    });
    let core: Api<Service> = Api::namespaced(client.clone(), "default");
    let system: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    let lists: Api<Endpoints> = Api::namespaced(client.clone(), "default");
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    futures::try_join!(
        ensure(&core, kubernetes, Existing::Corrected),
        ensure(&system, dns, Existing::Corrected),
        ensure(&lists, endpoints, Existing::Corrected),
        ensure(&slices, slice, Existing::Corrected),
    )?;
    Ok(())
}

async fn roles(client: &Client) -> Result<(), kube::Error> {
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let labels = json!({ "kubernetes.io/bootstrapping": "rbac-defaults" });
    let roles_wanted = cluster_roles().into_iter().map(|(name, rules)| {
        ensure(&roles, json!({ "metadata": { "name": name, "labels": labels }, "rules": rules }), Existing::Kept)
    });
    let bindings_wanted = BINDINGS.iter().map(|(role, groups)| {
        let subjects: Vec<Value> = groups
            .iter()
            .map(|group| json!({ "kind": "Group", "name": group, "apiGroup": "rbac.authorization.k8s.io" }))
            .collect();
        let reference = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role });
        let object = json!({
            "metadata": { "name": role, "labels": labels }, "subjects": subjects, "roleRef": reference,
        });
        ensure(&bindings, object, Existing::Kept)
    });
    let roles = futures::future::try_join_all(roles_wanted);
    let bindings = futures::future::try_join_all(bindings_wanted);
    futures::try_join!(roles, bindings)?;
    Ok(())
}

/// A cluster role and the groups that have it.
const BINDINGS: [(&str, &[&str]); 5] = [
    ("cluster-admin", &["system:masters"]),
    ("system:node-proxier", &["system:node-proxiers"]),
    ("system:discovery", &["system:authenticated"]),
    ("system:basic-user", &["system:authenticated"]),
    ("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
];

fn cluster_roles() -> Vec<(&'static str, Value)> {
    let read = json!(["get", "list", "watch"]);
    let write = json!(["create", "delete", "deletecollection", "patch", "update"]);
    let health = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let discovery = [&health[..], &["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"]].concat();
    let view = vec![
        rule("", &VIEWED, &read),
        rule("apps", &APPS, &read),
        rule("batch", &["jobs", "jobs/status"], &read),
        rule("autoscaling", &["horizontalpodautoscalers", "horizontalpodautoscalers/status"], &read),
        rule("discovery.k8s.io", &["endpointslices"], &read),
    ];
    let edit = [
        view.clone(),
        vec![
            rule("", &["secrets", "pods/exec", "pods/attach", "pods/portforward", "pods/proxy"], &read),
            rule("", &["serviceaccounts"], &json!(["impersonate"])),
            rule("", &EDITED, &write),
            rule("", &["serviceaccounts/token", "pods/eviction"], &json!(["create"])),
            rule("apps", &APPS, &write),
            rule("batch", &["jobs"], &write),
            rule("autoscaling", &["horizontalpodautoscalers"], &write),
            rule("discovery.k8s.io", &["endpointslices"], &write),
        ],
    ]
    .concat();
    let grant = rule("rbac.authorization.k8s.io", &["roles", "rolebindings"], &json!(["*"]));
    let admin = [edit.clone(), vec![grant]].concat();
    let reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    vec![
        ("cluster-admin", json!([rule("*", &["*"], &json!(["*"])), { "nonResourceURLs": ["*"], "verbs": ["*"] }])),
        ("admin", json!(admin)),
        ("edit", json!(edit)),
        ("view", json!(view)),
        (
            "system:node-proxier",
            json!([
                rule("", &["services", "endpoints", "pods", "nodes"], &json!(["get", "list", "watch"])),
                rule("discovery.k8s.io", &["endpointslices"], &json!(["list", "watch"])),
            ]),
        ),
        ("system:discovery", json!([{ "nonResourceURLs": discovery, "verbs": ["get"] }])),
        ("system:public-info-viewer", json!([{ "nonResourceURLs": health, "verbs": ["get"] }])),
        ("system:basic-user", json!([rule("authorization.k8s.io", &reviews, &json!(["create"]))])),
    ]
}

const VIEWED: [&str; 11] = [
    "configmaps",
    "endpoints",
    "events",
    "namespaces",
    "pods",
    "pods/log",
    "pods/status",
    "serviceaccounts",
    "services",
    "services/status",
    "bindings",
];
const EDITED: [&str; 11] = [
    "configmaps",
    "endpoints",
    "events",
    "pods",
    "pods/attach",
    "pods/exec",
    "pods/portforward",
    "pods/proxy",
    "secrets",
    "serviceaccounts",
    "services",
];
const APPS: [&str; 6] = [
    "deployments",
    "deployments/scale",
    "deployments/status",
    "replicasets",
    "replicasets/scale",
    "replicasets/status",
];

fn rule(group: &str, resources: &[&str], verbs: &Value) -> Value {
    json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })
}
