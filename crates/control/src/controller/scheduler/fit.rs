//! Which node a pod fits on.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm, Taint, Toleration,
};
use kube::ResourceExt;

use crate::labels;

type Labels = BTreeMap<String, String>;

/// The node with the fewest pods among those that fit, or the sentence that says why none does.
pub(super) fn choose(pod: &Pod, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Result<Arc<Node>, String> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut fitting = Vec::new();
    for node in nodes {
        match obstacle(pod, node, nodes, pods) {
            None => fitting.push(node),
            Some(reason) => *reasons.entry(reason).or_default() += 1,
        }
    }
    let load = |node: &Node| pods.iter().filter(|pod| node_of(pod) == node.name_any()).count();
    if let Some(node) = fitting.into_iter().min_by_key(|node| (load(node), node.name_any())) {
        return Ok(node.clone());
    }
    if nodes.is_empty() {
        return Err("no nodes available to schedule pods".to_owned());
    }
    let total = nodes.len();
    let counted: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    Err(format!(
        "0/{total} nodes are available: {}. preemption: 0/{total} nodes are available: {total} Preemption is not helpful \
         for scheduling.",
        counted.join(", ")
    ))
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// Why the pod cannot be on the node, in the words that follow a count of nodes.
fn obstacle(pod: &Pod, node: &Node, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    let is_cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    if is_cordoned && !tolerations.iter().any(|t| tolerates(t, &cordon)) {
        return Some("node(s) were unschedulable".to_owned());
    }
    let wanted = spec.node_selector.iter().flatten();
    if !wanted.into_iter().all(|(key, value)| node.labels().get(key) == Some(value)) || !has_affinity(pod, node) {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    let repels = |taint: &&Taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && !tolerations.iter().any(|t| tolerates(t, taint))
    };
    if let Some(taint) = taints.iter().find(repels) {
        let value = taint.value.as_deref().unwrap_or_default();
        return Some(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key));
    }
    neighbour_obstacle(pod, node, nodes, pods).map(str::to_owned)
}

/// `Exists` without a key tolerates everything; no effect means every effect.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => {
            !key.is_empty()
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
    }
}

fn has_affinity(pod: &Pod, node: &Node) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| matches_term(term, node)))
}

/// A term holds if all its requirements do; an empty one never does.
fn matches_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let on_labels = term.match_expressions.as_deref().unwrap_or_default();
    let on_fields = term.match_fields.as_deref().unwrap_or_default();
    let fields: Labels = [("metadata.name".to_owned(), node.name_any())].into();
    !(on_labels.is_empty() && on_fields.is_empty())
        && on_labels.iter().all(|r| matches_requirement(r, node.labels()))
        && on_fields.iter().all(|r| matches_requirement(r, &fields))
}

fn matches_requirement(requirement: &NodeSelectorRequirement, labels: &Labels) -> bool {
    let found = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &String| text.parse::<i64>().ok();
    let bound = values.first().and_then(number);
    match requirement.operator.as_str() {
        "In" => found.is_some_and(|value| values.contains(value)),
        "NotIn" => found.is_none_or(|value| !values.contains(value)),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => found.and_then(number).zip(bound).is_some_and(|(value, bound)| value > bound),
        "Lt" => found.and_then(number).zip(bound).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

/// Required affinity and anti-affinity to pods that are placed already.
fn neighbour_obstacle(pod: &Pod, node: &Node, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Option<&'static str> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?;
    let near = |term: &PodAffinityTerm| {
        let Some(domain) = node.labels().get(&term.topology_key) else { return false };
        let in_domain = |other: &Pod| {
            let place = nodes.iter().find(|node| node.name_any() == node_of(other));
            place.is_some_and(|node| node.labels().get(&term.topology_key) == Some(domain))
        };
        pods.iter().any(|other| other.uid() != pod.uid() && is_meant(term, pod, other) && in_domain(other))
    };
    let required = |terms: Option<&Vec<PodAffinityTerm>>| terms.cloned().unwrap_or_default();
    let towards = affinity.pod_affinity.as_ref();
    let towards = required(towards.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()));
    // The first of a group that wants to be together has nobody to join.
    if !towards.iter().all(|term| near(term) || is_meant(term, pod, pod)) {
        return Some("node(s) didn't match pod affinity rules");
    }
    let away = affinity.pod_anti_affinity.as_ref();
    let away = required(away.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()));
    away.iter().any(near).then_some("node(s) didn't match pod anti-affinity rules")
}

