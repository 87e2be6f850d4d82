//! Which pods get a sidecar.

use serde_json::Value;

use super::{REVISION, is_injected};

/// The namespaces of Kubernetes itself, which no label opens for sidecars.
const SYSTEM: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

const INJECT: &str = "sidecar.istio.io/inject";
const NAMESPACE_INJECTION: &str = "istio-injection";
const REVISION_LABEL: &str = "istio.io/rev";

/// Where a pod is to be.
pub(crate) struct Namespace<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its labels, as JSON.
    pub(crate) labels: &'a Value,
}

/// Whether a new pod of the namespace gets a sidecar: the namespace's labels come first, then the pod's label, then its
/// annotation.
pub(crate) fn wanted(namespace: &Namespace<'_>, pod: &Value) -> bool {
    !SYSTEM.contains(&namespace.name) && selected(namespace.labels, &pod["metadata"]["labels"]) && takes(pod)
}

/// What the selectors of Istio's webhooks say, of which one has to match.
fn selected(namespace: &Value, pod: &Value) -> bool {
    let text = |labels: &Value, key: &str| labels[key].as_str().map(str::to_owned);
    let own = text(pod, INJECT);
    let declines = own.as_deref() == Some("false");
    match (text(namespace, NAMESPACE_INJECTION), text(namespace, REVISION_LABEL)) {
        (Some(injection), _) => injection == "enabled" && !declines,
        (None, Some(revision)) => revision == REVISION && !declines,
        (None, None) => match text(pod, REVISION_LABEL) {
            Some(revision) => revision == REVISION && !declines,
            None => own.as_deref() == Some("true"),
        },
    }
}

/// Whether the pod, or template of one, can have a sidecar and does not decline it.
pub(super) fn takes(pod: &Value) -> bool {
    let metadata = &pod["metadata"];
    let label = metadata["labels"][INJECT].as_str();
    let wish = label.or_else(|| metadata["annotations"][INJECT].as_str()).unwrap_or_default();
    let declines = !matches!(wish.to_ascii_lowercase().as_str(), "" | "y" | "yes" | "true" | "on");
    !declines && pod["spec"]["hostNetwork"] != true && !is_injected(pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(namespace: Value, labels: Value, annotations: Value) -> bool {
        let pod = json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": {}});
        wanted(&Namespace { name: "ns", labels: &namespace }, &pod)
    }

    #[test]
    fn labels_of_the_namespace_come_first() {
        let none = || json!({});
        assert!(verdict(json!({"istio-injection": "enabled"}), none(), none()));
        assert!(!verdict(json!({"istio-injection": "disabled"}), json!({"sidecar.istio.io/inject": "true"}), none()));
        assert!(!verdict(json!({"istio-injection": "disabled", "istio.io/rev": "default"}), none(), none()));
        assert!(verdict(json!({"istio.io/rev": "default"}), none(), none()));
        assert!(!verdict(json!({"istio.io/rev": "canary"}), json!({"sidecar.istio.io/inject": "true"}), none()));
        assert!(!verdict(none(), none(), none()), "nobody has asked");
    }

    #[test]
    fn a_pods_label_wins_over_its_annotation() {
        let enabled = || json!({"istio-injection": "enabled"});
        let inject = |value: &str| json!({"sidecar.istio.io/inject": value});
        assert!(!verdict(enabled(), inject("false"), inject("true")));
        assert!(verdict(enabled(), inject("true"), inject("false")));
        assert!(!verdict(enabled(), json!({}), inject("false")));
        assert!(
            verdict(json!({}), inject("true"), json!({})),
            "a pod may ask by label where its namespace says nothing"
        );
        assert!(!verdict(json!({}), json!({}), inject("true")), "by annotation it may not");
        assert!(verdict(json!({}), json!({"istio.io/rev": "default"}), json!({})));
    }

    #[test]
    fn some_pods_never_get_one() {
        let labels = json!({"istio-injection": "enabled"});
        let is_wanted = |name: &str, pod: Value| wanted(&Namespace { name, labels: &labels }, &pod);
        assert!(is_wanted("ns", json!({})));
        assert!(!is_wanted("kube-system", json!({})));
        assert!(!is_wanted("ns", json!({"spec": {"hostNetwork": true}})));
        assert!(!is_wanted("ns", json!({"metadata": {"annotations": {"sidecar.istio.io/status": "{}"}}})));
    }
}
