//! The objects of one cluster.

use std::fmt::Display;
use std::sync::Arc;

use api::istio::{self, Object, Spec};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;

use crate::{Code, Diagnostic, ObjectRef, wire};

/// The name of the ConfigMap with the mesh's configuration, and of its key.
const MESH_CONFIG: (&str, &str) = ("istio", "mesh");

/// The objects of one cluster, in any order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// Nodes, for the places of pods.
    pub nodes: Vec<Arc<core::Node>>,
    /// Pods.
    pub pods: Vec<Arc<core::Pod>>,
    /// Services.
    pub services: Vec<Arc<core::Service>>,
    /// Endpoints of services.
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// Who may call.
    pub authorization_policies: Vec<Arc<Object<istio::AuthorizationPolicy>>>,
    /// Which services roles are for.
    pub cluster_rbac_configs: Vec<Arc<Object<istio::ClusterRbacConfig>>>,
    /// How to call.
    pub destination_rules: Vec<Arc<Object<istio::DestinationRule>>>,
    /// Changes to what proxies are told.
    pub envoy_filters: Vec<Arc<Object<istio::EnvoyFilter>>>,
    /// What gateways listen for.
    pub gateways: Vec<Arc<Object<istio::Gateway>>>,
    /// What must be encrypted, and which tokens are needed, as up to Istio 1.5.
    pub mesh_policies: Vec<Arc<Object<istio::MeshPolicy>>>,
    /// What must be encrypted.
    pub peer_authentications: Vec<Arc<Object<istio::PeerAuthentication>>>,
    /// The same as mesh policies, of namespaces.
    pub policies: Vec<Arc<Object<istio::Policy>>>,
    /// Which services roles are for.
    pub rbac_configs: Vec<Arc<Object<istio::RbacConfig>>>,
    /// Which tokens are accepted.
    pub request_authentications: Vec<Arc<Object<istio::RequestAuthentication>>>,
    /// Services that Kubernetes does not know.
    pub service_entries: Vec<Arc<Object<istio::ServiceEntry>>>,
    /// Who has a role.
    pub service_role_bindings: Vec<Arc<Object<istio::ServiceRoleBinding>>>,
    /// What may be done to services.
    pub service_roles: Vec<Arc<Object<istio::ServiceRole>>>,
    /// What proxies are told.
    pub sidecars: Vec<Arc<Object<istio::Sidecar>>>,
    /// What proxies report.
    pub telemetries: Vec<Arc<Object<istio::Telemetry>>>,
    /// Routes.
    pub virtual_services: Vec<Arc<Object<istio::VirtualService>>>,
    /// Workloads that Kubernetes does not know.
    pub workload_entries: Vec<Arc<Object<istio::WorkloadEntry>>>,
    /// What holds for all.
    pub mesh_config: istio::MeshConfig,
    /// What could not be read when it was put in, or only in part.
    pub diagnostics: Vec<Diagnostic>,
}

impl Objects {
    /// Puts in an object in its JSON form. Kinds that mean nothing here are left out; what cannot be read is reported in
    /// [`Objects::diagnostics`] and changes nothing else.
    pub fn insert(&mut self, value: Value) {
        let at = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (at("/apiVersion"), at("/kind"));
        let object = ObjectRef::new(&kind, &at("/metadata/namespace"), &at("/metadata/name"));
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let result = match (group, kind.as_str()) {
            ("", "Node") => kubernetes(&mut self.nodes, value),
            ("", "Pod") => kubernetes(&mut self.pods, value),
            ("", "Service") => kubernetes(&mut self.services, value),
            ("discovery.k8s.io", "EndpointSlice") => kubernetes(&mut self.endpoint_slices, value),
            ("", "ConfigMap") if object.name == MESH_CONFIG.0 => self.set_mesh_config(&object, &value),
            ("security.istio.io", "AuthorizationPolicy") => self.authorize(value),
            ("security.istio.io", "PeerAuthentication") => self.authenticate(value),
            ("security.istio.io", "RequestAuthentication") => istio(&mut self.request_authentications, value),
            ("telemetry.istio.io", "Telemetry") => istio(&mut self.telemetries, value),
            ("rbac.istio.io", "ClusterRbacConfig") => self.restrict(value),
            ("rbac.istio.io", "RbacConfig") => istio(&mut self.rbac_configs, value),
            ("rbac.istio.io", "ServiceRole") => istio(&mut self.service_roles, value),
            ("rbac.istio.io", "ServiceRoleBinding") => istio(&mut self.service_role_bindings, value),
            ("authentication.istio.io", "MeshPolicy") => strict(&mut self.mesh_policies, value, istio::MeshPolicy),
            ("authentication.istio.io", "Policy") => strict(&mut self.policies, value, |policy| policy),
            ("networking.istio.io", "DestinationRule") => istio(&mut self.destination_rules, value),
            ("networking.istio.io", "EnvoyFilter") => self.patch(value),
            ("networking.istio.io", "Gateway") => istio(&mut self.gateways, value),
            ("networking.istio.io", "ServiceEntry") => istio(&mut self.service_entries, value),
            ("networking.istio.io", "Sidecar") => istio(&mut self.sidecars, value),
            ("networking.istio.io", "VirtualService") => istio(&mut self.virtual_services, value),
            ("networking.istio.io", "WorkloadEntry") => istio(&mut self.workload_entries, value),
            _ => Ok(()),
        };
        if let Err((field, reason)) = result {
            self.diagnostics.push(object.error(field, Code::Malformed, reason));
        }
    }

