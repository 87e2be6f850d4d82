//! What a sidecar's container has to know of its cluster.

use api::istio::MeshConfig;
use serde_json::{Map, Value, json};

use super::PROXY;
use crate::DataPlane;
use crate::admission::field::{default, items_mut};

/// A cluster and its mesh.
pub(crate) struct Settings<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) data_plane: &'a DataPlane,
    pub(crate) mesh: &'a MeshConfig,
}

/// Adds to the sidecar of an injected pod what its environment does not say yet.
pub(crate) fn complete(pod: &mut Value, settings: &Settings<'_>) {
    let trust_domain = &settings.mesh.trust_domain.0;
    let mut known = vec![
        variable("ISTIO_META_CLUSTER_ID", settings.cluster),
        variable("ISTIO_META_MESH_ID", trust_domain),
        variable("TRUST_DOMAIN", trust_domain),
    ];
    match settings.data_plane {
        DataPlane::Native => known.push(variable("ISTHMUS_DATA_PLANE", "native")),
        DataPlane::Envoy(program) => {
            known.push(variable("ISTHMUS_DATA_PLANE", "envoy"));
            known.push(variable("ISTHMUS_ENVOY", &program.to_string_lossy()));
        }
    }
    known.extend(metadata(&settings.mesh.default_config));
    for container in items_mut(&mut pod["spec"], "containers").filter(|container| container["name"] == PROXY) {
        default(container, "env", json!([]));
        let Some(environment) = container["env"].as_array_mut() else { continue };
        configure(environment, &settings.mesh.default_config);
        let missing = |wanted: &&Value| environment.iter().all(|given| given["name"] != wanted["name"]);
        let missing: Vec<Value> = known.iter().filter(missing).cloned().collect();
        environment.extend(missing);
    }
}

/// The variables that a proxy's configuration sets.
pub(super) fn metadata(config: &Map<String, Value>) -> Vec<Value> {
    let entries = config.get("proxyMetadata").and_then(Value::as_object).into_iter().flatten();
    entries.map(|(name, value)| variable(name, value.as_str().unwrap_or(&value.to_string()))).collect()
}

/// Lays the proxy's own configuration over what the mesh's proxies start with.
fn configure(environment: &mut [Value], defaults: &Map<String, Value>) {
    let Some(variable) = environment.iter_mut().find(|v| v["name"] == "PROXY_CONFIG") else { return };
    let own = variable["value"].as_str().map(serde_json::from_str::<Map<String, Value>>);
    let Some(Ok(own)) = own else { return };
    let mut config = defaults.clone();
    for (key, value) in own {
        match (config.get_mut(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => below.extend(above),
            (_, value) => drop(config.insert(key, value)),
        }
    }
    variable["value"] = Value::Object(config).to_string().into();
}

fn variable(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}
