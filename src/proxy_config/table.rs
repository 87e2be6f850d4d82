//! The tables of istioctl.

use api::istio::ClusterName;
use serde_json::Value;

use super::Part;
use super::dump::{Dump, array, text};

/// What is wanted of a part.
pub(super) struct Filter {
    pub(super) port: Option<u16>,
    pub(super) fqdn: Option<String>,
    pub(super) subset: Option<String>,
    pub(super) direction: Option<String>,
    pub(super) name: Option<String>,
}

impl Filter {
    /// Whether a resource is wanted.
    pub(super) fn keeps(&self, part: Part, value: &Value) -> bool {
        let Filter { port, fqdn, subset, direction, name } = self;
        let own = match part {
            Part::Endpoints => text(&value["cluster_name"]),
            _ => text(&value["name"]),
        };
        let target = Target::of(own);
        let same = |wanted: &Option<String>, own: &str| wanted.as_deref().is_none_or(|wanted| wanted == own);
        let on_port = match part {
            Part::Listeners => port.is_none_or(|port| address(&value["address"]).1 == port.to_string()),
            Part::Routes => port.is_none_or(|port| own == port.to_string() || own.ends_with(&format!(":{port}"))),
            Part::Clusters | Part::Endpoints => port.is_none_or(|port| target.port == port.to_string()),
            Part::Secrets | Part::Bootstrap | Part::All => true,
        };
        on_port
            && same(fqdn, &target.host)
            && same(subset, &target.subset)
            && same(direction, &target.direction)
            && same(name, own)
    }
}

/// The rows of a resource.
type Rows = fn(&Value) -> Vec<Vec<String>>;

type Table = (&'static [&'static str], Vec<Vec<String>>);

/// The table of a part, by its first columns.
pub(super) fn of(dump: &Dump, part: Part, filter: &Filter) -> Table {
    let (headers, row): (&'static [&'static str], Rows) = match part {
        Part::Listeners => (&["ADDRESSES", "PORT", "MATCH", "DESTINATION"], listener),
        Part::Routes => (&["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"], route),
        Part::Endpoints => (&["ENDPOINT", "STATUS", "CLUSTER"], endpoint),
        Part::Secrets => (&["RESOURCE NAME", "TYPE", "STATUS"], secret),
        Part::Clusters | Part::Bootstrap | Part::All => {
            (&["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"], cluster)
        }
    };
    let mut rows: Vec<Vec<String>> =
        dump.of(part).into_iter().filter(|value| filter.keeps(part, value)).flat_map(row).collect();
    // The order of a proxy's chains and routes has a meaning.
    if !matches!(part, Part::Listeners | Part::Routes) {
        rows.sort();
    }
    (headers, rows)
}

/// What the name of a cluster says.
struct Target {
    direction: String,
    port: String,
    subset: String,
    host: String,
}

