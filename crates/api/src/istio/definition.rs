//! The CustomResourceDefinitions of Istio's kinds: names, columns and schemas as Istio has them, so that what applies
//! there applies here. A schema knows every field of its kind, also those that no type here reads.

mod authorization_policy;
mod destination_rule;
mod envoy_filter;
mod gateway;
mod legacy_authentication;
mod legacy_rbac;
mod peer_authentication;
mod request_authentication;
mod schema;
mod service_entry;
mod sidecar;
mod telemetry;
mod virtual_service;

use serde_json::{Value, json};

use schema::Schema;

/// A kind of Istio's.
struct Definition {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: Option<&'static str>,
    /// All that are served; objects are stored in the first.
    versions: &'static [&'static str],
    /// Name, JSON path and description of what `kubectl get` shows beside the age.
    columns: &'static [(&'static str, &'static str, &'static str)],
    spec: fn() -> Schema,
    needs_spec: bool,
    /// Whether its objects are in no namespace.
    of_cluster: bool,
}

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const TELEMETRY: &str = "telemetry.istio.io";
const RBAC: &str = "rbac.istio.io";
const AUTHENTICATION: &str = "authentication.istio.io";
const THREE: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const TWO: &[&str] = &["v1", "v1beta1"];
const OLD: &[&str] = &["v1alpha1"];

/// A kind without columns of its own.
const fn plain(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    versions: &'static [&'static str],
    spec: fn() -> Schema,
) -> Definition {
    Definition { group, kind, plural, short: None, versions, columns: &[], spec, needs_spec: false, of_cluster: false }
}

const DEFINITIONS: [Definition; 17] = [
    Definition {
        group: NETWORKING,
        kind: "DestinationRule",
        plural: "destinationrules",
        short: Some("dr"),
        versions: THREE,
        columns: &[("Host", ".spec.host", "The service")],
        spec: destination_rule::spec,
        needs_spec: false,
        of_cluster: false,
    },
    Definition {
        group: NETWORKING,
        kind: "Gateway",
        plural: "gateways",
        short: Some("gw"),
        versions: THREE,
        columns: &[],
        spec: gateway::spec,
        needs_spec: false,
        of_cluster: false,
    },
    Definition {
        group: NETWORKING,
        kind: "ServiceEntry",
        plural: "serviceentries",
        short: Some("se"),
        versions: THREE,
        columns: &[
            ("Hosts", ".spec.hosts", "The names of the service"),
            ("Location", ".spec.location", "Whether it is part of the mesh"),
            ("Resolution", ".spec.resolution", "How its endpoints are found"),
        ],
        spec: service_entry::spec,
        needs_spec: true,
        of_cluster: false,
    },
    Definition {
        group: NETWORKING,
        kind: "Sidecar",
        plural: "sidecars",
        short: None,
        versions: THREE,
        columns: &[],
        spec: sidecar::spec,
        needs_spec: false,
        of_cluster: false,
    },
    Definition {
        group: NETWORKING,
        kind: "VirtualService",
        plural: "virtualservices",
        short: Some("vs"),
        versions: THREE,
        columns: &[
            ("Gateways", ".spec.gateways", "The gateways and sidecars that it is for"),
            ("Hosts", ".spec.hosts", "The hosts whose calls it routes"),
        ],
        spec: virtual_service::spec,
        needs_spec: false,
        of_cluster: false,
    },
    Definition {
        group: NETWORKING,
        kind: "WorkloadEntry",
        plural: "workloadentries",
        short: Some("we"),
        versions: THREE,
        columns: &[("Age", ".metadata.creationTimestamp", AGE), ("Address", ".spec.address", "Where the workload is")],
        spec: service_entry::workload,
        needs_spec: true,
        of_cluster: false,
    },
    Definition {
        group: SECURITY,
        kind: "AuthorizationPolicy",
        plural: "authorizationpolicies",
        short: Some("ap"),
        versions: TWO,
        columns: &[("Action", ".spec.action", "What happens to calls that a rule matches")],
        spec: authorization_policy::spec,
        needs_spec: false,
        of_cluster: false,
    },
    Definition {
        group: SECURITY,
        kind: "PeerAuthentication",
        plural: "peerauthentications",
        short: Some("pa"),
        versions: TWO,
        columns: &[("Mode", ".spec.mtls.mode", "What the workloads accept")],
        spec: peer_authentication::spec,
        needs_spec: false,
        of_cluster: false,
    },
    Definition {
        short: Some("ra"),
        ..plain(SECURITY, "RequestAuthentication", "requestauthentications", TWO, request_authentication::spec)
    },
    Definition {
        short: Some("telemetry"),
        columns: &[("Age", ".metadata.creationTimestamp", AGE)],
        ..plain(TELEMETRY, "Telemetry", "telemetries", &["v1", "v1alpha1"], telemetry::spec)
    },
    plain(NETWORKING, "EnvoyFilter", "envoyfilters", &["v1alpha3"], envoy_filter::spec),
    plain(RBAC, "ServiceRole", "serviceroles", OLD, legacy_rbac::role),
    Definition {
        columns: &[("Reference", ".spec.roleRef.name", "The role")],
        ..plain(RBAC, "ServiceRoleBinding", "servicerolebindings", OLD, legacy_rbac::binding)
    },
    plain(RBAC, "RbacConfig", "rbacconfigs", OLD, legacy_rbac::config),
    Definition { of_cluster: true, ..plain(RBAC, "ClusterRbacConfig", "clusterrbacconfigs", OLD, legacy_rbac::config) },
    plain(AUTHENTICATION, "Policy", "policies", OLD, legacy_authentication::spec),
    Definition {
        of_cluster: true,
        ..plain(AUTHENTICATION, "MeshPolicy", "meshpolicies", OLD, legacy_authentication::spec)
    },
];

