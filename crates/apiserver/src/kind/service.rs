//! Services and where they lead to.

use api::GroupVersion;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use serde_json::Value;

use super::cell::{self, NONE, list_at, number_at, or, text, text_at, wide};
use super::{Kind, builtin};

pub(super) fn kinds() -> Vec<Kind> {
    let service = builtin::stored::<core::Service>("service", &["svc"])
        .in_all()
        .with_status()
        .with_subresource("proxy", GroupVersion::parse("v1"), "ServiceProxyOptions", &["create", "get"])
        .with_fields(&["spec.clusterIP", "spec.type"])
        .with_columns(
            vec![
                text("Type", "How the service is exposed."),
                text("Cluster-IP", "The service's address within the cluster."),
                text("External-IP", "The service's addresses outside the cluster."),
                text("Port(s)", "The service's ports, with their node ports."),
                cell::age_column(),
                wide("Selector", "The labels of the pods behind the service."),
            ],
            service_row,
        );
    let endpoints = builtin::stored::<core::Endpoints>("endpoints", &["ep"])
        .with_columns(vec![text("Endpoints", "The ready addresses and ports."), cell::age_column()], |o, now| {
            vec![endpoints(o).into(), cell::age(o, now)]
        });
    let slices = builtin::stored::<discovery::EndpointSlice>("endpointslice", &[]).with_columns(
        vec![
            text("AddressType", "What the endpoints' addresses are."),
            text("Ports", "The ports of every endpoint."),
            text("Endpoints", "The addresses."),
            cell::age_column(),
        ],
        slice_row,
    );
    let deprecated = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned();
    vec![service, Kind { deprecation: Some(deprecated), ..endpoints }, slices]
}

fn service_row(service: &Value, now: i64) -> Vec<Value> {
    let cluster_ip = or(text_at(service, "/spec/clusterIPs/0"), text_at(service, "/spec/clusterIP"));
    let ports: Vec<String> = list_at(service, "/spec/ports").iter().map(port).collect();
    vec![
        text_at(service, "/spec/type").into(),
        or(cluster_ip, NONE).into(),
        external(service).into(),
        or(&ports.join(","), NONE).into(),
        cell::age(service, now),
        cell::labels(service.pointer("/spec/selector")).into(),
    ]
}

fn port(port: &Value) -> String {
    let (number, protocol) = (number_at(port, "/port"), text_at(port, "/protocol"));
    match number_at(port, "/nodePort") {
        0 => format!("{number}/{protocol}"),
        node_port => format!("{number}:{node_port}/{protocol}"),
    }
}

fn external(service: &Value) -> String {
    let own = list_at(service, "/spec/externalIPs").iter().filter_map(|ip| ip.as_str().map(str::to_owned));
    let mut addresses: Vec<String> = own.collect();
    match text_at(service, "/spec/type") {
        "ExternalName" => return text_at(service, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = list_at(service, "/status/loadBalancer/ingress").iter();
            let mut given: Vec<String> =
                ingress.map(|i| or(text_at(i, "/ip"), text_at(i, "/hostname")).to_owned()).collect();
            given.sort();
            given.dedup();
            addresses.extend(given.into_iter().filter(|a| !a.is_empty()));
            if addresses.is_empty() {
                return "<pending>".to_owned();
            }
        }
        _ => {}
    }
    or(&addresses.join(","), NONE).to_owned()
}

fn endpoints(object: &Value) -> String {
    let subsets = list_at(object, "/subsets");
    if subsets.is_empty() {
        return NONE.to_owned();
    }
    let mut entries = Vec::new();
    for subset in subsets {
        let addresses = list_at(subset, "/addresses");
        let ports = list_at(subset, "/ports");
        if ports.is_empty() {
            entries.extend(addresses.iter().map(|a| text_at(a, "/ip").to_owned()));
        }
        for port in ports {
            entries.extend(addresses.iter().map(|a| host_port(text_at(a, "/ip"), number_at(port, "/port"))));
        }
    }
    cell::first_three(&entries)
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn slice_row(slice: &Value, now: i64) -> Vec<Value> {
    let ports: Vec<String> = list_at(slice, "/ports")
        .iter()
        .map(|p| p["port"].as_i64().map_or_else(|| "*".to_owned(), |port| port.to_string()))
        .collect();
    let addresses: Vec<String> = list_at(slice, "/endpoints")
        .iter()
        .flat_map(|e| list_at(e, "/addresses"))
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    let shown = |list: &[String]| or(&cell::first_three(list), "<unset>").to_owned();
    vec![text_at(slice, "/addressType").into(), shown(&ports).into(), shown(&addresses).into(), cell::age(slice, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_load_balancer_is_pending_until_it_has_an_address() {
        let mut service = json!({
            "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.9", "ports": [
                {"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"},
            ]},
        });
        let cells = service_row(&service, 0);
        assert_eq!(cells[2], "<pending>");
        assert_eq!(cells[3], "80:30080/TCP,53/UDP");
        service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.18.1.2"}]}});
        assert_eq!(service_row(&service, 0)[2], "198.18.1.2");
    }

    #[test]
    fn at_most_three_endpoints_are_shown() {
        let addresses: Vec<Value> = (1..6).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
        let object = json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]});
        assert_eq!(endpoints(&object), "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...");
    }
}