fn is_meant(term: &PodAffinityTerm, pod: &Pod, other: &Pod) -> bool {
    let namespaces = term.namespaces.as_deref().unwrap_or_default();
    let namespace = other.namespace().unwrap_or_default();
    let in_namespace = match (namespaces, &term.namespace_selector) {
        ([], None) => other.namespace() == pod.namespace(),
        (listed, None) => listed.contains(&namespace),
        // Selecting namespaces by label is only supported in its common form, the selector of all of them.
        (_, Some(_)) => true,
    };
    let selector = term.label_selector.as_ref().and_then(labels::selector);
    in_namespace && selector.is_some_and(|selector| labels::selects(&selector, &other.metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(spec: Value) -> Vec<Arc<Node>> {
        let metadata = json!({"name": "n", "labels": {"zone": "a", "kubernetes.io/hostname": "n"}});
        vec![Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())]
    }

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let metadata = json!({"name": "p", "namespace": "ns", "uid": "1", "labels": {"app": "p"}});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn reason(spec: Value, node_spec: Value) -> String {
        choose(&pod(spec), &node(node_spec), &[]).err().unwrap_or_default()
    }

    #[test]
    fn a_pod_goes_where_its_selector_points() {
        assert_eq!(reason(json!({"nodeSelector": {"zone": "a"}}), json!({})), "");
        assert_eq!(
            reason(json!({"nodeSelector": {"zone": "b"}}), json!({})),
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are \
             available: 1 Preemption is not helpful for scheduling."
        );
        assert_eq!(choose(&pod(json!({})), &[], &[]).unwrap_err(), "no nodes available to schedule pods");
    }

    #[test]
    fn node_affinity_is_a_choice_of_terms() {
        let affinity = |operator: &str, values: Value| {
            let term = json!({"matchExpressions": [{"key": "zone", "operator": operator, "values": values}]});
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{}, term]}}}})
        };
        assert_eq!(reason(affinity("In", json!(["a", "b"])), json!({})), "");
        assert!(reason(affinity("NotIn", json!(["a"])), json!({})).contains("affinity/selector"));
        assert!(reason(affinity("DoesNotExist", json!([])), json!({})).contains("affinity/selector"));
    }

    #[test]
    fn taints_repel_all_that_do_not_tolerate_them() {
        let tainted = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
        assert!(reason(json!({}), tainted.clone()).contains("untolerated taint {k: v}"));
        assert_eq!(reason(json!({"tolerations": [{"key": "k", "value": "v"}]}), tainted.clone()), "");
        assert_eq!(reason(json!({"tolerations": [{"operator": "Exists"}]}), tainted.clone()), "");
        assert_ne!(reason(json!({"tolerations": [{"key": "k", "value": "w"}]}), tainted), "");
        assert!(reason(json!({}), json!({"unschedulable": true})).contains("were unschedulable"));
    }

    #[test]
    fn pods_that_avoid_each_other_do_not_share_a_node() {
        let term = json!({"labelSelector": {"matchLabels": {"app": "p"}}, "topologyKey": "kubernetes.io/hostname"});
        let apart =
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
        let mut other = pod(json!({"nodeName": "n"}));
        other.metadata.uid = Some("2".to_owned());
        let refused = choose(&pod(apart.clone()), &node(json!({})), &[Arc::new(other)]);
        assert!(refused.unwrap_err().contains("anti-affinity"));
        let together = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
        assert_eq!(reason(together, json!({})), "", "the first of its group");
        assert_eq!(reason(apart, json!({})), "");
    }
}
