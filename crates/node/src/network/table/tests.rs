use std::slice::from_ref;

use api::{AddressPlan, ClusterIndex};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;

fn place() -> Place {
    Place { plan: AddressPlan { slot: 0 }, index: ClusterIndex::try_from(1).unwrap() }
}

/// What the objects ask for, all of the namespace `default`; a slice belongs to the service `echo`.
fn table_of(services: &[Value], slices: &[Value]) -> Table {
    let mut objects = Objects::default();
    objects.take_service(Event::Init);
    objects.take_slice(Event::Init);
    for service in services {
        objects.take_service(Event::InitApply(serde_json::from_value(service.clone()).unwrap()));
    }
    for (n, slice) in slices.iter().enumerate() {
        let mut slice = slice.clone();
        slice["metadata"] = json!({"name": format!("echo-{n}"), "namespace": "default",
                                   "labels": {"kubernetes.io/service-name": "echo"}});
        objects.take_slice(Event::InitApply(serde_json::from_value(slice).unwrap()));
    }
    objects.take_service(Event::InitDone);
    objects.take_slice(Event::InitDone);
    assert!(objects.are_complete());
    table(&objects, place())
}

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "echo", "namespace": "default"}, "spec": spec})
}

fn slice(ports: Value, endpoints: Value) -> Value {
    json!({"addressType": "IPv4", "ports": ports, "endpoints": endpoints})
}

fn one_port() -> Value {
    json!([{"name": "", "port": 9000, "protocol": "TCP"}])
}

fn endpoints_of(table: &Table) -> Vec<String> {
    table.backends.values().flat_map(|backend| &backend.endpoints).map(ToString::to_string).collect()
}

#[test]
fn a_port_goes_to_the_slices_port_of_the_same_name_and_protocol() {
    let ports =
        json!([{"name": "http", "port": 80, "targetPort": "web"}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let slice_ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"},
                             {"name": "dns", "port": 5353, "protocol": "UDP"},
                             {"name": "other", "port": 1, "protocol": "TCP"}]);
    let table = table_of(
        &[service(json!({"clusterIP": "10.97.0.9", "ports": ports}))],
        &[slice(slice_ports, json!([{"addresses": ["10.33.0.5"]}]))],
    );
    let at = |protocol, port| Frontend { address: "10.97.0.9".parse().unwrap(), protocol, port };
    let http = &table.backends[&table.frontends[&at(Protocol::Tcp, 80)].backend];
    let dns = &table.backends[&table.frontends[&at(Protocol::Udp, 53)].backend];
    assert_eq!(http.endpoints, ["10.33.0.5:8080".parse().unwrap()]);
    assert_eq!(dns.endpoints, ["10.33.0.5:5353".parse().unwrap()]);
    assert_eq!(table.frontends.len(), 2);
}

#[test]
fn endpoints_that_terminate_serve_only_when_none_is_ready() {
    let echo = service(json!({"clusterIP": "10.97.0.9", "ports": [{"port": 80}]}));
    let ready = json!({"addresses": ["10.33.0.5"], "conditions": {"ready": true}});
    let ending =
        json!({"addresses": ["10.33.0.6"], "conditions": {"ready": false, "serving": true, "terminating": true}});
    let failing = json!({"addresses": ["10.33.0.7"], "conditions": {"ready": false, "serving": false}});
    let both = table_of(from_ref(&echo), &[slice(one_port(), json!([ready, ending, failing]))]);
    assert_eq!(endpoints_of(&both), ["10.33.0.5:9000"]);
    let last = table_of(from_ref(&echo), &[slice(one_port(), json!([ending, failing]))]);
    assert_eq!(endpoints_of(&last), ["10.33.0.6:9000"]);
    let none = table_of(&[echo], &[slice(one_port(), json!([failing]))]);
    assert!(none.backends.is_empty() && none.frontends.is_empty());
}

#[test]
fn unready_endpoints_are_published_on_request() {
    let spec = json!({"clusterIP": "10.97.0.9", "ports": [{"port": 80}], "publishNotReadyAddresses": true});
    let failing = json!([{"addresses": ["10.33.0.7"], "conditions": {"ready": false}}]);
    assert_eq!(endpoints_of(&table_of(&[service(spec)], &[slice(one_port(), failing)])), ["10.33.0.7:9000"]);
}

