//! A container's environment, and the expansion of `$(NAME)`.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVar, Secret, Service};
use kube::api::{Api, ListParams};

use super::field::Facts;

/// Why a container's environment cannot be made, in kubelet's words.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvironmentError {
    #[error("{kind} {name:?} not found")]
    NotFound { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("{0}")]
    Field(String),
    #[error("{0}")]
    Api(#[from] kube::Error),
}

/// Where an environment takes its values from.
pub(super) struct Sources<'a> {
    pub(super) client: kube::Client,
    pub(super) namespace: &'a str,
    pub(super) facts: Facts<'a>,
}

type Environment = BTreeMap<String, String>;

impl Sources<'_> {
    /// The environment that the pod's spec asks for, on top of `base`.
    pub(super) async fn build(
        &self,
        container: &Container,
        base: Environment,
    ) -> Result<Environment, EnvironmentError> {
        let mut environment = base;
        for source in container.env_from.iter().flatten() {
            self.add_all(source, &mut environment).await?;
        }
        for variable in container.env.iter().flatten() {
            if let Some(value) = self.value(variable, container, &environment).await? {
                environment.insert(variable.name.clone(), value);
            }
        }
        Ok(environment)
    }

    async fn add_all(&self, source: &EnvFromSource, environment: &mut Environment) -> Result<(), EnvironmentError> {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let mut add = |name: &str, value: String| {
            environment.insert(format!("{prefix}{name}"), value);
        };
        if let Some(reference) = &source.config_map_ref {
            match self.config_map(&reference.name).await? {
                Some(map) => map.data.into_iter().flatten().for_each(|(name, value)| add(&name, value)),
                None if reference.optional == Some(true) => {}
                None => return Err(missing("configmap", &reference.name)),
            }
        }
        if let Some(reference) = &source.secret_ref {
            match self.secret(&reference.name).await? {
                Some(secret) => secret.data.into_iter().flatten().for_each(|(name, value)| add(&name, text(&value))),
                None if reference.optional == Some(true) => {}
                None => return Err(missing("secret", &reference.name)),
            }
        }
        Ok(())
    }

    /// The value of one variable; `None` when it is optional and absent.
    async fn value(
        &self,
        variable: &EnvVar,
        container: &Container,
        so_far: &Environment,
    ) -> Result<Option<String>, EnvironmentError> {
        let Some(from) = &variable.value_from else {
            return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), so_far)));
        };
        if let Some(field) = &from.field_ref {
            return self.facts.field(field).map(Some).map_err(EnvironmentError::Field);
        }
        if let Some(resource) = &from.resource_field_ref {
            return self.facts.resource(resource, container).map(Some).map_err(EnvironmentError::Field);
        }
        let (kind, name, key, optional, found) = if let Some(r) = &from.config_map_key_ref {
            let found = self.config_map(&r.name).await?.map(|map| map.data.unwrap_or_default());
            ("ConfigMap", &r.name, &r.key, r.optional, found)
        } else if let Some(r) = &from.secret_key_ref {
            let decode = |secret: Secret| {
                let data = secret.data.unwrap_or_default();
                data.into_iter().map(|(key, value)| (key, text(&value))).collect()
            };
            ("Secret", &r.name, &r.key, r.optional, self.secret(&r.name).await?.map(decode))
        } else {
            return Ok(Some(String::new()));
        };
        let optional = optional == Some(true);
        match found {
            None if optional => Ok(None),
            None => Err(missing(if kind == "Secret" { "secret" } else { "configmap" }, name)),
            Some(data) => match data.get(key) {
                Some(value) => Ok(Some(value.clone())),
                None if optional => Ok(None),
                None => {
                    let (namespace, name) = (self.namespace.to_owned(), name.clone());
                    Err(EnvironmentError::NoKey { kind, namespace, name, key: key.clone() })
                }
            },
        }
    }

    async fn config_map(&self, name: &str) -> Result<Option<ConfigMap>, kube::Error> {
        Api::<ConfigMap>::namespaced(self.client.clone(), self.namespace).get_opt(name).await
    }

    async fn secret(&self, name: &str) -> Result<Option<Secret>, kube::Error> {
        Api::<Secret>::namespaced(self.client.clone(), self.namespace).get_opt(name).await
    }

    /// The variables that tell a container about the services of its namespace, and always about the API server.
    pub(super) async fn services(&self, all: bool) -> Result<Environment, kube::Error> {
        let mut services = if all {
            Api::<Service>::namespaced(self.client.clone(), self.namespace).list(&ListParams::default()).await?.items
        } else {
            Vec::new()
        };
        if !all || self.namespace != "default" {
            services.extend(Api::<Service>::namespaced(self.client.clone(), "default").get_opt("kubernetes").await?);
        }
        Ok(services.iter().flat_map(service_variables).collect())
    }
}

