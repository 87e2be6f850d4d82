//! What the agent is told by its environment: the variables that injection writes.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use pki::SpiffeId;
use serde_json::{Map, Value};

use crate::application::Application;
use crate::{AgentError, Role};

/// How long connections have to end after SIGTERM, if nobody says.
const DRAIN: Duration = Duration::from_secs(5);
/// How many threads carry a sidecar's connections, if nobody says, as in Istio.
const WORKERS: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");

/// What the agent is told.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) role: Role,
    pub(crate) pod: Pod,
    pub(crate) id: SpiffeId,
    /// Host and port of the control plane.
    pub(crate) control_plane: String,
    /// How long certificates are to be valid, if it is not for the CA to say.
    pub(crate) lifetime: Option<Duration>,
    /// How long connections have to end after SIGTERM.
    pub(crate) drain: Duration,
    pub(crate) workers: NonZeroUsize,
    pub(crate) data_plane: DataPlane,
    pub(crate) application: Application,
    /// What the control plane is told about this proxy.
    pub(crate) metadata: Map<String, Value>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// The pod that the agent is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) ip: String,
}

/// Which proxy it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DataPlane {
    Native,
    Envoy(PathBuf),
}

impl Settings {
    /// Reads environment variables, and the downward API's file of the pod's labels. `concurrency` comes from the
    /// command line.
    pub(crate) fn read(
        role: Role,
        environment: &BTreeMap<String, String>,
        labels: &str,
        concurrency: Option<usize>,
    ) -> Result<Settings, AgentError> {
        let given = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let required = |name: &'static str| given(name).cloned().ok_or(AgentError::Missing(name));
        let config = given("PROXY_CONFIG").map_or(Ok(Value::Null), |text| serde_json::from_str(text));
        let config: Value = config.map_err(|e| AgentError::wrong("PROXY_CONFIG", e))?;
        let pod =
            Pod { name: required("POD_NAME")?, namespace: required("POD_NAMESPACE")?, ip: required("INSTANCE_IP")? };
        let trust_domain = given("TRUST_DOMAIN").map_or("cluster.local", String::as_str);
        let id = SpiffeId::new(trust_domain, &pod.namespace, &required("SERVICE_ACCOUNT")?)
            .map_err(|e| AgentError::wrong("SERVICE_ACCOUNT", e))?;
        let lifetime = given("SECRET_TTL").map(|text| duration(text).ok_or((text, "SECRET_TTL"))).transpose();
        let drain = config["terminationDrainDuration"].as_str();
        let drain = drain.map(|text| duration(text).ok_or((text, "terminationDrainDuration"))).transpose();
        let unread = |(text, name): (&str, &'static str)| {
            AgentError::wrong(name, format!("{text:?} is no duration; write it like 24h0m0s or 90s"))
        };
        let labels = parse_labels(labels);
        Ok(Settings {
            lifetime: lifetime.map_err(|(text, name)| unread((text, name)))?,
            drain: drain.map_err(unread)?.unwrap_or(DRAIN),
            workers: workers(role, concurrency, &config["concurrency"]),
            role,
            control_plane: given("CA_ADDR").cloned().unwrap_or_else(|| "istiod.istio-system.svc:15012".to_owned()),
            data_plane: data_plane(environment)?,
            application: Application::read(given("ISTIO_KUBE_APP_PROBERS").map(String::as_str), &pod.ip)?,
            metadata: metadata(environment, &pod, &id, &config, &labels),
            pod,
            id,
            labels,
        })
    }

    /// The name under which the control plane knows this proxy.
    pub(crate) fn node_id(&self) -> String {
        let Pod { name, namespace, ip } = &self.pod;
        let role = match self.role {
            Role::Sidecar => "sidecar",
            Role::Router => "router",
        };
        format!("{role}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local")
    }

    /// What the proxy belongs to, for those who look at it.
    pub(crate) fn node_cluster(&self) -> String {
        let label = |name: &str| self.labels.get(name).map(String::as_str);
        let workload = self.metadata.get("WORKLOAD_NAME").and_then(Value::as_str);
        let name = label("app").or_else(|| label("service.istio.io/canonical-name")).or(workload);
        format!("{}.{}", name.unwrap_or("istio-proxy"), self.pod.namespace)
    }
}

/// 0 is a thread for each core, which a gateway, whose pod is its own, has if nobody says.
fn workers(role: Role, concurrency: Option<usize>, config: &Value) -> NonZeroUsize {
    let configured = config.as_u64().and_then(|n| usize::try_from(n).ok());
    let usual = (role == Role::Router).then_some(0);
    match concurrency.or(configured).or(usual) {
        None => WORKERS,
        Some(wanted) => {
            let cores = std::thread::available_parallelism().unwrap_or(WORKERS);
            NonZeroUsize::new(wanted).unwrap_or(cores)
        }
    }
}

fn data_plane(environment: &BTreeMap<String, String>) -> Result<DataPlane, AgentError> {
    match environment.get("ISTHMUS_DATA_PLANE").map(String::as_str) {
        None | Some("" | "native") => Ok(DataPlane::Native),
        Some("envoy") => {
            let program = environment.get("ISTHMUS_ENVOY").filter(|path| !path.is_empty());
            Ok(DataPlane::Envoy(program.map_or_else(|| PathBuf::from("envoy"), PathBuf::from)))
        }
        Some(other) => {
            Err(AgentError::wrong("ISTHMUS_DATA_PLANE", format!("{other:?} is no data plane; native and envoy are")))
        }
    }
}