#[test]
fn endpoints_of_several_slices_are_joined_in_order_without_doubles() {
    let echo = service(json!({"clusterIP": "10.97.0.9", "ports": [{"port": 80}]}));
    let of = |ip: &str| slice(one_port(), json!([{"addresses": [ip]}]));
    let table = table_of(&[echo], &[of("10.33.0.7"), of("198.18.2.2"), of("10.33.0.5"), of("10.33.0.7")]);
    assert_eq!(endpoints_of(&table), ["10.33.0.5:9000", "10.33.0.7:9000", "198.18.2.2:9000"]);
}

#[test]
fn a_load_balancer_answers_at_every_address_and_only_its_own_range_is_taken() {
    let mut echo = service(json!({
        "type": "LoadBalancer", "clusterIP": "10.97.0.9", "externalIPs": ["192.0.2.7"],
        "ports": [{"port": 80, "nodePort": 30080}],
    }));
    echo["status"] =
        json!({"loadBalancer": {"ingress": [{"ip": "198.18.1.2"}, {"ip": "10.0.0.1"}, {"hostname": "x"}]}});
    let table = table_of(&[echo], &[slice(one_port(), json!([{"addresses": ["10.33.0.5"]}]))]);
    let at: Vec<String> = table.frontends.keys().map(|f| format!("{}:{}", f.address, f.port)).collect();
    assert_eq!(at, ["10.97.0.9:80", "192.0.2.7:80", "198.18.1.1:30080", "198.18.1.2:80"]);
    assert_eq!(table.load_balancers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["198.18.1.2"]);
    let offered: Vec<String> = table.offers.iter().map(|o| format!("{} {}:{}", o.service, o.address, o.port)).collect();
    assert_eq!(offered, ["default/echo 198.18.1.1:30080", "default/echo 198.18.1.2:80"]);
}

#[test]
fn headless_and_external_names_ask_for_nothing() {
    let endpoints = slice(one_port(), json!([{"addresses": ["10.33.0.5"]}]));
    let headless = service(json!({"clusterIP": "None", "ports": [{"port": 80}]}));
    assert_eq!(table_of(&[headless], from_ref(&endpoints)), Table::default());
    let external = service(json!({"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 80}]}));
    assert_eq!(table_of(&[external], &[endpoints]), Table::default());
}

#[test]
fn nonsense_in_objects_is_passed_over() {
    let ports = json!([{"port": 0}, {"port": 70000}, {"port": -1}, {"port": 80, "protocol": "SCTP"}, {"port": 81, "nodePort": 99999}]);
    let slice_ports = json!([{"port": 0}, {"port": 70000}, {"port": 9000}, {}]);
    let endpoints =
        json!([{"addresses": ["::1"]}, {"addresses": []}, {"addresses": ["no"]}, {"addresses": ["10.33.0.5"]}]);
    let table = table_of(
        &[service(json!({"clusterIP": "10.97.0.9", "clusterIPs": ["10.97.0.9", "fd00::1"], "ports": ports}))],
        &[slice(slice_ports, endpoints)],
    );
    let at: Vec<u16> = table.frontends.keys().map(|frontend| frontend.port).collect();
    assert_eq!(at, [81]);
    assert_eq!(endpoints_of(&table), ["10.33.0.5:9000"]);
}

#[test]
fn source_ranges_guard_the_load_balancer_alone() {
    let mut echo = service(json!({
        "type": "LoadBalancer", "clusterIP": "10.97.0.9", "ports": [{"port": 80, "nodePort": 30080}],
        "loadBalancerSourceRanges": ["198.18.2.0/24", " 198.18.3.1/32 "],
    }));
    echo["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.18.1.2"}]}});
    let table = table_of(&[echo], &[slice(one_port(), json!([{"addresses": ["10.33.0.5"]}]))]);
    let guarded: Vec<_> = table.frontends.iter().filter(|(_, way)| way.guarded).map(|(at, _)| at.address).collect();
    assert_eq!(guarded, [Ipv4Addr::new(198, 18, 1, 2)]);
    assert_eq!(table.frontends.len(), 3);
    assert!(table.backends.values().all(|backend| backend.sources.as_ref().is_some_and(|sources| sources.len() == 2)));
}
