//! The objects that a gateway is deployed by.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Gateway, GatewayPort, GatewaySettings, SecretVolume};
use crate::admission::field::{default, set};
use crate::injection::{self, InjectionError, PROXY, Template, Workload};

/// The label that keeps injection from what is complete already; up to Istio 1.9 it was an annotation.
const INJECT: &str = "sidecar.istio.io/inject";

pub(super) fn all(gateway: &Gateway) -> Result<Vec<Value>, InjectionError> {
    let mut all = vec![account(gateway), role(gateway), binding(gateway), service(gateway), deployment(gateway)?];
    if gateway.settings.autoscale_enabled {
        all.push(autoscaler(gateway));
    }
    Ok(all)
}

/// The names and paths of volumes that every proxy has.
pub(super) fn taken() -> (BTreeSet<String>, BTreeSet<String>) {
    let template = injected(json!({ "spec": { "containers": [{ "name": PROXY }] } }), "").unwrap_or_default();
    let texts = |list: &Value, field: &str| {
        let items = list.as_array().into_iter().flatten();
        items.filter_map(|item| item[field].as_str().map(str::to_owned)).collect()
    };
    let spec = &template["spec"];
    (texts(&spec["volumes"], "name"), texts(&spec["containers"][0]["volumeMounts"], "mountPath"))
}

fn injected(mut template: Value, name: &str) -> Result<Value, InjectionError> {
    let workload = Workload { api_version: "apps/v1", kind: "Deployment", name, namespace: "$(POD_NAMESPACE)" };
    injection::inject_as(Template::Gateway, &mut template, &workload, &Map::new())?;
    Ok(template)
}

impl Gateway {
    fn object(&self, api_version: &str, kind: &str, name: &str, rest: Value) -> Value {
        let mut object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": { "name": name, "namespace": self.namespace, "labels": self.labels() },
        });
        rest.as_object().into_iter().flatten().for_each(|(key, value)| set(&mut object, key, value.clone()));
        object
    }

    /// The labels, of which `app` and `istio` are there in any case: manifests of Gateways select by one of them.
    fn labels(&self) -> BTreeMap<&str, &str> {
        let name = self.name.as_str();
        let usual = [("app", name), ("istio", name.strip_prefix("istio-").unwrap_or(name))];
        let own = self.settings.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        usual.into_iter().chain(own).collect()
    }

    fn account(&self) -> String {
        format!("{}-service-account", self.name)
    }

    /// The name of the role that lets the gateway's certificates be read.
    fn role(&self) -> String {
        format!("{}-sds", self.name)
    }
}

fn account(gateway: &Gateway) -> Value {
    gateway.object("v1", "ServiceAccount", &gateway.account(), json!({}))
}

/// A control plane gives a gateway the Secrets that its Gateways name if its account may read them.
fn role(gateway: &Gateway) -> Value {
    let rule = json!({ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"] });
    gateway.object("rbac.authorization.k8s.io/v1", "Role", &gateway.role(), json!({ "rules": [rule] }))
}

fn binding(gateway: &Gateway) -> Value {
    let rest = json!({
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": gateway.role() },
        "subjects": [{ "kind": "ServiceAccount", "name": gateway.account(), "namespace": gateway.namespace }],
    });
    gateway.object("rbac.authorization.k8s.io/v1", "RoleBinding", &gateway.role(), rest)
}

fn service(gateway: &Gateway) -> Value {
    let GatewaySettings { ports, service_type, load_balancer_ip, external_traffic_policy, service_annotations, .. } =
        &gateway.settings;
    let port = |port: &GatewayPort| {
        let target = port.target_port.unwrap_or(port.port);
        let mut value = json!({ "name": port.name, "port": port.port, "targetPort": target, "protocol": "TCP" });
        if let Some(number) = port.node_port {
            set(&mut value, "nodePort", number);
        }
        value
    };
    let ports: Vec<Value> = ports.iter().map(port).collect();
    let mut spec = json!({ "type": service_type.as_str(), "selector": gateway.labels(), "ports": ports });
    if let Some(address) = load_balancer_ip {
        set(&mut spec, "loadBalancerIP", address.as_str());
    }
    if let Some(policy) = external_traffic_policy {
        set(&mut spec, "externalTrafficPolicy", policy.as_str());
    }
    let mut service = gateway.object("v1", "Service", &gateway.name, json!({ "spec": spec }));
    if !service_annotations.is_empty() {
        set(&mut service["metadata"], "annotations", json!(service_annotations));
    }
    service
}

fn deployment(gateway: &Gateway) -> Result<Value, InjectionError> {
    let GatewaySettings { replica_count, autoscale_enabled, .. } = &gateway.settings;
    let mut spec = json!({
        "selector": { "matchLabels": gateway.labels() },
        "strategy": { "rollingUpdate": { "maxSurge": "100%", "maxUnavailable": "25%" } },
        "template": pod(gateway)?,
    });
    // Where something else scales, a number here would undo that with every apply.
    if let Some(count) = replica_count.filter(|_| !autoscale_enabled) {
        set(&mut spec, "replicas", count);
    }
    Ok(gateway.object("apps/v1", "Deployment", &gateway.name, json!({ "spec": spec })))
}

fn pod(gateway: &Gateway) -> Result<Value, InjectionError> {
    let GatewaySettings { pod_annotations, secret_volumes, .. } = &gateway.settings;
    let volume = |volume: &SecretVolume| {
        // A gateway starts before its certificates are there; servers that need them wait.
        json!({ "name": volume.name, "secret": { "secretName": volume.secret_name, "optional": true } })
    };
    let volumes: Vec<Value> = secret_volumes.iter().map(volume).collect();
    let mut template = json!({
        "metadata": { "labels": gateway.labels(), "annotations": pod_annotations },
        "spec": { "serviceAccountName": gateway.account(), "containers": [container(gateway)], "volumes": volumes },
    });
    default(&mut template["metadata"]["annotations"], INJECT, "false");
    set(&mut template["metadata"]["labels"], INJECT, "false");
    injected(template, &gateway.name)
}

/// What is said about the proxy itself.
fn container(gateway: &Gateway) -> Value {
    let GatewaySettings { ports, secret_volumes, env, resources, image, .. } = &gateway.settings;
    let targets: BTreeSet<u16> = ports.iter().map(|port| port.target_port.unwrap_or(port.port)).collect();
    let ports = targets.iter().map(|port| json!({ "containerPort": port, "protocol": "TCP" }));
    let mounts = secret_volumes
        .iter()
        .map(|volume| json!({ "name": volume.name, "mountPath": volume.mount_path, "readOnly": true }));
    let env = env.iter().map(|(name, value)| json!({ "name": name, "value": value }));
    let mut container = json!({
        "name": PROXY,
        "image": image.as_deref().unwrap_or("auto"),
        "ports": ports.collect::<Vec<Value>>(),
        "env": env.collect::<Vec<Value>>(),
        "volumeMounts": mounts.collect::<Vec<Value>>(),
    });
    if !resources.is_null() {
        set(&mut container, "resources", resources.clone());
    }
    container
}

fn autoscaler(gateway: &Gateway) -> Value {
    let GatewaySettings { autoscale_min, autoscale_max, cpu, .. } = &gateway.settings;
    let target = json!({ "type": "Utilization", "averageUtilization": cpu.target_average_utilization });
    let spec = json!({
        "minReplicas": autoscale_min,
        "maxReplicas": autoscale_max,
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": gateway.name },
        "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": target } }],
    });
    gateway.object("autoscaling/v2", "HorizontalPodAutoscaler", &gateway.name, json!({ "spec": spec }))
}
