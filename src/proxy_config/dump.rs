//! What `/config_dump` answers, taken apart.

use anyhow::bail;
use serde_json::Value;

use super::Part;

/// A dump of a proxy's configuration.
pub(crate) struct Dump(Value);

impl Dump {
    pub(crate) fn parse(text: &str) -> anyhow::Result<Dump> {
        let value: Value = serde_json::from_str(text)?;
        if !value["configs"].is_array() {
            bail!("there is no list of configs");
        }
        Ok(Dump(value))
    }

    pub(crate) fn whole(&self) -> &Value {
        &self.0
    }

    pub(crate) fn bootstrap(&self) -> Value {
        self.section("BootstrapConfigDump").next().map(|section| section["bootstrap"].clone()).unwrap_or_default()
    }

    /// The resources of a part, those that are in force.
    pub(crate) fn of(&self, part: Part) -> Vec<&Value> {
        let (section, lists): (&str, &[(&str, &str)]) = match part {
            Part::Listeners => (
                "ListenersConfigDump",
                &[("static_listeners", "/listener"), ("dynamic_listeners", "/active_state/listener")],
            ),
            Part::Routes => (
                "RoutesConfigDump",
                &[("static_route_configs", "/route_config"), ("dynamic_route_configs", "/route_config")],
            ),
            Part::Clusters => {
                ("ClustersConfigDump", &[("static_clusters", "/cluster"), ("dynamic_active_clusters", "/cluster")])
            }
            Part::Endpoints => (
                "EndpointsConfigDump",
                &[("static_endpoint_configs", "/endpoint_config"), ("dynamic_endpoint_configs", "/endpoint_config")],
            ),
            Part::Secrets => ("SecretsConfigDump", &[("static_secrets", ""), ("dynamic_active_secrets", "")]),
            Part::Bootstrap | Part::All => return Vec::new(),
        };
        let sections: Vec<&Value> = self.section(section).collect();
        let listed = |(list, inside): &(&str, &str)| {
            let elements = sections.iter().flat_map(|section| array(&section[*list]));
            elements.filter_map(|element| element.pointer(inside)).collect::<Vec<_>>()
        };
        lists.iter().flat_map(listed).collect()
    }

    /// The resources of a part that the control plane has sent, as they are in force.
    pub(crate) fn sent(&self, part: Part) -> impl Iterator<Item = &Value> {
        let (section, list, inside) = match part {
            Part::Listeners => ("ListenersConfigDump", "dynamic_listeners", "/active_state/listener"),
            Part::Routes => ("RoutesConfigDump", "dynamic_route_configs", "/route_config"),
            Part::Endpoints => ("EndpointsConfigDump", "dynamic_endpoint_configs", "/endpoint_config"),
            Part::Secrets => ("SecretsConfigDump", "dynamic_active_secrets", "/secret"),
            Part::Clusters | Part::Bootstrap | Part::All => {
                ("ClustersConfigDump", "dynamic_active_clusters", "/cluster")
            }
        };
        let elements = self.section(section).flat_map(move |section| array(&section[list]));
        elements.filter_map(move |element| element.pointer(inside))
    }

    fn section(&self, name: &str) -> impl Iterator<Item = &Value> {
        let ends = format!(".{name}");
        array(&self.0["configs"])
            .iter()
            .filter(move |section| section["@type"].as_str().is_some_and(|own| own.ends_with(&ends)))
    }
}

/// The elements of a list; of anything else none.
pub(crate) fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text; empty if there is none.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
