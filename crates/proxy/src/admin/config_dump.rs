//! `/config_dump`: the configuration in force, and what waits to follow it.

use std::collections::BTreeMap;

use envoy::TypeUrl;
use envoy::envoy::config::bootstrap::v3::Bootstrap;
use envoy::envoy::config::cluster::v3::Cluster;
use http::StatusCode;
use jiff::Timestamp;
use prost::Message;
use prost_types::Any;
use regex::Regex;
use serde_json::{Map, Value, json};

use super::print::Printer;
use super::{Answer, Query};
use crate::proxy::State;
use crate::{Loaded, Proxy};

const TYPE: &str = "type.googleapis.com/envoy.admin.v3.";

/// Elements of one list, with the field of the dump that holds them and the name of their type.
struct List {
    field: &'static str,
    element: &'static str,
    values: Vec<Value>,
}

/// The dump of one sort of resource.
struct Section {
    name: &'static str,
    lists: Vec<List>,
}

pub(super) fn answer(proxy: &Proxy, query: &Query<'_>) -> Answer {
    let names = match query.regex("name_regex") {
        Ok(names) => names,
        Err(answer) => return answer,
    };
    if query.get("mask").is_some() {
        return Answer::error(StatusCode::BAD_REQUEST, "mask is not supported; use resource or name_regex\n");
    }
    let dump = Dump { printer: Printer::new(), state: &proxy.state(), names };
    let resource = query.get("resource").filter(|r| !r.is_empty());
    let mut sections = vec![dump.clusters(), dump.endpoints(), dump.listeners(), dump.routes(), dump.secrets()];
    if let Some(field) = resource {
        let mut lists = sections.into_iter().flat_map(|s| s.lists.into_iter().map(move |l| (s.name, l)));
        return match lists.find(|(_, list)| list.field == field) {
            Some((section, list)) => {
                let typed = list.values.into_iter().map(|v| with_type(&format!("{section}.{}", list.element), v));
                Answer::json(&json!({ "configs": typed.collect::<Vec<Value>>() }))
            }
            None => Answer::error(StatusCode::NOT_FOUND, format!("{field} not found in config dump")),
        };
    }
    if query.get("include_eds").is_none() {
        sections.retain(|s| s.name != "EndpointsConfigDump");
    }
    let mut configs = vec![bootstrap(proxy, &dump.printer)];
    configs.extend(sections.into_iter().map(|section| {
        let lists = section.lists.into_iter().filter(|l| !l.values.is_empty());
        let fields = lists.map(|l| (l.field.to_owned(), Value::Array(l.values)));
        with_type(section.name, Value::Object(fields.collect()))
    }));
    Answer::json(&json!({ "configs": configs }))
}

/// There is no bootstrap but what the proxy tells the control plane about itself.
fn bootstrap(proxy: &Proxy, printer: &Printer) -> Value {
    let bootstrap = Bootstrap { node: Some(proxy.node().clone()), ..Bootstrap::default() };
    let bootstrap = printer.message("envoy.config.bootstrap.v3.Bootstrap", &bootstrap);
    let started = time(proxy.started());
    with_type("BootstrapConfigDump", json!({"bootstrap": bootstrap, "last_updated": started}))
}

struct Dump<'a> {
    printer: Printer,
    state: &'a State,
    names: Option<Regex>,
}