fn missing(kind: &'static str, name: &str) -> EnvironmentError {
    EnvironmentError::NotFound { kind, name: name.to_owned() }
}

/// Environment variables are text; what is not is shown with replacement characters.
fn text(bytes: &ByteString) -> String {
    String::from_utf8_lossy(&bytes.0).into_owned()
}

/// `X_SERVICE_HOST` and its like, as Docker links had them.
fn service_variables(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(address) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else {
        return Vec::new();
    };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return Vec::new() };
    let prefix = upper(service.metadata.name.as_deref().unwrap_or_default());
    let mut variables = vec![
        (format!("{prefix}_SERVICE_HOST"), address.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    let protocol = |p: Option<&String>| p.map_or("TCP", String::as_str).to_owned();
    let url = |p: &k8s_openapi::api::core::v1::ServicePort| {
        format!("{}://{address}:{}", protocol(p.protocol.as_ref()).to_lowercase(), p.port)
    };
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.push((format!("{prefix}_SERVICE_PORT_{}", upper(name)), port.port.to_string()));
        }
    }
    variables.push((format!("{prefix}_PORT"), url(first)));
    for port in ports {
        let protocol = protocol(port.protocol.as_ref());
        let base = format!("{prefix}_PORT_{}_{protocol}", port.port);
        variables.extend([
            (base.clone(), url(port)),
            (format!("{base}_PROTO"), protocol.to_lowercase()),
            (format!("{base}_PORT"), port.port.to_string()),
            (format!("{base}_ADDR"), address.to_owned()),
        ]);
    }
    variables
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}

/// Replaces `$(NAME)` by its value; unknown names stay, and `$$` stands for `$`.
pub(super) fn expand(text: &str, environment: &Environment) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, tail) = rest.split_at(dollar);
        result.push_str(before);
        let after = tail.strip_prefix('$').unwrap_or_default();
        if let Some(more) = after.strip_prefix('$') {
            result.push('$');
            rest = more;
        } else if let Some((name, more)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match environment.get(name) {
                Some(value) => result.push_str(value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = more;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let environment = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), String::new())]);
        for (text, expected) in [
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)$(C)", "$(C)"),
            ("$$(A) $$", "$(A) $"),
            ("$A $ $(A", "$A $ $(A"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, &environment), expected, "{text}");
        }
    }

    #[test]
    fn services_are_told_in_variables() {
        let service = json!({
            "metadata": { "name": "my-web" },
            "spec": { "clusterIP": "10.97.0.5", "ports": [{ "name": "http-x", "port": 80 }] },
        });
        let variables: Environment = service_variables(&serde_json::from_value(service).unwrap()).into_iter().collect();
        assert_eq!(variables["MY_WEB_SERVICE_HOST"], "10.97.0.5");
        assert_eq!(variables["MY_WEB_SERVICE_PORT_HTTP_X"], "80");
        assert_eq!(variables["MY_WEB_PORT_80_TCP"], "tcp://10.97.0.5:80");
        let headless =
            json!({ "metadata": { "name": "h" }, "spec": { "clusterIP": "None", "ports": [{ "port": 1 }] } });
        assert!(service_variables(&serde_json::from_value(headless).unwrap()).is_empty());
    }
}