const AGE: &str = "How long the object has been there";

/// The definitions of all kinds, in their JSON form.
pub fn definitions() -> Vec<Value> {
    DEFINITIONS.iter().map(Definition::object).collect()
}

impl Definition {
    fn object(&self) -> Value {
        let Definition { group, kind, plural, short, versions, .. } = self;
        let family = group.replace('.', "-");
        let mut names = json!({
            "kind": kind,
            "listKind": format!("{kind}List"),
            "plural": plural,
            "singular": kind.to_lowercase(),
            "categories": ["istio-io", family],
        });
        if let Some(short) = short {
            names["shortNames"] = json!([short]);
        }
        let (schema, columns) = (self.schema(), self.printed());
        let version = |(index, name): (usize, &&str)| {
            let mut version = json!({
                "name": name,
                "served": true,
                "storage": index == 0,
                "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": schema },
            });
            if !columns.is_empty() {
                version["additionalPrinterColumns"] = json!(columns);
            }
            version
        };
        let versions: Vec<Value> = versions.iter().enumerate().map(version).collect();
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.{group}"), "labels": { "app": "istio-pilot", "release": "istio" } },
            "spec": {
                "group": group,
                "names": names,
                "scope": if self.of_cluster { "Cluster" } else { "Namespaced" },
                "conversion": { "strategy": "None" },
                "versions": versions,
            },
        })
    }

    /// The columns, with the age where Istio has it: last, unless the kind says where, and not without others.
    fn printed(&self) -> Vec<Value> {
        let column = |(name, path, description): &(&str, &str, &str)| {
            let kind = if *name == "Age" { "date" } else { "string" };
            json!({ "name": name, "type": kind, "jsonPath": path, "description": description })
        };
        let mut all: Vec<Value> = self.columns.iter().map(column).collect();
        if !all.is_empty() && all.iter().all(|column| column["name"] != "Age") {
            all.push(column(&("Age", ".metadata.creationTimestamp", AGE)));
        }
        all
    }

    fn schema(&self) -> Value {
        let status = json!({
            "description": "What the mesh has made of the object.",
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
        });
        let spec = (self.spec)().0;
        let description = spec["description"].clone();
        let properties = json!({ "spec": spec, "status": status });
        let mut schema = json!({ "type": "object", "description": description, "properties": properties });
        if self.needs_spec {
            schema["required"] = json!(["spec"]);
        }
        schema
    }
}

#[cfg(test)]
mod tests;