impl Dump<'_> {
    fn clusters(&self) -> Section {
        let snapshot = self.state.snapshot();
        let list = |field, clusters: BTreeMap<&str, &Loaded<_>>| {
            let values = clusters.into_iter().filter(|(name, _)| self.asks(name)).map(|(name, loaded)| {
                let mut value = self.version(TypeUrl::Cluster, name, "cluster", loaded);
                self.note_refusal(TypeUrl::Cluster, name, &mut value);
                Value::Object(value)
            });
            List { field, element: "DynamicCluster", values: values.collect() }
        };
        let lists = vec![
            list("dynamic_active_clusters", snapshot.clusters()),
            list("dynamic_warming_clusters", snapshot.warming_clusters()),
        ];
        Section { name: "ClustersConfigDump", lists }
    }

    fn endpoints(&self) -> Section {
        let snapshot = self.state.snapshot();
        let eds = snapshot
            .endpoints()
            .into_iter()
            .filter(|(name, _)| self.asks(name))
            .map(|(name, loaded)| Value::Object(self.version(TypeUrl::Endpoint, name, "endpoint_config", loaded)));
        let own = snapshot.clusters().into_iter().filter(|(name, _)| self.asks(name)).filter_map(|(_, loaded)| {
            let assignment = Cluster::decode(loaded.message.value.as_slice()).ok()?.load_assignment?;
            let any = Any { type_url: TypeUrl::Endpoint.as_str().to_owned(), value: assignment.encode_to_vec() };
            Some(json!({"endpoint_config": self.printer.any(&any)}))
        });
        let values = eds.chain(own).collect();
        let list = List { field: "dynamic_endpoint_configs", element: "DynamicEndpointConfig", values };
        Section { name: "EndpointsConfigDump", lists: vec![list] }
    }

    fn listeners(&self) -> Section {
        let snapshot = self.state.snapshot();
        let mut listeners: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for (state, of) in [("active_state", snapshot.listeners()), ("warming_state", snapshot.warming_listeners())] {
            for (name, loaded) in of {
                let version = self.version(TypeUrl::Listener, name, "listener", loaded);
                listeners.entry(name).or_default().insert(state.to_owned(), Value::Object(version));
            }
        }
        for (_, name) in snapshot.rejected().keys().filter(|(type_url, _)| *type_url == TypeUrl::Listener) {
            self.note_refusal(TypeUrl::Listener, name, listeners.entry(name).or_default());
        }
        let values = listeners.into_iter().filter(|(name, _)| self.asks(name)).map(|(name, mut fields)| {
            fields.insert("name".to_owned(), name.into());
            Value::Object(fields)
        });
        let list = List { field: "dynamic_listeners", element: "DynamicListener", values: values.collect() };
        Section { name: "ListenersConfigDump", lists: vec![list] }
    }

    fn routes(&self) -> Section {
        let snapshot = self.state.snapshot();
        let mut routes: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for (name, loaded) in snapshot.routes() {
            routes.insert(name, self.version(TypeUrl::Route, name, "route_config", loaded));
        }
        for (_, name) in snapshot.rejected().keys().filter(|(type_url, _)| *type_url == TypeUrl::Route) {
            self.note_refusal(TypeUrl::Route, name, routes.entry(name).or_default());
        }
        let values = routes.into_iter().filter(|(name, _)| self.asks(name)).map(|(_, fields)| Value::Object(fields));
        let list = List { field: "dynamic_route_configs", element: "DynamicRouteConfig", values: values.collect() };
        Section { name: "RoutesConfigDump", lists: vec![list] }
    }

    fn secrets(&self) -> Section {
        let snapshot = self.state.snapshot();
        let active = snapshot.secrets().into_iter().filter(|(name, _)| self.asks(name)).map(|(name, loaded)| {
            let mut value = self.version(TypeUrl::Secret, name, "secret", loaded);
            value.insert("name".to_owned(), name.into());
            Value::Object(value)
        });
        let wanted = snapshot.wanted().secrets;
        let missing = wanted.iter().filter(|s| !snapshot.secrets().contains_key(&*s.name) && self.asks(&s.name));
        let lists = vec![
            List { field: "dynamic_active_secrets", element: "DynamicSecret", values: active.collect() },
            List {
                field: "dynamic_warming_secrets",
                element: "DynamicSecret",
                values: missing.map(|s| json!({"name": &*s.name})).collect(),
            },
        ];
        Section { name: "SecretsConfigDump", lists }
    }

    fn asks(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.is_match(name))
    }

    /// A version of a resource: the message, as `field`, and where and when it came from.
    fn version<T>(&self, type_url: TypeUrl, name: &str, field: &str, loaded: &Loaded<T>) -> Map<String, Value> {
        let mut fields = Map::from_iter([
            ("version_info".to_owned(), (*loaded.version).into()),
            (field.to_owned(), self.printer.any(&loaded.message)),
        ]);
        if let Some(at) = self.state.arrivals().at(type_url, name, &loaded.version) {
            fields.insert("last_updated".to_owned(), time(at));
        }
        fields
    }

    /// Says why a later version was refused, if one was.
    fn note_refusal(&self, type_url: TypeUrl, name: &str, fields: &mut Map<String, Value>) {
        if let Some(rejected) = self.state.snapshot().rejected().get(&(type_url, name.into())) {
            fields.insert("error_state".to_owned(), json!({"details": rejected.to_string()}));
        }
    }
}

fn with_type(name: &str, mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.insert("@type".to_owned(), format!("{TYPE}{name}").into());
    }
    value
}

/// A time as JSON has it; times that the calendar does not reach are not shown.
fn time(at: std::time::SystemTime) -> Value {
    Timestamp::try_from(at).map_or(Value::Null, |at| format!("{at:.3}").into())
}
