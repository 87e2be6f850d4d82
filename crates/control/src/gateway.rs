//! Gateways of a mesh to be deployed: what is said of one, in the words of Istio's charts for gateways, and the manifests
//! that come of it.

mod manifest;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use api::name;
use serde::Deserialize;
use serde_json::Value;

pub use values::gateways_of_values;

/// A gateway to be deployed.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// The name of its Deployment and its Service.
    pub name: String,
    /// Where it is to be.
    pub namespace: String,
    /// The rest.
    pub settings: GatewaySettings,
}

/// What a gateway is like. The names are those of the chart's values.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatewaySettings {
    /// Whether it is to be deployed at all.
    pub enabled: bool,
    /// The labels of its pods, which Gateway objects select; `app` and `istio` come from its name where they are not given.
    pub labels: BTreeMap<String, String>,
    /// What its Service listens on.
    pub ports: Vec<GatewayPort>,
    /// The type of its Service.
    #[serde(rename = "type")]
    pub service_type: ServiceType,
    /// The address that is asked of the load balancer.
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: Option<String>,
    /// `Cluster` or `Local`.
    pub external_traffic_policy: Option<String>,
    /// Annotations of its Service.
    pub service_annotations: BTreeMap<String, String>,
    /// Annotations of its pods.
    pub pod_annotations: BTreeMap<String, String>,
    /// Secrets whose items are files in its pods.
    pub secret_volumes: Vec<SecretVolume>,
    /// Environment variables of its proxy.
    pub env: BTreeMap<String, String>,
    /// Requests and limits of its proxy; `null` for the usual ones.
    pub resources: Value,
    /// How many pods there are, where nothing scales them.
    pub replica_count: Option<u32>,
    /// Whether something scales them.
    pub autoscale_enabled: bool,
    /// At least so many.
    pub autoscale_min: u32,
    /// At most so many.
    pub autoscale_max: u32,
    /// When there are to be more.
    pub cpu: Cpu,
    /// The image of the proxy, if not the usual one.
    pub image: Option<String>,
}

impl Default for GatewaySettings {
    fn default() -> GatewaySettings {
        GatewaySettings {
            enabled: false,
            labels: BTreeMap::new(),
            ports: Vec::new(),
            service_type: ServiceType::LoadBalancer,
            load_balancer_ip: None,
            external_traffic_policy: None,
            service_annotations: BTreeMap::new(),
            pod_annotations: BTreeMap::new(),
            secret_volumes: Vec::new(),
            env: BTreeMap::new(),
            resources: Value::Null,
            replica_count: None,
            autoscale_enabled: true,
            autoscale_min: 1,
            autoscale_max: 5,
            cpu: Cpu { target_average_utilization: 80 },
            image: None,
        }
    }
}

/// A port of a gateway's Service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayPort {
    /// Its name, unique among the gateway's.
    pub name: String,
    /// The number that clients and Gateway objects know.
    pub port: u16,
    /// The number that the pods listen on; `port` if it is not given.
    #[serde(default)]
    pub target_port: Option<u16>,
    /// The number on the cluster's nodes.
    #[serde(default)]
    pub node_port: Option<u16>,
    /// `TCP`, if it is not given.
    #[serde(default)]
    pub protocol: Option<String>,
}

/// A type of Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ServiceType {
    /// Reached in its cluster alone.
    ClusterIP,
    /// Reached on every node.
    NodePort,
    /// Reached from other clusters.
    LoadBalancer,
}

impl ServiceType {
    fn as_str(self) -> &'static str {
        match self {
            ServiceType::ClusterIP => "ClusterIP",
            ServiceType::NodePort => "NodePort",
            ServiceType::LoadBalancer => "LoadBalancer",
        }
    }
}

/// A Secret whose items are files in a gateway's pods.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretVolume {
    /// The name of the volume.
    pub name: String,
    /// The Secret, which may come later.
    pub secret_name: String,
    /// The directory of the files.
    pub mount_path: String,
}