    /// Puts in everything that is in `other`, except for the mesh's configuration.
    pub fn extend(&mut self, other: &Objects) {
        let Objects { nodes, pods, services, endpoint_slices, diagnostics, mesh_config: _, .. } = other;
        self.nodes.extend_from_slice(nodes);
        self.pods.extend_from_slice(pods);
        self.services.extend_from_slice(services);
        self.endpoint_slices.extend_from_slice(endpoint_slices);
        self.authorization_policies.extend_from_slice(&other.authorization_policies);
        self.cluster_rbac_configs.extend_from_slice(&other.cluster_rbac_configs);
        self.destination_rules.extend_from_slice(&other.destination_rules);
        self.envoy_filters.extend_from_slice(&other.envoy_filters);
        self.gateways.extend_from_slice(&other.gateways);
        self.mesh_policies.extend_from_slice(&other.mesh_policies);
        self.peer_authentications.extend_from_slice(&other.peer_authentications);
        self.policies.extend_from_slice(&other.policies);
        self.rbac_configs.extend_from_slice(&other.rbac_configs);
        self.request_authentications.extend_from_slice(&other.request_authentications);
        self.service_entries.extend_from_slice(&other.service_entries);
        self.service_role_bindings.extend_from_slice(&other.service_role_bindings);
        self.service_roles.extend_from_slice(&other.service_roles);
        self.sidecars.extend_from_slice(&other.sidecars);
        self.telemetries.extend_from_slice(&other.telemetries);
        self.virtual_services.extend_from_slice(&other.virtual_services);
        self.workload_entries.extend_from_slice(&other.workload_entries);
        self.diagnostics.extend_from_slice(diagnostics);
    }

    /// A policy that cannot be read might have refused anybody, so until it can be, it refuses everybody.
    fn authorize(&mut self, value: Value) -> Result<(), (String, String)> {
        let refuse = istio::AuthorizationPolicy {
            selector: selector(&value),
            action: istio::Action::Deny,
            rules: vec![istio::Rule::default()],
            ..istio::AuthorizationPolicy::default()
        };
        let instead = Object { metadata: metadata(&value), spec: refuse, unknown: Vec::new() };
        read(&mut self.authorization_policies, value).map_err(|(field, reason)| {
            self.authorization_policies.push(Arc::new(instead));
            (field, format!("{reason}. Until it can be read, the policy refuses everybody"))
        })
    }

    /// The same for what might have asked for mutual TLS.
    fn authenticate(&mut self, value: Value) -> Result<(), (String, String)> {
        let strict = istio::PeerAuthentication {
            selector: selector(&value),
            mtls: istio::MutualTls { mode: istio::MutualTlsMode::Strict },
            ..istio::PeerAuthentication::default()
        };
        let instead = Object { metadata: metadata(&value), spec: strict, unknown: Vec::new() };
        read(&mut self.peer_authentications, value).map_err(|(field, reason)| {
            self.peer_authentications.push(Arc::new(instead));
            (field, format!("{reason}. Until it can be read, it is taken for STRICT"))
        })
    }

