//! Namespaces, nodes, configuration and storage; and the kind of kinds.

use api::GroupVersion;
use k8s_openapi::api::{coordination::v1 as coordination, core::v1 as core};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::cell::{self, NONE, list_at, or, text, text_at, wide};
use super::{Kind, builtin};

pub(super) fn kinds() -> Vec<Kind> {
    let namespace = builtin::stored::<core::Namespace>("namespace", &["ns"])
        .with_status()
        .with_subresource("finalize", GroupVersion::parse("v1"), "Namespace", &["update"])
        .with_fields(&["status.phase"])
        .with_columns(vec![text("Status", "Whether the namespace is active."), cell::age_column()], |o, now| {
            vec![text_at(o, "/status/phase").into(), cell::age(o, now)]
        });
    let config_map = builtin::stored::<core::ConfigMap>("configmap", &["cm"])
        .with_columns(vec![text("Data", "How many entries there are."), cell::age_column()], |o, now| {
            vec![(cell::count_at(o, "/data") + cell::count_at(o, "/binaryData")).into(), cell::age(o, now)]
        });
    let secret = builtin::stored::<core::Secret>("secret", &[]).with_fields(&["type"]).with_columns(
        vec![text("Type", "What the secret is for."), text("Data", "How many entries there are."), cell::age_column()],
        |o, now| vec![text_at(o, "/type").into(), cell::count_at(o, "/data").into(), cell::age(o, now)],
    );
    let lease = builtin::stored::<coordination::Lease>("lease", &[])
        .with_columns(vec![text("Holder", "Who holds the lease."), cell::age_column()], |o, now| {
            vec![text_at(o, "/spec/holderIdentity").into(), cell::age(o, now)]
        });
    let definition = builtin::stored::<CustomResourceDefinition>("customresourcedefinition", &["crd", "crds"])
        .with_status()
        .in_category("api-extensions");
    vec![namespace, node(), config_map, secret, lease, definition]
}

impl Kind {
    fn in_category(mut self, category: &str) -> Kind {
        self.names.categories.push(category.to_owned());
        self
    }
}

fn node() -> Kind {
    builtin::stored::<core::Node>("node", &["no"]).with_status().with_fields(&["spec.unschedulable"]).with_columns(
        vec![
            text("Status", "Whether the node is ready."),
            text("Roles", "What the node is for."),
            cell::age_column(),
            text("Version", "The version of the node."),
            wide("Internal-IP", "The node's address within the cluster."),
            wide("External-IP", "The node's address outside the cluster."),
            wide("OS-Image", "The node's operating system."),
            wide("Kernel-Version", "The node's kernel."),
            wide("Container-Runtime", "What runs the node's containers."),
        ],
        node_row,
    )
}

fn node_row(node: &Value, now: i64) -> Vec<Value> {
    let info = |field: &str| text_at(node, &format!("/status/nodeInfo/{field}")).to_owned();
    let address = |kind: &str| {
        let addresses = list_at(node, "/status/addresses").iter();
        let found = addresses.filter(|a| a["type"] == kind).map(|a| text_at(a, "/address")).next();
        found.unwrap_or(NONE).to_owned()
    };
    vec![
        node_status(node).into(),
        roles(node).into(),
        cell::age(node, now),
        info("kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        or(&info("osImage"), "<unknown>").into(),
        or(&info("kernelVersion"), "<unknown>").into(),
        or(&info("containerRuntimeVersion"), "<unknown>").into(),
    ]
}

fn node_status(node: &Value) -> String {
    let ready = list_at(node, "/status/conditions").iter().find(|c| c["type"] == "Ready");
    let status = match ready {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let unschedulable = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    if unschedulable { format!("{status},SchedulingDisabled") } else { status.to_owned() }
}

fn roles(node: &Value) -> String {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    or(&roles.join(","), NONE).to_owned()
}