impl Target {
    fn of(name: &str) -> Target {
        match name.parse::<ClusterName>() {
            Ok(_) => {
                let mut parts = name.splitn(4, '|').map(str::to_owned);
                let mut next = || parts.next().unwrap_or_default();
                Target { direction: next(), port: next(), subset: next(), host: next() }
            }
            Err(_) => Target {
                direction: "-".to_owned(),
                port: "-".to_owned(),
                subset: "-".to_owned(),
                host: name.to_owned(),
            },
        }
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn cluster(value: &Value) -> Vec<Vec<String>> {
    let Target { direction, port, subset, host } = Target::of(text(&value["name"]));
    let kind = [&value["type"], &value["cluster_type"]["name"]].into_iter().map(text).find(|kind| !kind.is_empty());
    // Envoy leaves out what is the default.
    let kind = kind.unwrap_or("STATIC").to_owned();
    vec![vec![
        or_dash(&host),
        port,
        or_dash(&subset),
        direction,
        kind,
        configured_by(&value["metadata"], "destination-rule"),
    ]]
}

/// `NAME.NAMESPACE` of the object that a resource comes from, as the control plane notes it.
fn configured_by(metadata: &Value, kind: &str) -> String {
    let config = text(&metadata["filter_metadata"]["istio"]["config"]);
    let parts: Vec<&str> = config.rsplit('/').take(4).collect();
    match parts.as_slice() {
        [name, own, namespace, "namespaces"] if *own == kind => format!("{name}.{namespace}"),
        _ => String::new(),
    }
}

/// Address and port.
fn address(value: &Value) -> (String, String) {
    let socket = &value["socket_address"];
    (text(&socket["address"]).to_owned(), socket["port_value"].as_u64().unwrap_or_default().to_string())
}

fn listener(value: &Value) -> Vec<Vec<String>> {
    let (ip, port) = address(&value["address"]);
    let default = std::iter::once(&value["default_filter_chain"]).filter(|chain| chain.is_object());
    let chains = array(&value["filter_chains"]).iter().chain(default);
    chains
        .map(|chain| vec![ip.clone(), port.clone(), conditions(&chain["filter_chain_match"]), destination(chain)])
        .collect()
}

/// What a chain is chosen by.
fn conditions(matched: &Value) -> String {
    let listed = |field: &str| array(&matched[field]).iter().map(text).collect::<Vec<_>>().join(",");
    let ranges = array(&matched["prefix_ranges"]).iter().map(|range| {
        format!("{}/{}", text(&range["address_prefix"]), range["prefix_len"].as_u64().unwrap_or_default())
    });
    let port = matched["destination_port"].as_u64().map(|port| port.to_string()).unwrap_or_default();
    let parts = [
        ("Trans", text(&matched["transport_protocol"]).to_owned()),
        ("App", listed("application_protocols")),
        ("SNI", listed("server_names")),
        ("Addr", ranges.collect::<Vec<_>>().join(",")),
        ("Port", port),
    ];
    let said: Vec<String> =
        parts.into_iter().filter(|(_, said)| !said.is_empty()).map(|(name, said)| format!("{name}: {said}")).collect();
    if said.is_empty() { "ALL".to_owned() } else { said.join("; ") }
}

/// Where a chain leads.
fn destination(chain: &Value) -> String {
    let configs = array(&chain["filters"]).iter().map(|filter| &filter["typed_config"]);
    for config in configs {
        if config["rds"].is_object() {
            return format!("Route: {}", text(&config["rds"]["route_config_name"]));
        }
        if config["route_config"].is_object() {
            let hosts = array(&config["route_config"]["virtual_hosts"]).iter().flat_map(|host| array(&host["routes"]));
            return format!("Inline Route: {}", hosts.map(|route| path(&route["match"])).collect::<Vec<_>>().join(","));
        }
        if let Some(name) = config["cluster"].as_str() {
            return if name.contains('|') { format!("Cluster: {name}") } else { name.to_owned() };
        }
        let weighted = array(&config["weighted_clusters"]["clusters"]);
        if !weighted.is_empty() {
            return format!("Cluster: {}", weighted.iter().map(|w| text(&w["name"])).collect::<Vec<_>>().join(","));
        }
    }
    "-".to_owned()
}

fn route(value: &Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for host in array(&value["virtual_hosts"]) {
        let domains: Vec<&str> = array(&host["domains"]).iter().map(text).collect();
        for route in array(&host["routes"]) {
            let answered = route["direct_response"]["status"].as_u64();
            let by = configured_by(&route["metadata"], "virtual-service");
            rows.push(vec![
                text(&value["name"]).to_owned(),
                text(&host["name"]).to_owned(),
                shortened(&domains),
                path(&route["match"]),
                answered.map_or(by, |status| status.to_string()),
            ]);
        }
    }
    rows
}

/// The shortest of a host's names, and how many more there are.
fn shortened(domains: &[&str]) -> String {
    let shortest = domains.iter().min_by_key(|domain| (domain.len(), **domain)).copied().unwrap_or_default();
    match domains.len() {
        0 | 1 => shortest.to_owned(),
        more => format!("{shortest}, + {} more...", more - 1),
    }
}

/// `/x*` for a prefix, `/x` for a path, `~x` for an expression.
fn path(matched: &Value) -> String {
    let prefixed = ["prefix", "path_separated_prefix"].into_iter().find_map(|field| matched[field].as_str());
    if let Some(prefix) = prefixed {
        return format!("{prefix}*");
    }
    let exact = matched["path"].as_str().map(str::to_owned);
    exact.unwrap_or_else(|| format!("~{}", text(&matched["safe_regex"]["regex"])))
}

fn endpoint(value: &Value) -> Vec<Vec<String>> {
    let localities = array(&value["endpoints"]).iter().flat_map(|locality| array(&locality["lb_endpoints"]));
    let row = |endpoint: &Value| {
        let (ip, port) = address(&endpoint["endpoint"]["address"]);
        let status = match text(&endpoint["health_status"]) {
            // Envoy leaves out what is the default, and takes both for healthy.
            "" | "UNKNOWN" => "HEALTHY",
            status => status,
        };
        vec![format!("{ip}:{port}"), status.to_owned(), text(&value["cluster_name"]).to_owned()]
    };
    localities.map(row).collect()
}

fn secret(value: &Value) -> Vec<Vec<String>> {
    let kind = match &value["secret"] {
        secret if secret["tls_certificate"].is_object() => "Cert Chain",
        secret if secret["validation_context"].is_object() => "CA",
        _ => "-",
    };
    vec![vec![text(&value["name"]).to_owned(), kind.to_owned(), "ACTIVE".to_owned()]]
}