/// As Istio's agent tells it: `ISTIO_META_X` is X, `ISTIO_METAJSON_X` is X in JSON.
fn metadata(
    environment: &BTreeMap<String, String>,
    pod: &Pod,
    id: &SpiffeId,
    config: &Value,
    labels: &BTreeMap<String, String>,
) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, text) in environment {
        if let Some(name) = name.strip_prefix("ISTIO_METAJSON_") {
            all.insert(name.to_owned(), serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()));
        } else if let Some(name) = name.strip_prefix("ISTIO_META_") {
            all.insert(name.to_owned(), text.as_str().into());
        }
    }
    let own = [
        ("NAME", Value::from(pod.name.as_str())),
        ("NAMESPACE", pod.namespace.as_str().into()),
        ("INSTANCE_IPS", pod.ip.as_str().into()),
        ("SERVICE_ACCOUNT", id.service_account().into()),
        (
            "LABELS",
            labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect::<Map<_, _>>().into(),
        ),
        ("PROXY_CONFIG", config.clone()),
    ];
    all.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
    all
}

/// The downward API's lines: a name, and a value in quotes.
fn parse_labels(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.filter_map(|(name, value)| Some((name.to_owned(), serde_json::from_str(value).ok()?))).collect()
}

/// A duration as Go writes it: `1h2m3.5s`, `300ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(total).ok().filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let usual = [
            ("POD_NAME", "sleep-0"),
            ("POD_NAMESPACE", "foo"),
            ("INSTANCE_IP", "10.33.0.5"),
            ("SERVICE_ACCOUNT", "sleep"),
            ("TRUST_DOMAIN", "td.example"),
        ];
        usual.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn read(more: &[(&str, &str)]) -> Result<Settings, String> {
        let labels = "app=\"sleep\"\nnote=\"a \\\"b\\\"\"";
        Settings::read(Role::Sidecar, &environment(more), labels, None).map_err(|e| e.to_string())
    }

    #[test]
    fn the_environment_says_who_the_proxy_is() {
        let settings = read(&[("ISTIO_META_CLUSTER_ID", "c1"), ("ISTIO_METAJSON_A", "[1]")]).unwrap();
        assert_eq!(settings.id.to_string(), "spiffe://td.example/ns/foo/sa/sleep");
        assert_eq!(settings.node_id(), "sidecar~10.33.0.5~sleep-0.foo~foo.svc.cluster.local");
        let gateway = Settings { role: Role::Router, ..settings.clone() };
        assert_eq!(gateway.node_id(), "router~10.33.0.5~sleep-0.foo~foo.svc.cluster.local");
        assert_eq!(settings.node_cluster(), "sleep.foo");
        assert_eq!(settings.metadata["CLUSTER_ID"], "c1");
        assert_eq!(settings.metadata["A"], serde_json::json!([1]));
        assert_eq!(settings.metadata["LABELS"]["note"], "a \"b\"");
        assert_eq!((settings.drain, settings.lifetime), (DRAIN, None));
        assert_eq!(settings.data_plane, DataPlane::Native);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let mut without = environment(&[]);
        without.remove("POD_NAME");
        let error = Settings::read(Role::Sidecar, &without, "", None).err().unwrap().to_string();
        assert_eq!(error, "the environment variable POD_NAME is not set");
        assert!(read(&[("SECRET_TTL", "soon")]).err().unwrap().starts_with("SECRET_TTL: \"soon\" is no duration"));
        assert!(read(&[("PROXY_CONFIG", "{")]).err().unwrap().starts_with("PROXY_CONFIG: "));
        assert!(read(&[("ISTHMUS_DATA_PLANE", "nginx")]).err().unwrap().contains("native and envoy are"));
        assert!(read(&[("SERVICE_ACCOUNT", "a/b")]).err().unwrap().starts_with("SERVICE_ACCOUNT: "));
    }

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(duration("24h0m0s"), Some(Duration::from_secs(86_400)));
        assert_eq!(duration("1m1.5s"), Some(Duration::from_millis(61_500)));
        assert_eq!(duration("300ms"), Some(Duration::from_millis(300)));
        for wrong in ["", "5", "s", "1d", "-1s", "0s", "1..s"] {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_command_line_says_how_many_workers_before_the_configuration_does() {
        let config = &[("PROXY_CONFIG", r#"{"concurrency": 3, "terminationDrainDuration": "10s"}"#)];
        let read = |role, more, concurrency| Settings::read(role, &environment(more), "", concurrency).unwrap();
        let settings = read(Role::Sidecar, config, Some(1));
        assert_eq!((settings.workers.get(), settings.drain.as_secs()), (1, 10));
        assert_eq!(read(Role::Sidecar, config, None).workers.get(), 3);
        assert_eq!(read(Role::Sidecar, &[], None).workers, WORKERS);
        let cores = std::thread::available_parallelism().unwrap();
        assert_eq!(read(Role::Router, &[], None).workers, cores);
        assert_eq!(read(Role::Router, config, None).workers.get(), 3);
    }
}
