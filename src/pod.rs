//! Which pod a command line means, and what its proxy says of itself.

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, ListParams};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The container that is a sidecar.
const CONTAINER: &str = "istio-proxy";

/// The pod that `text` means: `POD`, `POD.NAMESPACE`, `pod/POD`, or `KIND/NAME` of what has pods, of which it is one. A
/// namespace may follow each after a dot; without one it is `namespace`. The error is a sentence.
pub(crate) fn choose<'a>(
    pods: impl Iterator<Item = &'a Pod> + Clone,
    text: &str,
    namespace: &str,
) -> Result<&'a Pod, String> {
    let (kind, name) = text.split_once('/').unwrap_or(("pod", text));
    let matches: fn(&Pod, &str) -> bool = match kind {
        "pod" | "pods" | "po" => |pod, name| pod.metadata.name.as_deref() == Some(name),
        "deploy" | "deployment" | "deployments" => is_of_deployment,
        "rs" | "replicaset" | "replicasets" => |pod, name| is_owned(pod, "ReplicaSet", name),
        "job" | "jobs" => |pod, name| is_owned(pod, "Job", name),
        kind => return Err(format!("{kind:?} is no kind that has pods here: write POD or deploy/NAME")),
    };
    let in_namespace = |name: &str, namespace: &str| {
        let mut pods = pods.clone().filter(|pod| pod.metadata.namespace.as_deref() == Some(namespace));
        pods.find(|pod| matches(pod, name))
    };
    // A pod's name may have dots, too.
    let elsewhere = || name.rsplit_once('.').and_then(|(name, namespace)| in_namespace(name, namespace));
    let found = in_namespace(name, namespace).or_else(elsewhere);
    found.ok_or_else(|| format!("there is no pod {text:?} with an address in namespace {namespace:?}"))
}

/// A ReplicaSet has the name of its Deployment, followed by the hash that its pods have as a label.
pub(crate) fn is_of_deployment(pod: &Pod, name: &str) -> bool {
    let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get("pod-template-hash"));
    hash.is_some_and(|hash| is_owned(pod, "ReplicaSet", &format!("{name}-{hash}")))
}

fn is_owned(pod: &Pod, kind: &str, name: &str) -> bool {
    pod.metadata.owner_references.iter().flatten().any(|owner| owner.kind == kind && owner.name == name)
}

/// The pod of a cluster that `text` means, as with [`choose`].
pub(crate) async fn find(client: &kube::Client, text: &str, namespace: &str) -> anyhow::Result<Pod> {
    let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await.context("the pods cannot be read")?;
    let has_address = |pod: &&Pod| pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
    choose(pods.items.iter().filter(has_address), text, namespace).cloned().map_err(anyhow::Error::msg)
}

/// `NAME.NAMESPACE`, as Istio names a pod's proxy.
pub(crate) fn full_name(pod: &Pod) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}.{}", part(&pod.metadata.name), part(&pod.metadata.namespace))
}

/// What the proxy of a pod answers at a path of its admin port.
pub(crate) async fn admin_page(client: &kube::Client, pod: &Pod, path: &str) -> anyhow::Result<String> {
    let (name, shown) = (pod.metadata.name.as_deref().unwrap_or_default(), full_name(pod));
    let pods: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let params = AttachParams::default().container(CONTAINER).stdout(true).stderr(true);
    let process = pods.exec(name, ["pilot-agent", "request", "GET", path], &params).await;
    let mut process = process.with_context(|| format!("the sidecar of {shown} cannot be asked"))?;
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let (text, complaint) = tokio::try_join!(read(stdout), read(stderr))?;
    if text.is_empty() {
        bail!("the sidecar of {shown} does not answer: {}", complaint.trim());
    }
    Ok(text)
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let mut text = String::new();
    if let Some(mut stream) = stream {
        stream.read_to_string(&mut text).await?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_found_by_each_of_its_names() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {
            "name": "web-5d.x", "namespace": "shop", "labels": {"pod-template-hash": "5d"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d", "uid": "u"}],
        }}))
        .unwrap();
        let found = |text: &str, namespace: &str| choose([&pod].into_iter(), text, namespace).is_ok();
        for text in ["web-5d.x", "pod/web-5d.x", "deploy/web", "deployment/web", "rs/web-5d"] {
            assert!(found(text, "shop"), "{text}");
            assert!(found(&format!("{text}.shop"), "default") && !found(text, "default"), "{text}");
        }
        assert!(!found("job/web-5d", "shop") && !found("deploy/web-5d", "shop") && !found("svc/web", "shop"));
        assert_eq!(full_name(&pod), "web-5d.x.shop");
    }
}
