//! What the control plane knows, in Istio's JSON where Istio has it.

use std::collections::BTreeMap;

use api::NamespacedName;
use envoy::TypeUrl;
use envoy::ads::{Resource, Snapshot};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value, json};

use super::ControlPlane;
use super::metrics::abbreviation;
use super::proxies::Proxy;

/// The paths, with what each shows.
const PATHS: [(&str, &str); 8] = [
    ("/debug/adsz", "the connected proxies"),
    (
        "/debug/syncz",
        "how far each proxy is with each type, and the nonces of what it was sent, acknowledged and refused",
    ),
    ("/debug/nacks", "what proxies have refused, and why"),
    ("/debug/configz", "the objects of Istio's kinds"),
    ("/debug/edsz", "?proxyID=POD.NAMESPACE: the endpoints that a proxy is told"),
    ("/debug/endpointz", "the endpoints that any proxy is told"),
    ("/debug/config_dump", "?proxyID=POD.NAMESPACE: everything that a proxy is told"),
    ("/debug/diagnosticz", "what objects say without effect"),
];

/// The document at a path; an error has the status to answer with.
pub(super) fn document(plane: &ControlPlane, path: &str, query: &str) -> Result<Value, (u16, String)> {
    match path {
        "/debug" | "/debug/" => Ok(PATHS.iter().map(|(path, shows)| ((*path).to_owned(), json!(shows))).collect()),
        "/debug/adsz" => Ok(clients(plane)),
        "/debug/syncz" => Ok(plane.0.proxies.all().iter().map(|proxy| synchronization(proxy)).collect()),
        "/debug/nacks" => Ok(plane.0.proxies.all().iter().flat_map(|proxy| refusals(proxy)).collect()),
        "/debug/configz" => Ok(plane.declared().iter().map(|(_, _, object)| object.value.clone()).collect()),
        "/debug/edsz" => Ok(resources(&proxy(plane, query)?.snapshot(), TypeUrl::Endpoint)),
        "/debug/endpointz" => Ok(endpoints(plane)),
        "/debug/config_dump" => Ok(dump(&proxy(plane, query)?.snapshot())),
        "/debug/diagnosticz" => Ok(plane.world().diagnostics.iter().map(|d| json!(d.to_string())).collect()),
        _ => Err((404, format!("there is no {path}; /debug names what there is"))),
    }
}

/// The proxy that a query asks for.
fn proxy(plane: &ControlPlane, query: &str) -> Result<std::sync::Arc<Proxy>, (u16, String)> {
    let wanted = query.split('&').find_map(|pair| pair.strip_prefix("proxyID=")).unwrap_or_default();
    let (name, namespace) =
        wanted.rsplit_once('.').ok_or((400, "say which proxy: ?proxyID=POD.NAMESPACE".to_owned()))?;
    let pod = NamespacedName::new(namespace, name);
    plane.0.proxies.of_pod(&pod).ok_or((404, format!("the proxy of the pod {pod} is not connected")))
}

fn short_name(proxy: &Proxy) -> String {
    format!("{}.{}", proxy.pod.name, proxy.pod.namespace)
}

fn clients(plane: &ControlPlane) -> Value {
    let clients: Vec<Value> = plane
        .0
        .proxies
        .all()
        .iter()
        .map(|proxy| {
            let watches: Map<String, Value> =
                proxy.dialogues().iter().map(|(t, d)| (t.to_string(), json!(d.sent))).collect();
            json!({
                "connectionId": short_name(proxy),
                "connectedAt": proxy.connected.to_string(),
                "node": proxy.id,
                "program": proxy.program,
                "watches": watches,
            })
        })
        .collect();
    json!({ "totalClients": clients.len(), "clients": clients })
}

