//! What a pod can say about itself to its containers: `fieldRef` and `resourceFieldRef`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};

use super::machine::Capacity;

/// A pod with what only the node knows about it.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) host: Ipv4Addr,
    pub(crate) node: &'a str,
}

impl Facts<'_> {
    /// The value of a `fieldRef`.
    pub(crate) fn field(&self, selector: &ObjectFieldSelector) -> Result<String, String> {
        let metadata = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let path = selector.field_path.as_str();
        if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
            let map = match map {
                "metadata.labels" => metadata.labels.as_ref(),
                "metadata.annotations" => metadata.annotations.as_ref(),
                _ => return Err(unsupported(path)),
            };
            return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
        }
        Ok(match path {
            "metadata.name" => metadata.name.clone().unwrap_or_default(),
            "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
            "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
            "metadata.labels" => format_map(metadata.labels.as_ref()),
            "metadata.annotations" => format_map(metadata.annotations.as_ref()),
            "spec.nodeName" => self.node.to_owned(),
            "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
            "spec.restartPolicy" => spec.and_then(|s| s.restart_policy.clone()).unwrap_or_default(),
            "status.podIP" | "status.podIPs" => self.address.map(|a| a.to_string()).unwrap_or_default(),
            "status.hostIP" | "status.hostIPs" => self.host.to_string(),
            _ => return Err(unsupported(path)),
        })
    }

    /// The value of a `resourceFieldRef`, rounded up to the divisor. Without a limit it is the whole machine.
    pub(crate) fn resource(&self, selector: &ResourceFieldSelector, own: &Container) -> Result<String, String> {
        let named = selector.container_name.as_deref().unwrap_or(&own.name);
        let spec = self.pod.spec.iter();
        let mut all = spec.flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
        let container = all.find(|c| c.name == named).ok_or_else(|| format!("container {named} not found"))?;
        let (list, resource) = selector.resource.split_once('.').unwrap_or_default();
        let resources = container.resources.as_ref();
        let quantities = match list {
            "limits" => resources.and_then(|r| r.limits.as_ref()),
            "requests" => resources.and_then(|r| r.requests.as_ref()),
            _ => return Err(format!("unsupported container resource : {}", selector.resource)),
        };
        let set = quantities.and_then(|q| q.get(resource)).map(|q| milli(&q.0)).transpose()?;
        let capacity = Capacity::read();
        let whole = match (list, resource) {
            ("limits", "cpu") => i128::from(capacity.cpus) * 1000,
            ("limits", "memory") => i128::from(capacity.memory) * 1000,
            _ => 0,
        };
        let divisor = selector.divisor.as_ref().map(|q| milli(&q.0)).transpose()?.filter(|d| *d > 0).unwrap_or(1000);
        let value = set.unwrap_or(whole);
        Ok(((value + divisor - 1) / divisor).to_string())
    }
}

fn unsupported(path: &str) -> String {
    format!("unsupported fieldPath: {path}")
}

/// Labels or annotations as the downward API writes them: `key="value"` lines, sorted.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// A Kubernetes quantity in thousandths.
pub(crate) fn milli(quantity: &str) -> Result<i128, String> {
    let wrong = || format!("{quantity:?} is not a quantity");
    let split = quantity.find(|c: char| !(c.is_ascii_digit() || ".+-".contains(c))).unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at(split);
    let scale: i128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    let power = u32::try_from(fraction.len()).ok().and_then(|n| 10_i128.checked_pow(n)).ok_or_else(wrong)?;
    let value = digits.checked_mul(scale).ok_or_else(wrong)?;
    Ok((value + power - 1).div_euclid(power))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_counted_in_thousandths() {
        for (text, value) in [("100m", 100), ("1.5", 1500), ("2", 2000), ("1Ki", 1_024_000), ("1k", 1_000_000)] {
            assert_eq!(milli(text), Ok(value), "{text}");
        }
        assert!(milli("x").is_err() && milli("1Q").is_err() && milli("").is_err());
    }

    #[test]
    fn a_pod_tells_its_fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web", "labels": { "app": "web", "tier": "a b" } },
            "spec": { "containers": [{ "name": "main", "resources": { "limits": { "memory": "64Mi", "cpu": "1500m" } } }] },
        }))
        .unwrap();
        let facts = Facts { pod: &pod, address: None, host: Ipv4Addr::LOCALHOST, node: "n" };
        let field = |path: &str| facts.field(&ObjectFieldSelector { field_path: path.to_owned(), api_version: None });
        assert_eq!(field("metadata.labels['app']").unwrap(), "web");
        assert_eq!(field("metadata.labels").unwrap(), "app=\"web\"\ntier=\"a b\"");
        assert!(field("spec.containers").is_err());
        let main = &pod.spec.as_ref().unwrap().containers[0];
        let resource = |name: &str, divisor: Option<&str>| {
            let selector = json!({ "resource": name, "divisor": divisor });
            facts.resource(&serde_json::from_value(selector).unwrap(), main).unwrap()
        };
        assert_eq!(resource("limits.cpu", None), "2");
        assert_eq!(resource("limits.memory", Some("1Mi")), "64");
        assert_eq!(resource("requests.cpu", None), "0");
    }
}