/// How busy pods may be before there are to be more of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cpu {
    /// In percent of what they request.
    pub target_average_utilization: u32,
}

/// Why there are no manifests for a gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The values are not those of the chart.
    #[error("{0}")]
    Values(String),
    /// A gateway says what cannot be done.
    #[error("gateway {gateway}: {field}: {why}")]
    Refused {
        /// Its name.
        gateway: String,
        /// Where it says so.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Gateway {
    /// Its ServiceAccount, Role, RoleBinding, Service, Deployment and HorizontalPodAutoscaler, in the order in which they
    /// are to be applied.
    ///
    /// # Errors
    /// What would be refused by every cluster, or would not be a gateway.
    pub fn manifests(&self) -> Result<Vec<Value>, GatewayError> {
        self.check()?;
        manifest::all(self).map_err(|why| self.refuse("podAnnotations", why))
    }

    fn refuse(&self, field: impl Into<String>, why: impl ToString) -> GatewayError {
        GatewayError::Refused { gateway: self.name.clone(), field: field.into(), why: why.to_string() }
    }

    fn check(&self) -> Result<(), GatewayError> {
        let GatewaySettings { ports, secret_volumes, labels, autoscale_min, autoscale_max, .. } = &self.settings;
        name::check_label_1035(&self.name).map_err(|why| self.refuse("name", why))?;
        name::check_label(&self.namespace).map_err(|why| self.refuse("namespace", why))?;
        for (key, value) in labels {
            name::check_qualified(key).map_err(|why| self.refuse(format!("labels[{key:?}]"), why))?;
            name::check_label_value(value).map_err(|why| self.refuse(format!("labels[{key:?}]"), why))?;
        }
        if ports.is_empty() {
            return Err(self.refuse("ports", "a gateway needs at least one"));
        }
        self.check_ports(ports)?;
        self.check_volumes(secret_volumes)?;
        if *autoscale_min == 0 || autoscale_min > autoscale_max {
            let why = format!("{autoscale_min} to {autoscale_max} is no range of pods; it begins with at least 1");
            return Err(self.refuse("autoscaleMin", why));
        }
        Ok(())
    }

    fn check_ports(&self, ports: &[GatewayPort]) -> Result<(), GatewayError> {
        let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        for (i, port) in ports.iter().enumerate() {
            let at = |field: &str| format!("ports[{i}].{field}");
            name::check_label(&port.name).map_err(|why| self.refuse(at("name"), why))?;
            if !names.insert(&port.name) {
                return Err(self.refuse(at("name"), format!("{:?} is there already", port.name)));
            }
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            if protocol != "TCP" {
                return Err(self.refuse(at("protocol"), format!("{protocol:?} is not spoken by gateways; TCP is")));
            }
            if port.port == 0 || port.target_port == Some(0) {
                return Err(self.refuse(at("port"), "a port is a number of 1 to 65535"));
            }
            if !numbers.insert(port.port) {
                return Err(self.refuse(at("port"), format!("{} is there already", port.port)));
            }
        }
        Ok(())
    }

    fn check_volumes(&self, volumes: &[SecretVolume]) -> Result<(), GatewayError> {
        let (mut names, mut paths) = manifest::taken();
        for (i, volume) in volumes.iter().enumerate() {
            let at = |field: &str| format!("secretVolumes[{i}].{field}");
            name::check_label(&volume.name).map_err(|why| self.refuse(at("name"), why))?;
            name::check_subdomain(&volume.secret_name).map_err(|why| self.refuse(at("secretName"), why))?;
            if !volume.mount_path.starts_with('/') {
                return Err(self.refuse(at("mountPath"), format!("{:?} does not begin with /", volume.mount_path)));
            }
            if !names.insert(volume.name.clone()) {
                return Err(self.refuse(at("name"), format!("{:?} is there already", volume.name)));
            }
            if !paths.insert(volume.mount_path.clone()) {
                return Err(self.refuse(at("mountPath"), format!("{:?} is there already", volume.mount_path)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