fn synchronization(proxy: &Proxy) -> Value {
    let dialogues = proxy.dialogues();
    let types = dialogues.iter().map(|(type_url, dialogue)| {
        let state = dialogue.state();
        let mut shown = json!({ "status": state });
        if state == "ERROR" {
            shown["reason"] = json!(dialogue.reason);
        }
        (abbreviation(*type_url).to_uppercase(), shown)
    });
    let mut status = json!({
        "cluster_id": proxy.cluster,
        "proxy": short_name(proxy),
        "proxy_type": proxy.role.as_str(),
        "proxy_version": proxy.program,
        "connected_at": proxy.connected.to_string(),
        "types": types.collect::<Map<String, Value>>(),
    });
    let names = [
        (TypeUrl::Cluster, "cluster"),
        (TypeUrl::Listener, "listener"),
        (TypeUrl::Route, "route"),
        (TypeUrl::Endpoint, "endpoint"),
    ];
    for (type_url, name) in names {
        let Some(dialogue) = dialogues.get(&type_url) else { continue };
        let nonces = [("sent", &dialogue.sent), ("acked", &dialogue.acknowledged), ("nacked", &dialogue.rejected)];
        for (what, nonce) in nonces.into_iter().filter(|(_, nonce)| !nonce.is_empty()) {
            status[format!("{name}_{what}")] = json!(nonce);
        }
    }
    status
}

fn refusals(proxy: &Proxy) -> Vec<Value> {
    let dialogues = proxy.dialogues();
    let refused = dialogues.iter().filter(|(_, dialogue)| !dialogue.rejected.is_empty());
    let describe = |(type_url, dialogue): (&TypeUrl, &super::proxies::Dialogue)| {
        json!({
            "proxy": short_name(proxy),
            "type": type_url.as_str(),
            "nonce": dialogue.rejected,
            "error": dialogue.reason,
        })
    };
    refused.map(describe).collect()
}

fn endpoints(plane: &ControlPlane) -> Value {
    let snapshots: Vec<Snapshot> = plane.0.proxies.all().iter().map(|proxy| proxy.snapshot()).collect();
    let all = snapshots.iter().flat_map(|snapshot| snapshot.of(TypeUrl::Endpoint));
    let by_name: BTreeMap<&str, &Resource> = all.map(|r| (&**r.name(), &**r)).collect();
    let pool = pool();
    by_name.into_iter().map(|(name, resource)| json!({ "svc": name, "ep": message(&pool, resource) })).collect()
}

fn resources(snapshot: &Snapshot, type_url: TypeUrl) -> Value {
    let pool = pool();
    snapshot.of(type_url).map(|resource| message(&pool, resource)).collect()
}

/// A configuration dump as Envoy's admin has it.
fn dump(snapshot: &Snapshot) -> Value {
    let pool = pool();
    let each = |type_url, wrap: &dyn Fn(&Resource, Value) -> Value| -> Value {
        snapshot.of(type_url).map(|resource| wrap(resource, message(&pool, resource))).collect()
    };
    let clusters = each(TypeUrl::Cluster, &|r, m| json!({ "version_info": &**r.version(), "cluster": m }));
    let endpoints = each(TypeUrl::Endpoint, &|r, m| json!({ "version_info": &**r.version(), "endpoint_config": m }));
    let listeners = each(
        TypeUrl::Listener,
        &|r, m| json!({ "name": &**r.name(), "active_state": { "version_info": &**r.version(), "listener": m } }),
    );
    let routes = each(TypeUrl::Route, &|r, m| json!({ "version_info": &**r.version(), "route_config": m }));
    let part = |name: &str, field: &str, items: Value| {
        let mut part = json!({ "@type": format!("type.googleapis.com/envoy.admin.v3.{name}ConfigDump") });
        part[field] = items;
        part
    };
    json!({ "configs": [
        part("Clusters", "dynamic_active_clusters", clusters),
        part("Listeners", "dynamic_listeners", listeners),
        part("Routes", "dynamic_route_configs", routes),
        part("Endpoints", "dynamic_endpoint_configs", endpoints),
    ]})
}

/// Made for each question: it is large, and questions are rare.
fn pool() -> Option<DescriptorPool> {
    DescriptorPool::decode(envoy::DESCRIPTORS).ok()
}

/// A resource in its JSON form, with the type of every message inside.
fn message(pool: &Option<DescriptorPool>, resource: &Resource) -> Value {
    let decoded = || {
        let any = pool.as_ref()?.get_message_by_name("google.protobuf.Any")?;
        let message = DynamicMessage::decode(any, resource.encoded().as_ref()).ok()?;
        let options = SerializeOptions::new().use_proto_field_name(true);
        message.serialize_with_options(serde_json::value::Serializer, &options).ok()
    };
    decoded().unwrap_or_else(|| json!({ "name": &**resource.name() }))
}
