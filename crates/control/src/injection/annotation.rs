//! What a pod's annotations say about its sidecar.

use ipnet::IpNet;
use serde_json::{Map, Value};

/// Why a pod cannot get a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {value:?} for annotation {name:?}: {why}")]
pub(crate) struct InjectionError {
    name: String,
    value: String,
    why: String,
}

/// The annotations of a pod.
pub(super) struct Annotations<'a>(pub(super) &'a Value);

impl<'a> Annotations<'a> {
    /// A value; one that is empty says nothing.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.given(name).filter(|text| !text.is_empty())
    }

    /// A value, even if it is empty.
    pub(super) fn given(&self, name: &str) -> Option<&'a str> {
        self.0[name].as_str().map(str::trim)
    }

    pub(super) fn refuse(&self, name: &str, value: &str, why: impl std::fmt::Display) -> InjectionError {
        InjectionError { name: name.to_owned(), value: value.to_owned(), why: why.to_string() }
    }

    /// The value, which must pass `check`.
    fn checked(
        &self,
        name: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Option<&'a str>, InjectionError> {
        let Some(value) = self.given(name) else { return Ok(None) };
        check(value).map_err(|why| self.refuse(name, value, why))?;
        Ok(Some(value))
    }

    /// Port numbers, separated by commas, or no port at all.
    pub(super) fn ports(&self, name: &str) -> Result<Option<&'a str>, InjectionError> {
        self.checked(name, |value| items(value).try_for_each(check_port))
    }

    /// The same, or `*` for every port.
    pub(super) fn ports_or_all(&self, name: &str) -> Result<Option<&'a str>, InjectionError> {
        self.checked(name, |value| if value == "*" { Ok(()) } else { items(value).try_for_each(check_port) })
    }

    /// CIDRs, separated by commas; `*` stands for every address if it may.
    pub(super) fn networks(&self, name: &str, all: bool) -> Result<Option<&'a str>, InjectionError> {
        self.checked(name, |value| if all && value == "*" { Ok(()) } else { items(value).try_for_each(check_network) })
    }

    /// A number of seconds or of times.
    pub(super) fn count(&self, name: &str) -> Result<Option<u32>, InjectionError> {
        let Some(value) = self.text(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| self.refuse(name, value, "it is not a number of 0 or more"))
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, InjectionError> {
        let Some(value) = self.text(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| self.refuse(name, value, "it is neither true nor false"))
    }

    /// A list of objects in JSON.
    pub(super) fn objects(&self, name: &str) -> Result<Vec<Value>, InjectionError> {
        let Some(text) = self.text(name) else { return Ok(Vec::new()) };
        let list: Vec<Value> = serde_json::from_str(text).map_err(|e| self.refuse(name, text, e))?;
        match list.iter().find(|item| !item["name"].is_string()) {
            Some(item) => Err(self.refuse(name, text, format!("{item} has no name"))),
            None => Ok(list),
        }
    }

    /// What the proxy is to start with, over what the mesh says.
    pub(super) fn proxy_config(&self) -> Result<Map<String, Value>, InjectionError> {
        const NAME: &str = "proxy.istio.io/config";
        let Some(text) = self.text(NAME) else { return Ok(Map::new()) };
        match serde_saphyr::from_str(text) {
            Ok(Value::Object(config)) => Ok(config),
            Ok(_) => Err(self.refuse(NAME, text, "it is not a map of settings in YAML")),
            Err(e) => Err(self.refuse(NAME, text, e.without_snippet())),
        }
    }
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn check_port(text: &str) -> Result<(), String> {
    match text.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(format!("{text:?} is not a port, a number of 1 to 65535")),
    }
}

fn check_network(text: &str) -> Result<(), String> {
    text.parse::<IpNet>().map(drop).map_err(|_| format!("{text:?} is not a CIDR such as 10.0.0.0/8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let annotations = json!({
            "ports": "80,x", "networks": "10.0.0.0/8,10.0.0.1", "count": "-1", "flag": "yes",
            "objects": "[{}]", "proxy.istio.io/config": "[]",
        });
        let annotations = Annotations(&annotations);
        let message = |result: Result<Option<&str>, InjectionError>| result.unwrap_err().to_string();
        assert_eq!(
            message(annotations.ports("ports")),
            r#"invalid value "80,x" for annotation "ports": "x" is not a port, a number of 1 to 65535"#
        );
        assert!(message(annotations.networks("networks", true)).contains("\"10.0.0.1\" is not a CIDR"));
        assert!(annotations.count("count").is_err() && annotations.boolean("flag").is_err());
        assert!(annotations.objects("objects").is_err() && annotations.proxy_config().is_err());
    }

    #[test]
    fn stars_stand_for_all_where_they_may() {
        let annotations = json!({"a": "*", "empty": ""});
        let annotations = Annotations(&annotations);
        assert_eq!(annotations.ports_or_all("a"), Ok(Some("*")));
        assert_eq!(annotations.ports_or_all("empty"), Ok(Some("")), "no port at all");
        assert!(annotations.ports("a").is_err() && annotations.networks("a", false).is_err());
        assert_eq!(annotations.networks("a", true), Ok(Some("*")));
        assert_eq!(annotations.ports("absent"), Ok(None));
    }
}
