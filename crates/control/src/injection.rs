//! Sidecars and gateways: which pods get a proxy, and what is put into them. The result is that of Istio's injector, field
//! by field.
//!
//! What depends on the cluster (its name, its data plane, the mesh's configuration) is added last and apart, so that
//! what `kube-inject` prints fits any cluster.

mod annotation;
mod capture;
mod completion;
mod manifest;
mod policy;
mod probe;
mod proxy;
mod template;
mod volume;
mod workload;

use serde_json::{Map, Value, json};

use crate::admission::field::{default, object_at, set};

use annotation::Annotations;
use proxy::Asked;

pub(crate) use annotation::InjectionError;
pub(crate) use completion::{Settings, complete};
pub use manifest::{ManifestError, inject_manifest};
pub(crate) use policy::{Namespace, wanted};
pub(crate) use template::Template;
pub(crate) use workload::Workload;

/// The container with the proxy.
pub(crate) const PROXY: &str = "istio-proxy";
/// The init container that has the pod's traffic captured.
const INIT: &str = "istio-init";
/// The image of both.
const IMAGE: &str = "docker.io/istio/proxyv2:1.30.0";
/// The user that the proxy runs as; its traffic is not captured.
const USER: i64 = 1337;
/// Where the agent answers for the probes of the application, and with metrics.
const STATUS_PORT: u16 = 15020;
/// Says that a pod has its proxy.
const STATUS: &str = "sidecar.istio.io/status";
/// The only revision of a control plane that there is.
const REVISION: &str = "default";

/// Whether a pod has its proxy already.
pub(crate) fn is_injected(pod: &Value) -> bool {
    pod["metadata"]["annotations"][STATUS].is_string()
}

/// Whether a container of a pod is a proxy, whoever put it there.
pub(crate) fn has_proxy(pod: &Value) -> bool {
    pod["spec"]["containers"].as_array().into_iter().flatten().any(|container| container["name"] == PROXY)
}

/// Puts the proxy that its annotations ask for into a pod, or into the template of one. `defaults` is what proxies of the
/// mesh start with.
pub(crate) fn inject(
    pod: &mut Value,
    workload: &Workload<'_>,
    defaults: &Map<String, Value>,
) -> Result<(), InjectionError> {
    let template = Template::of(&Annotations(&pod["metadata"]["annotations"]))?;
    inject_as(template, pod, workload, defaults)
}

/// The same with a template that somebody has chosen already.
pub(crate) fn inject_as(
    template: Template,
    pod: &mut Value,
    workload: &Workload<'_>,
    defaults: &Map<String, Value>,
) -> Result<(), InjectionError> {
    let annotations = pod["metadata"]["annotations"].clone();
    let annotations = Annotations(&annotations);
    let config = annotations.proxy_config()?;
    let hold = |config: &Map<String, Value>| config.get("holdApplicationUntilProxyStarts").and_then(Value::as_bool);
    // A gateway has no application, which could be captured, held up or asked.
    let (init, first, probers) = match template {
        Template::Gateway => (None, false, None),
        Template::Sidecar => (
            capture::container(&annotations)?,
            hold(&config).or_else(|| hold(defaults)).unwrap_or_default(),
            probe::rewrite(pod, &annotations)?,
        ),
    };
    let asked = Asked { pod, workload, annotations: &annotations, config: &config, template };
    let proxy = proxy::container(&asked, probers, first)?;
    let volumes = volume::volumes(&annotations)?;
    describe(pod, workload, template, init.is_some(), &volumes);
    let Some(spec) = object_at(pod, &["spec"]) else { return Ok(()) };
    if let Some(init) = init {
        // The last one, so that the pod's own init containers are not captured yet.
        push(spec, "initContainers", init);
    }
    place(spec, proxy, first);
    for volume in volumes {
        push(spec, "volumes", volume);
    }
    if let Some(context) = object_at(spec, &["securityContext"]) {
        default(context, "fsGroup", USER);
        if template == Template::Gateway {
            // A gateway listens on ports such as 80 without being root.
            default(context, "sysctls", json!([{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }]));
        }
    }
    Ok(())
}

/// The labels and annotations of an injected pod.
fn describe(pod: &mut Value, workload: &Workload<'_>, template: Template, captured: bool, volumes: &[Value]) {
    let application = pod["spec"]["containers"].as_array().into_iter().flatten();
    let application = application.filter_map(|c| c["name"].as_str()).find(|name| *name != PROXY).map(str::to_owned);
    let application = application.or_else(|| (template == Template::Gateway).then(|| PROXY.to_owned()));
    if let Some(labels) = object_at(pod, &["metadata", "labels"]) {
        let revision = workload::canonical_revision(labels);
        let name = workload::canonical_name(labels, workload.name);
        if template == Template::Sidecar {
            // Callers of a gateway speak what its servers say, which is not for the mesh to guess.
            default(labels, "security.istio.io/tlsMode", "istio");
        }
        default(labels, "service.istio.io/canonical-name", name);
        default(labels, "service.istio.io/canonical-revision", revision);
    }
    let Some(annotations) = object_at(pod, &["metadata", "annotations"]) else { return };
    let names: Vec<&Value> = volumes.iter().map(|volume| &volume["name"]).collect();
    let inits: &[&str] = if captured { &[INIT] } else { &[] };
    let status = json!({
        "initContainers": inits,
        "containers": [PROXY],
        "volumes": names,
        "imagePullSecrets": null,
        "revision": REVISION,
    });
    set(annotations, STATUS, status.to_string());
    default(annotations, "istio.io/rev", REVISION);
    if let Some(application) = application {
        default(annotations, "kubectl.kubernetes.io/default-logs-container", application.clone());
        default(annotations, "kubectl.kubernetes.io/default-container", application);
    }
    default(annotations, "prometheus.io/scrape", "true");
    default(annotations, "prometheus.io/port", STATUS_PORT.to_string());
    default(annotations, "prometheus.io/path", "/stats/prometheus");
}

fn push(spec: &mut Value, list: &str, item: Value) {
    default(spec, list, json!([]));
    if let Some(items) = spec[list].as_array_mut() {
        items.push(item);
    }
}

/// Adds the proxy's container; if it is to hold up the others, it comes before them.
fn place(spec: &mut Value, proxy: Value, first: bool) {
    default(spec, "containers", json!([]));
    let Some(containers) = spec["containers"].as_array_mut() else { return };
    // What the pod says about the container itself is in `proxy` already.
    containers.retain(|container| container["name"] != PROXY);
    if first { containers.insert(0, proxy) } else { containers.push(proxy) }
}

#[cfg(test)]
mod tests;
