use api::{AddressPlan, ClusterIndex};
use hickory_proto::op::Query;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;

fn objects() -> Objects {
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    let services = [
        service("web", json!({"clusterIP": "10.97.0.9", "ports": [{"name": "http", "port": 80}, {"port": 81}]})),
        service("db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]})),
        service("many", json!({"clusterIP": "None", "ports": []})),
        service("alias", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"})),
        service("away", json!({"type": "ExternalName", "externalName": "Example.com."})),
        service("literal", json!({"type": "ExternalName", "externalName": "198.18.2.2"})),
        service("loop", json!({"type": "ExternalName", "externalName": "loop.shop.svc.cluster.local"})),
        service("dangling", json!({"type": "ExternalName", "externalName": "no.shop.svc.cluster.local"})),
        service("pending", json!({"ports": [{"port": 80}]})),
    ];
    let slice = |service: &str, ports: Value, endpoints: Value| {
        json!({"metadata": {"name": format!("{service}-x"), "namespace": "shop",
                            "labels": {"kubernetes.io/service-name": service}},
               "addressType": "IPv4", "ports": ports, "endpoints": endpoints})
    };
    let many: Vec<Value> = (0..100).map(|n| json!({"addresses": [format!("10.33.1.{n}")]})).collect();
    let slices = [
        slice(
            "db",
            json!([{"name": "sql", "port": 5432}]),
            json!([
                {"addresses": ["10.33.0.5"], "hostname": "db-0"},
                {"addresses": ["10.33.0.6"]},
                {"addresses": ["10.33.0.7"], "conditions": {"ready": false}},
            ]),
        ),
        slice("web", json!([{"name": "http", "port": 8080}]), json!([{"addresses": ["10.33.0.8"]}])),
        slice("many", json!([]), json!(many)),
    ];
    let mut objects = Objects::default();
    for service in services {
        objects.take_service(Event::Apply(serde_json::from_value(service).unwrap()));
    }
    objects.take_slice(Event::Init);
    for slice in slices {
        objects.take_slice(Event::InitApply(serde_json::from_value(slice).unwrap()));
    }
    objects.take_slice(Event::InitDone);
    objects
}

fn names() -> Names {
    let place = Place { plan: AddressPlan { slot: 0 }, index: ClusterIndex::try_from(1).unwrap() };
    watch::channel(Some(Arc::new(Snapshot::new(&objects(), place, 7)))).1
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(parse(name).unwrap(), kind));
    message
}

fn exchange(request: &Message, transport: Transport) -> Message {
    let bytes = respond(&request.to_vec().unwrap(), &names(), transport).unwrap();
    Message::from_vec(&bytes).unwrap()
}

fn ask(name: &str, kind: RecordType) -> Message {
    exchange(&query(name, kind), Transport::Stream)
}

/// The code of an answer and what it has, as in a zone file without the owners.
fn summary(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let answer = ask(name, kind);
    let records = answer.answers.iter().map(|record| format!("{} {}", record.record_type(), record.data));
    (answer.metadata.response_code, records.collect())
}

fn answers(name: &str, kind: RecordType) -> Vec<String> {
    let (code, records) = summary(name, kind);
    assert_eq!(code, ResponseCode::NoError, "{name}");
    records
}

#[test]
fn a_service_has_its_address_and_its_ports() {
    assert_eq!(answers("web.shop.svc.cluster.local", RecordType::A), ["A 10.97.0.9"]);
    assert_eq!(answers("WEB.Shop.svc.CLUSTER.local", RecordType::A), ["A 10.97.0.9"]);
    let http = answers("_http._tcp.web.shop.svc.cluster.local", RecordType::SRV);
    assert_eq!(http, ["SRV 0 100 80 web.shop.svc.cluster.local."]);
    assert_eq!(answers("web.shop.svc.cluster.local", RecordType::SRV).len(), 2);
    let additionals = ask("_http._tcp.web.shop.svc.cluster.local", RecordType::SRV).additionals;
    assert_eq!(additionals.len(), 1);
}

#[test]
fn a_headless_service_has_its_ready_endpoints() {
    assert_eq!(answers("db.shop.svc.cluster.local", RecordType::A), ["A 10.33.0.5", "A 10.33.0.6"]);
    assert_eq!(answers("db-0.db.shop.svc.cluster.local", RecordType::A), ["A 10.33.0.5"]);
    assert_eq!(answers("10-33-0-6.db.shop.svc.cluster.local", RecordType::A), ["A 10.33.0.6"]);
    let ports = answers("_sql._tcp.db.shop.svc.cluster.local", RecordType::SRV);
    let host = "db.shop.svc.cluster.local.";
    assert_eq!(ports, [format!("SRV 0 100 5432 db-0.{host}"), format!("SRV 0 100 5432 10-33-0-6.{host}")]);
}

#[test]
fn names_without_the_kind_that_is_asked_for_exist() {
    for name in ["web.shop.svc.cluster.local", "shop.svc.cluster.local", "svc.cluster.local", "cluster.local"] {
        let answer = ask(name, RecordType::AAAA);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name}");
        assert!(answer.answers.is_empty() && answer.authorities.len() == 1 && answer.metadata.authoritative);
    }
}

