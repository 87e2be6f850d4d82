//! What the proxy finds in its file system.

use serde_json::{Value, json};

use super::annotation::{Annotations, InjectionError};

/// How long the token holds with which the agent asks for its certificate.
const TOKEN_SECONDS: u32 = 43_200;

/// The volumes that the sidecar adds to its pod.
pub(super) fn volumes(annotations: &Annotations<'_>) -> Result<Vec<Value>, InjectionError> {
    let field = |path: &str, field: &str| json!({ "path": path, "fieldRef": { "fieldPath": field } });
    let described = [field("labels", "metadata.labels"), field("annotations", "metadata.annotations")];
    let token = json!({ "path": "istio-token", "expirationSeconds": TOKEN_SECONDS, "audience": "istio-ca" });
    let mut all = vec![
        json!({ "name": "workload-socket", "emptyDir": {} }),
        json!({ "name": "istio-envoy", "emptyDir": { "medium": "Memory" } }),
        json!({ "name": "istio-data", "emptyDir": {} }),
        json!({ "name": "istio-podinfo", "downwardAPI": { "items": described } }),
        json!({ "name": "istio-token", "projected": { "sources": [{ "serviceAccountToken": token }] } }),
        json!({ "name": "istiod-ca-cert", "configMap": { "name": "istio-ca-root-cert" } }),
    ];
    all.extend(annotations.objects("sidecar.istio.io/userVolume")?);
    Ok(all)
}

/// Where the proxy's container has them.
pub(super) fn mounts(annotations: &Annotations<'_>) -> Result<Vec<Value>, InjectionError> {
    let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path });
    let mut all = vec![
        mount("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
        mount("istiod-ca-cert", "/var/run/secrets/istio"),
        mount("istio-data", "/var/lib/istio/data"),
        mount("istio-envoy", "/etc/istio/proxy"),
        mount("istio-token", "/var/run/secrets/tokens"),
        mount("istio-podinfo", "/etc/istio/pod"),
    ];
    all.extend(annotations.objects("sidecar.istio.io/userVolumeMount")?);
    Ok(all)
}
