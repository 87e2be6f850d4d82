//! What a pod belongs to.

use serde_json::Value;

/// The workload that a pod is of, for names in telemetry.
pub(crate) struct Workload<'a> {
    pub(crate) api_version: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
    /// As environment variables may say it; where it is known only in the end, it is `$(POD_NAMESPACE)`.
    pub(crate) namespace: &'a str,
}

impl<'a> Workload<'a> {
    /// The workload of a pod that is being created in `namespace`.
    pub(crate) fn of(pod: &'a Value, namespace: &'a str) -> Workload<'a> {
        let metadata = &pod["metadata"];
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
        let Some(owner) = owners.into_iter().find(|owner| owner["controller"] == true) else {
            let name = metadata["name"].as_str().unwrap_or_default();
            return Workload { api_version: "v1", kind: "Pod", name, namespace };
        };
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        let (api_version, kind, name) = (text("apiVersion"), text("kind"), text("name"));
        let hash = metadata["labels"]["pod-template-hash"].as_str().unwrap_or_default();
        let deployment = name.strip_suffix(hash).and_then(|rest| rest.strip_suffix('-'));
        match deployment.filter(|_| kind == "ReplicaSet" && !hash.is_empty()) {
            Some(name) => Workload { api_version: "apps/v1", kind: "Deployment", name, namespace },
            None => Workload { api_version, kind, name, namespace },
        }
    }

    /// `kubernetes://apis/apps/v1/namespaces/default/deployments/sleep`.
    pub(super) fn owner(&self) -> String {
        let Workload { api_version, kind, name, namespace } = self;
        format!("kubernetes://apis/{api_version}/namespaces/{namespace}/{}s/{name}", kind.to_lowercase())
    }
}

/// The name of the service that the labels of a pod say it is of.
pub(super) fn canonical_name(labels: &Value, workload: &str) -> String {
    first(labels, ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]).unwrap_or(workload).to_owned()
}

/// Its version.
pub(super) fn canonical_revision(labels: &Value) -> String {
    let keys = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
    first(labels, keys).unwrap_or("latest").to_owned()
}

fn first<'a>(labels: &'a Value, keys: [&str; 3]) -> Option<&'a str> {
    keys.into_iter().find_map(|key| labels[key].as_str()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_replica_sets_pod_is_of_its_deployment() {
        let pod = json!({"metadata": {
            "labels": {"pod-template-hash": "7f8"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "sleep-7f8", "controller": true}],
        }});
        assert_eq!(Workload::of(&pod, "ns").owner(), "kubernetes://apis/apps/v1/namespaces/ns/deployments/sleep");
        let alone = json!({"metadata": {"name": "p"}});
        assert_eq!(Workload::of(&alone, "ns").owner(), "kubernetes://apis/v1/namespaces/ns/pods/p");
    }
}
