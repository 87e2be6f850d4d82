//! The proxy's container.

use serde_json::{Map, Value, json};

use super::annotation::{Annotations, InjectionError};
use super::{IMAGE, PROXY, Template, USER, Workload, capture, completion, volume};
use crate::admission::field::{default, set};

/// What a proxy is made from.
pub(super) struct Asked<'a> {
    pub(super) pod: &'a Value,
    pub(super) workload: &'a Workload<'a>,
    pub(super) annotations: &'a Annotations<'a>,
    pub(super) config: &'a Map<String, Value>,
    pub(super) template: Template,
}

/// The container, with what the pod itself says about it laid over.
pub(super) fn container(asked: &Asked<'_>, probers: Option<String>, first: bool) -> Result<Value, InjectionError> {
    let Asked { pod, annotations, template, .. } = *asked;
    let mut container = json!({
        "name": PROXY,
        "image": image(annotations),
        "args": arguments(annotations, template),
        "ports": [{ "containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom" }],
        "env": environment(asked, probers),
        "startupProbe": probe(json!({ "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 600 })),
        "readinessProbe": readiness(annotations)?,
        "resources": resources(annotations),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": USER,
            "runAsNonRoot": true,
            "runAsUser": USER,
        },
        "volumeMounts": volume::mounts(annotations)?,
    });
    if first {
        // The node starts the next container when this hook has ended.
        set(&mut container, "lifecycle", json!({ "postStart": { "exec": { "command": ["pilot-agent", "wait"] } } }));
    }
    let own = pod["spec"]["containers"].as_array().into_iter().flatten().find(|c| c["name"] == PROXY);
    if let Some(own) = own {
        overlay(&mut container, own);
    }
    Ok(container)
}

/// The image of the proxy and of what captures for it.
pub(super) fn image(annotations: &Annotations<'_>) -> String {
    annotations.text("sidecar.istio.io/proxyImage").unwrap_or(IMAGE).to_owned()
}

/// What the annotations ask for; otherwise what Istio's demo profile asks for, which lets many pods onto one machine.
pub(super) fn resources(annotations: &Annotations<'_>) -> Value {
    let amount = |name: &str| annotations.text(&format!("sidecar.istio.io/{name}"));
    let mut resources = json!({});
    for (list, cpu, memory) in [
        ("requests", amount("proxyCPU"), amount("proxyMemory")),
        ("limits", amount("proxyCPULimit"), amount("proxyMemoryLimit")),
    ] {
        let given = [("cpu", cpu), ("memory", memory)].into_iter();
        let given: Map<String, Value> = given.filter_map(|(name, v)| Some((name.to_owned(), v?.into()))).collect();
        if !given.is_empty() {
            set(&mut resources, list, given);
        }
    }
    if resources == json!({}) {
        resources = json!({ "requests": { "cpu": "10m", "memory": "40Mi" } });
    }
    resources
}

fn arguments(annotations: &Annotations<'_>, template: Template) -> Vec<String> {
    let level = |name: &str, usual: &'static str| annotations.text(name).unwrap_or(usual).to_owned();
    vec![
        "proxy".to_owned(),
        template.role().to_owned(),
        "--domain".to_owned(),
        "$(POD_NAMESPACE).svc.cluster.local".to_owned(),
        format!("--proxyLogLevel={}", level("sidecar.istio.io/logLevel", "warning")),
        format!("--proxyComponentLogLevel={}", level("sidecar.istio.io/componentLogLevel", "misc:error")),
        format!("--log_output_level={}", level("sidecar.istio.io/agentLogLevel", "default:info")),
    ]
}

fn environment(asked: &Asked<'_>, probers: Option<String>) -> Vec<Value> {
    let Asked { pod, workload, annotations, config, template } = *asked;
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let value = |name: &str, value: &str| json!({ "name": name, "value": value });
    let application = || {
        let all = pod["spec"]["containers"].as_array().into_iter().flatten();
        all.filter(|container| template == Template::Gateway || container["name"] != PROXY)
    };
    let ports: Vec<&Value> = application().filter_map(|c| c["ports"].as_array()).flatten().collect();
    let names: Vec<&str> = application().filter_map(|c| c["name"].as_str()).collect();
    let mode = annotations.text(capture::MODE).unwrap_or("REDIRECT");
    let mut all = vec![
        value("PILOT_CERT_PROVIDER", "istiod"),
        value("CA_ADDR", "istiod.istio-system.svc:15012"),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("HOST_IP", "status.hostIP"),
        value("PROXY_CONFIG", &Value::Object(config.clone()).to_string()),
        value("ISTIO_META_POD_PORTS", &json!(ports).to_string()),
        field("ISTIO_META_NODE_NAME", "spec.nodeName"),
        value("ISTIO_META_INTERCEPTION_MODE", mode),
        value("ISTIO_META_WORKLOAD_NAME", workload.name),
        value("ISTIO_META_OWNER", &workload.owner()),
    ];
    if template == Template::Sidecar {
        all.push(value("ISTIO_META_APP_CONTAINERS", &names.join(",")));
    }
    all.extend(probers.map(|probers| value("ISTIO_KUBE_APP_PROBERS", &probers)));
    all.extend(completion::metadata(config));
    all
}

fn probe(timing: Value) -> Value {
    let mut probe = timing;
    set(&mut probe, "httpGet", json!({ "path": "/healthz/ready", "port": 15021 }));
    probe
}

fn readiness(annotations: &Annotations<'_>) -> Result<Value, InjectionError> {
    let mut timing = json!({ "timeoutSeconds": 3 });
    for (field, usual) in [("initialDelaySeconds", 0), ("periodSeconds", 15), ("failureThreshold", 4)] {
        let given = annotations.count(&format!("readiness.status.sidecar.istio.io/{field}"))?;
        set(&mut timing, field, given.unwrap_or(usual));
    }
    Ok(probe(timing))
}

/// Lays the pod's own words about the container over it: lists of named things by name, other fields whole. The image
/// `auto` stands for the usual one.
fn overlay(container: &mut Value, own: &Value) {
    for (key, value) in own.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("image", Value::String(image)) if image == "auto" => {}
            ("env" | "ports" | "volumeMounts", Value::Array(items)) => {
                default(container, key, json!([]));
                let field = if key == "volumeMounts" { "mountPath" } else { "name" };
                let Some(list) = container[key.as_str()].as_array_mut() else { continue };
                list.retain(|item| items.iter().all(|own| own[field] != item[field]));
                list.extend(items.iter().cloned());
            }
            ("securityContext", Value::Object(fields)) => {
                fields.iter().for_each(|(field, value)| set(&mut container["securityContext"], field, value.clone()));
            }
            _ => set(container, key, value.clone()),
        }
    }
}