#[test]
fn unknown_names_do_not_exist_and_foreign_names_are_refused() {
    for name in
        ["no.shop.svc.cluster.local", "web.no.svc.cluster.local", "x.cluster.local", "pending.shop.svc.cluster.local"]
    {
        let answer = ask(name, RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name}");
        assert_eq!(answer.authorities.len(), 1);
    }
    for name in ["example.com", "xcluster.local", "local", ".", "1.2.0.192.in-addr.arpa"] {
        assert_eq!(summary(name, RecordType::A), (ResponseCode::Refused, vec![]), "{name}");
    }
}

#[test]
fn external_names_are_followed_within_the_cluster() {
    let alias = answers("alias.shop.svc.cluster.local", RecordType::A);
    assert_eq!(alias, ["CNAME web.shop.svc.cluster.local.", "A 10.97.0.9"]);
    assert_eq!(answers("alias.shop.svc.cluster.local", RecordType::CNAME).len(), 1);
    assert_eq!(answers("away.shop.svc.cluster.local", RecordType::A), ["CNAME example.com."]);
    assert_eq!(answers("literal.shop.svc.cluster.local", RecordType::A), ["A 198.18.2.2"]);
    assert_eq!(answers("loop.shop.svc.cluster.local", RecordType::A).len(), ALIASES);
    let (code, records) = summary("dangling.shop.svc.cluster.local", RecordType::A);
    assert_eq!((code, records.len()), (ResponseCode::NXDomain, 1));
}

#[test]
fn addresses_have_names() {
    assert_eq!(answers("9.0.97.10.in-addr.arpa", RecordType::PTR), ["PTR web.shop.svc.cluster.local."]);
    assert_eq!(answers("5.0.33.10.in-addr.arpa", RecordType::PTR), ["PTR db-0.db.shop.svc.cluster.local."]);
    assert_eq!(summary("99.0.33.10.in-addr.arpa", RecordType::PTR).0, ResponseCode::NXDomain);
    assert_eq!(answers("10-33-0-5.shop.pod.cluster.local", RecordType::A), ["A 10.33.0.5"]);
    assert_eq!(summary("10-33-0.shop.pod.cluster.local", RecordType::A).0, ResponseCode::NXDomain);
}

#[test]
fn an_answer_too_long_for_a_datagram_is_truncated() {
    let mut request = query("many.shop.svc.cluster.local", RecordType::A);
    let short = exchange(&request, Transport::Datagram);
    assert!(short.metadata.truncation && short.answers.is_empty());
    assert_eq!(exchange(&request, Transport::Stream).answers.len(), 100);
    let mut edns = Edns::new();
    edns.set_max_payload(4000);
    request.set_edns(edns);
    let long = exchange(&request, Transport::Datagram);
    assert!(!long.metadata.truncation && long.answers.len() == 100 && long.edns.is_some());
}

#[test]
fn what_is_no_plain_query_is_answered_as_it_deserves() {
    let code = |message: &Message| exchange(message, Transport::Stream).metadata.response_code;
    let mut chaos = query("web.shop.svc.cluster.local", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&chaos), ResponseCode::Refused);
    let mut update = query("web.shop.svc.cluster.local", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&update), ResponseCode::NotImp);
    assert_eq!(code(&Message::new(0, MessageType::Query, OpCode::Query)), ResponseCode::FormErr);
    let mut future = query("web.shop.svc.cluster.local", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    future.set_edns(edns);
    assert_eq!(u16::from(code(&future)), u16::from(ResponseCode::BADVERS));
}

#[test]
fn hostile_packets_are_survived() {
    let good = query("web.shop.svc.cluster.local", RecordType::A).to_vec().unwrap();
    for cut in 0..good.len() {
        respond(&good[..cut], &names(), Transport::Datagram);
    }
    for at in 0..good.len() {
        for value in [0, 1, 0x3f, 0x40, 0x80, 0xc0, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            respond(&bad, &names(), Transport::Datagram);
        }
    }
    assert_eq!(respond(&[], &names(), Transport::Datagram), None);
    let mut response = good.clone();
    response[2] |= 0x80;
    assert_eq!(respond(&response, &names(), Transport::Datagram), None, "answers are not answered");
    let malformed = respond(&good[..good.len() - 1], &names(), Transport::Datagram).unwrap();
    assert_eq!(malformed[3] & 0xf, 1, "FORMERR");
}

#[test]
fn nothing_is_known_before_the_api_server_has_been_heard() {
    let names: Names = watch::channel(None).1;
    let request = query("web.shop.svc.cluster.local", RecordType::A).to_vec().unwrap();
    let bytes = respond(&request, &names, Transport::Datagram).unwrap();
    assert_eq!(Message::from_vec(&bytes).unwrap().metadata.response_code, ResponseCode::ServFail);
}