    /// The same for a patch that might have authorized; others have no effect until they can be read.
    fn patch(&mut self, value: Value) -> Result<(), (String, String)> {
        use istio::envoy_filter::{ApplyTo, ConfigPatch, Operation, Patch, PatchContext, PatchMatch};
        let text = value.to_string();
        if !text.contains("rbac") && !text.contains("ext_authz") {
            return istio(&mut self.envoy_filters, value);
        }
        let refuse = ConfigPatch {
            apply_to: ApplyTo::NetworkFilter,
            r#match: PatchMatch { context: PatchContext::SidecarInbound, ..PatchMatch::default() },
            patch: Patch {
                operation: Operation::InsertFirst,
                value: serde_json::json!({
                    "name": "envoy.filters.network.rbac",
                    "config": { "stat_prefix": "tcp.", "rules": {} },
                }),
                ..Patch::default()
            },
        };
        let part = value.pointer("/spec/workloadSelector").or(value.pointer("/spec/workload_selector"));
        let workload_selector = part.cloned().and_then(|part| istio::decode_spec(part).ok()).map(|(s, _)| s);
        let at_gateways = PatchMatch { context: PatchContext::Gateway, ..PatchMatch::default() };
        let config_patches = vec![ConfigPatch { r#match: at_gateways, ..refuse.clone() }, refuse];
        let spec = istio::EnvoyFilter { workload_selector, config_patches, ..istio::EnvoyFilter::default() };
        let instead = Object { metadata: metadata(&value), spec, unknown: Vec::new() };
        read(&mut self.envoy_filters, value).map_err(|(field, reason)| {
            self.envoy_filters.push(Arc::new(instead));
            (field, format!("{reason}. Until it can be read, the workloads that it selects refuse everybody"))
        })
    }

    /// The same for what might have put every service under roles.
    fn restrict(&mut self, value: Value) -> Result<(), (String, String)> {
        let on = istio::RbacConfig { mode: istio::legacy_rbac::RbacMode::On, ..istio::RbacConfig::default() };
        let spec = istio::ClusterRbacConfig(on);
        let instead = Object { metadata: metadata(&value), spec, unknown: Vec::new() };
        read(&mut self.cluster_rbac_configs, value).map_err(|(field, reason)| {
            self.cluster_rbac_configs.push(Arc::new(instead));
            (field, format!("{reason}. Until it can be read, it is taken for ON"))
        })
    }

    fn set_mesh_config(&mut self, object: &ObjectRef, value: &Value) -> Result<(), (String, String)> {
        let Some(text) = value.pointer("/data/mesh").and_then(Value::as_str) else { return Ok(()) };
        let field = |path: &str| format!("data.{}.{path}", MESH_CONFIG.1).trim_end_matches('.').to_owned();
        let unread = |path: &str, reason: &dyn Display| {
            (field(path), format!("{reason}. Until it can be read, the defaults hold"))
        };
        let (config, unknown) = istio::MeshConfig::from_yaml(text).map_err(|e| unread(&e.path, &e.reason))?;
        let not_read = |path: &String| {
            object.info(field(path), Code::NotSupported, "is not a setting that this mesh reads, and has no effect")
        };
        self.diagnostics.extend(unknown.iter().map(not_read));
        self.mesh_config = config;
        let defaults = istio::MeshConfig::default();
        let times = [
            ("connectTimeout", &mut self.mesh_config.connect_timeout, defaults.connect_timeout),
            ("dnsRefreshRate", &mut self.mesh_config.dns_refresh_rate, defaults.dns_refresh_rate),
        ];
        for (name, time, default) in times {
            if !wire::is_some_time(time) {
                *time = default;
                let message = format!("must be at least 1ms, and is taken for {default}");
                self.diagnostics.push(object.error(field(name), Code::InvalidValue, message));
            }
        }
        Ok(())
    }
}

/// What can be read of an object that cannot be as a whole.
fn metadata(value: &Value) -> istio::Metadata {
    let part = value.get("metadata").cloned().unwrap_or_default();
    istio::decode_spec(part).map(|(metadata, _)| metadata).unwrap_or_default()
}

fn selector(value: &Value) -> Option<istio::WorkloadSelector> {
    let part = value.pointer("/spec/selector").cloned()?;
    istio::decode_spec(part).map(|(selector, _)| selector).ok()
}

/// What might have asked for mutual TLS does, for the whole namespace or mesh, until it can be read.
fn strict<S: Spec>(
    kept: &mut Vec<Arc<Object<S>>>,
    value: Value,
    of: impl Fn(istio::Policy) -> S,
) -> Result<(), (String, String)> {
    let peers = vec![istio::legacy_authentication::Peer::default()];
    let spec = of(istio::Policy { peers, ..istio::Policy::default() });
    let instead = Object { metadata: metadata(&value), spec, unknown: Vec::new() };
    read(kept, value).map_err(|(field, reason)| {
        kept.push(Arc::new(instead));
        (field, format!("{reason}. Until it can be read, it is taken for mutual TLS everywhere"))
    })
}

fn kubernetes<K: serde::de::DeserializeOwned>(kept: &mut Vec<Arc<K>>, value: Value) -> Result<(), (String, String)> {
    let object = serde_json::from_value(value).map_err(|e| (String::new(), e.to_string()))?;
    kept.push(Arc::new(object));
    Ok(())
}

fn istio<S: Spec>(kept: &mut Vec<Arc<Object<S>>>, value: Value) -> Result<(), (String, String)> {
    let ineffective = |(field, reason)| (field, format!("{reason}. Until it can be read, the object has no effect"));
    read(kept, value).map_err(ineffective)
}

fn read<S: Spec>(kept: &mut Vec<Arc<Object<S>>>, value: Value) -> Result<(), (String, String)> {
    let object = Object::decode(value).map_err(|e| (e.path, e.reason))?;
    kept.push(Arc::new(object));
    Ok(())
}
