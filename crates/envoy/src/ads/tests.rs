use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::*;
use crate::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use crate::google::rpc::Status;

fn resource(type_url: TypeUrl, name: &str, version: u64) -> Arc<Resource> {
    Arc::new(Resource::new(type_url, name, &version.to_string(), format!("{name}@{version}").as_bytes()))
}

fn snapshot(content: &[(TypeUrl, &str, u64)]) -> Snapshot {
    let mut types: BTreeMap<TypeUrl, Resources> = BTreeMap::new();
    for (type_url, name, version) in content {
        types.entry(*type_url).or_default().insert((*name).into(), resource(*type_url, name, *version));
    }
    let mut snapshot = Snapshot::default();
    for (type_url, resources) in types {
        snapshot.add(type_url, Arc::new(resources));
    }
    snapshot
}

fn decode(response: &DeltaResponse) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse::decode(whole(response.clone().encode()).as_slice()).unwrap()
}

/// All pieces of a message, of which it is as long as it says.
fn whole(encoding: Encoding) -> Vec<u8> {
    let length = encoding.length();
    let bytes: Vec<u8> = encoding.flatten().collect();
    assert_eq!(bytes.len(), length);
    bytes
}

fn subscribe(type_url: TypeUrl, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.as_str().to_owned(),
        resource_names_subscribe: names.iter().map(|n| (*n).to_owned()).collect(),
        ..Default::default()
    }
}

fn names(response: &DeltaResponse) -> Vec<&str> {
    response.resources.iter().map(|r| &*r.name).collect()
}

#[test]
fn a_response_encodes_as_the_generated_message_does() {
    let mut server = DeltaServer::default();
    server.hear(&subscribe(TypeUrl::Cluster, &[]));
    let sent = server.push(&snapshot(&[(TypeUrl::Cluster, "a", 1)]));
    let decoded = decode(&sent[0]);
    assert_eq!(decoded.type_url, TypeUrl::Cluster.as_str());
    assert_eq!(decoded.resources[0].name, "a");
    assert_eq!(decoded.resources[0].version, "1");
    assert_eq!(decoded.resources[0].resource.as_ref().unwrap().value, b"a@1");
    assert_eq!(decoded.nonce, sent[0].nonce);
}

#[test]
fn a_long_response_comes_in_pieces() {
    let names: Vec<String> = (0..3000).map(|n| format!("cluster-{n:04}")).collect();
    let content: Vec<_> = names.iter().map(|name| (TypeUrl::Cluster, name.as_str(), 1)).collect();
    let mut server = DeltaServer::default();
    server.hear(&subscribe(TypeUrl::Cluster, &[]));
    let sent = server.push(&snapshot(&content)).remove(0);
    assert!(sent.clone().encode().count() > 2);
    assert_eq!(decode(&sent).resources.iter().map(|r| &r.name).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
}

#[test]
fn an_empty_first_answer_is_sent_once() {
    let mut server = DeltaServer::default();
    assert_eq!(server.hear(&subscribe(TypeUrl::Listener, &[])), Heard::Subscribed(TypeUrl::Listener));
    assert_eq!(server.push(&Snapshot::default()).len(), 1);
    assert_eq!(server.push(&Snapshot::default()), []);
}

#[test]
fn a_name_that_does_not_exist_is_answered_as_removed() {
    let mut server = DeltaServer::default();
    server.hear(&subscribe(TypeUrl::Route, &["r"]));
    let sent = server.push(&Snapshot::default());
    assert_eq!(sent[0].removed, ["r".into()]);
    assert_eq!(server.push(&Snapshot::default()), []);
    assert_eq!(names(&server.push(&snapshot(&[(TypeUrl::Route, "r", 1)]))[0]), ["r"]);
}

#[test]
fn only_differences_are_sent() {
    let mut server = DeltaServer::default();
    server.hear(&subscribe(TypeUrl::Cluster, &[]));
    let sent = server.push(&snapshot(&[(TypeUrl::Cluster, "a", 1), (TypeUrl::Cluster, "b", 1)]));
    acknowledge(&mut server, &sent);
    let sent = server.push(&snapshot(&[(TypeUrl::Cluster, "a", 1), (TypeUrl::Cluster, "c", 1)]));
    assert_eq!((names(&sent[0]), sent[0].removed.len()), (vec!["c"], 0));
    acknowledge(&mut server, &sent);
    let sent = server.push(&snapshot(&[(TypeUrl::Cluster, "a", 1), (TypeUrl::Cluster, "c", 1)]));
    assert_eq!(sent[0].removed, ["b".into()]);
}

/// The client takes everything that it was sent.
fn acknowledge(server: &mut DeltaServer, sent: &[DeltaResponse]) {
    for response in sent {
        let mut answer = subscribe(response.type_url, &[]);
        answer.response_nonce = response.nonce.clone();
        assert_eq!(server.hear(&answer), Heard::Acknowledged(response.type_url));
    }
}

fn types(sent: &[DeltaResponse]) -> Vec<TypeUrl> {
    sent.iter().map(|r| r.type_url).collect()
}

#[test]
fn what_refers_waits_for_what_it_refers_to_which_goes_last() {
    let mut server = DeltaServer::default();
    server.hear(&subscribe(TypeUrl::Cluster, &[]));
    server.hear(&subscribe(TypeUrl::Endpoint, &["old"]));
    server.hear(&subscribe(TypeUrl::Listener, &[]));
    server.hear(&subscribe(TypeUrl::Route, &["r"]));
    let world = |cluster, version| {
        snapshot(&[
            (TypeUrl::Cluster, cluster, 1),
            (TypeUrl::Endpoint, cluster, 1),
            (TypeUrl::Listener, "l", 1),
            (TypeUrl::Route, "r", version),
        ])
    };
    let sent = server.push(&world("old", 1));
    assert_eq!(types(&sent), [TypeUrl::Cluster, TypeUrl::Endpoint]);
    assert!(server.holds_back());
    acknowledge(&mut server, &sent);
    let sent = server.push(&world("old", 1));
    assert_eq!(types(&sent), [TypeUrl::Listener, TypeUrl::Route]);
    acknowledge(&mut server, &sent);
    assert_eq!(server.push(&world("old", 1)), []);
    assert!(!server.holds_back());

    // A route to another cluster waits for it and for its endpoints, and the old cluster waits for the route.
    let next = world("new", 2);
    let sent = server.push(&next);
    assert_eq!((types(&sent), sent[0].removed.len()), (vec![TypeUrl::Cluster], 0));
    server.hear(&subscribe(TypeUrl::Endpoint, &["new"]));
    let endpoints = server.push(&next);
    assert_eq!((types(&endpoints), names(&endpoints[0])), (vec![TypeUrl::Endpoint], vec!["new"]));
    acknowledge(&mut server, &[&sent[..], &endpoints[..]].concat());
    let sent = server.push(&next);
    assert_eq!(types(&sent), [TypeUrl::Route]);
    assert!(server.holds_back());
    assert_eq!(server.push(&next), []);
    acknowledge(&mut server, &sent);
    let sent = server.push(&next);
    assert_eq!(types(&sent), [TypeUrl::Cluster, TypeUrl::Endpoint]);
    assert_eq!([&sent[0].removed, &sent[1].removed], [&vec!["old".into()]; 2]);
}

#[test]
fn a_refusal_holds_nothing_back() {
    let mut server = DeltaServer::default();
    server.hear(&subscribe(TypeUrl::Cluster, &[]));
    server.hear(&subscribe(TypeUrl::Listener, &[]));
    let content = snapshot(&[(TypeUrl::Cluster, "c", 1), (TypeUrl::Listener, "l", 1)]);
    let sent = server.push(&content);
    let mut answer = subscribe(TypeUrl::Cluster, &[]);
    answer.response_nonce = sent[0].nonce.clone();
    answer.error_detail = Some(Status { message: "no".to_owned(), ..Default::default() });
    server.hear(&answer);
    assert_eq!(types(&server.push(&content)), [TypeUrl::Listener]);
}

#[test]
fn what_was_not_asked_for_comes_when_everything_is() {
    let mut server = DeltaServer::default();
    let content = snapshot(&[(TypeUrl::Cluster, "a", 1), (TypeUrl::Cluster, "b", 1)]);
    server.hear(&subscribe(TypeUrl::Cluster, &["a"]));
    assert_eq!(names(&server.push(&content)[0]), ["a"]);
    server.hear(&subscribe(TypeUrl::Cluster, &["*"]));
    assert_eq!(names(&server.push(&content)[0]), ["b"]);
    assert_eq!(server.push(&content), []);
}

#[test]
fn parts_that_others_share_count_as_one() {
    let part =
        |name: &str, version| Arc::new(Resources::from([(name.into(), resource(TypeUrl::Cluster, name, version))]));
    let of = |parts: [&Arc<Resources>; 2]| {
        let mut snapshot = Snapshot::default();
        parts.into_iter().for_each(|part| snapshot.add(TypeUrl::Cluster, part.clone()));
        snapshot
    };
    let (shared, own, newer) = (part("b", 1), part("a", 1), part("a", 2));
    let mut server = DeltaServer::default();
    server.hear(&subscribe(TypeUrl::Cluster, &[]));
    assert_eq!(names(&server.push(&of([&shared, &own]))[0]), ["a", "b"]);
    assert_eq!(server.push(&of([&shared, &own])), []);
    assert_eq!(names(&server.push(&of([&shared, &newer]))[0]), ["a"]);
}

#[test]
fn endpoints_follow_a_changed_cluster_in_the_same_push() {
    let mut server = DeltaServer::default();
    server.hear(&subscribe(TypeUrl::Cluster, &[]));
    server.hear(&subscribe(TypeUrl::Endpoint, &["a", "b"]));
    let endpoints = [(TypeUrl::Endpoint, "a", 1), (TypeUrl::Endpoint, "b", 1)];
    let old = [&[(TypeUrl::Cluster, "a", 1), (TypeUrl::Cluster, "b", 1)][..], &endpoints].concat();
    server.push(&snapshot(&old));
    let new = [&[(TypeUrl::Cluster, "a", 2), (TypeUrl::Cluster, "b", 1)][..], &endpoints].concat();
    let sent = server.push(&snapshot(&new));
    assert_eq!(
        sent.iter().map(|r| (r.type_url, names(r))).collect::<Vec<_>>(),
        [(TypeUrl::Cluster, vec!["a"]), (TypeUrl::Endpoint, vec!["a"]),]
    );
}

#[test]
fn a_rejection_is_heard_with_its_reason_and_not_sent_again() {
    let mut server = DeltaServer::default();
    server.hear(&subscribe(TypeUrl::Listener, &[]));
    let content = snapshot(&[(TypeUrl::Listener, "l", 1)]);
    let sent = server.push(&content);
    let mut answer = subscribe(TypeUrl::Listener, &[]);
    answer.response_nonce = sent[0].nonce.clone();
    answer.error_detail = Some(Status { message: "no such filter".to_owned(), ..Default::default() });
    assert_eq!(server.hear(&answer), Heard::Rejected(TypeUrl::Listener, "no such filter".to_owned()));
    assert_eq!(server.push(&content), []);
    assert_eq!(server.hear(&answer), Heard::Stale(TypeUrl::Listener));
}

#[test]
fn a_type_that_is_not_served_is_told() {
    let request = DeltaDiscoveryRequest { type_url: "type.googleapis.com/x.Y".to_owned(), ..Default::default() };
    assert_eq!(DeltaServer::default().hear(&request), Heard::Unknown("type.googleapis.com/x.Y".to_owned()));
}

fn world(type_url: TypeUrl, names: &[&str], version: &str, nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: type_url.as_str().to_owned(),
        resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
        version_info: version.to_owned(),
        response_nonce: nonce.to_owned(),
        ..Default::default()
    }
}

#[test]
fn the_world_is_sent_whole_and_only_when_it_changes() {
    let mut server = StateOfTheWorldServer::default();
    server.hear(&world(TypeUrl::Cluster, &[], "", ""));
    let one = snapshot(&[(TypeUrl::Cluster, "a", 1), (TypeUrl::Cluster, "b", 1)]);
    let sent = server.push(&one);
    assert_eq!(sent[0].resources.len(), 2);
    let bytes = whole(sent[0].clone().encode());
    assert_eq!(DiscoveryResponse::decode(bytes.as_slice()).unwrap().resources[1].value, b"b@1");
    let heard = server.hear(&world(TypeUrl::Cluster, &[], &sent[0].version, &sent[0].nonce));
    assert_eq!(heard, Heard::Acknowledged(TypeUrl::Cluster));
    assert_eq!(server.push(&one), []);
    assert_eq!(server.push(&snapshot(&[(TypeUrl::Cluster, "a", 1)]))[0].resources.len(), 1);
}

#[test]
fn in_the_world_too_what_is_gone_goes_last() {
    let mut server = StateOfTheWorldServer::default();
    server.hear(&world(TypeUrl::Cluster, &[], "", ""));
    server.hear(&world(TypeUrl::Listener, &[], "", ""));
    let take = |server: &mut StateOfTheWorldServer, content: &Snapshot| {
        let sent = server.push(content);
        for response in &sent {
            server.hear(&world(response.type_url, &[], &response.version, &response.nonce));
        }
        sent.iter().map(|r| (r.type_url, r.resources.len())).collect::<Vec<_>>()
    };
    let old = snapshot(&[(TypeUrl::Cluster, "a", 1), (TypeUrl::Listener, "l", 1)]);
    assert_eq!(take(&mut server, &old), [(TypeUrl::Cluster, 1)]);
    assert_eq!(take(&mut server, &old), [(TypeUrl::Listener, 1)]);
    let new = snapshot(&[(TypeUrl::Cluster, "b", 1), (TypeUrl::Listener, "l", 2)]);
    assert_eq!(take(&mut server, &new), [(TypeUrl::Cluster, 2)], "the old one stays");
    assert_eq!(take(&mut server, &new), [(TypeUrl::Listener, 1)]);
    assert_eq!(take(&mut server, &new), [(TypeUrl::Cluster, 1)]);
    assert_eq!(take(&mut server, &new), []);
}

#[test]
fn a_changed_cluster_brings_all_endpoints_of_the_world() {
    let mut server = StateOfTheWorldServer::default();
    server.hear(&world(TypeUrl::Cluster, &[], "", ""));
    server.hear(&world(TypeUrl::Endpoint, &["a"], "", ""));
    server.push(&snapshot(&[(TypeUrl::Cluster, "a", 1), (TypeUrl::Endpoint, "a", 1)]));
    let sent = server.push(&snapshot(&[(TypeUrl::Cluster, "a", 2), (TypeUrl::Endpoint, "a", 1)]));
    assert_eq!(sent.iter().map(|r| r.type_url).collect::<Vec<_>>(), [TypeUrl::Cluster, TypeUrl::Endpoint]);
}

#[test]
fn an_old_version_with_the_current_nonce_accepts_nothing() {
    let mut server = StateOfTheWorldServer::default();
    server.hear(&world(TypeUrl::Listener, &[], "", ""));
    let first = server.push(&snapshot(&[(TypeUrl::Listener, "l", 1)]));
    server.hear(&world(TypeUrl::Listener, &[], &first[0].version, &first[0].nonce));
    let second = server.push(&snapshot(&[(TypeUrl::Listener, "l", 2)]));
    let heard = server.hear(&world(TypeUrl::Listener, &[], &first[0].version, &second[0].nonce));
    assert_eq!(heard, Heard::Stale(TypeUrl::Listener));
}

/// A small generator of pseudo-random numbers, so that a failing run can be repeated.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What a client has applied.
type Applied = BTreeMap<(TypeUrl, String), Vec<u8>>;

fn exchange(server: &mut DeltaServer, client: &mut Client, snapshot: &Snapshot, applied: &mut Applied) {
    loop {
        let sent = server.push(snapshot);
        if sent.is_empty() {
            return;
        }
        for response in sent {
            let offer = client.receive(decode(&response)).unwrap();
            for resource in &offer.resources {
                let message = resource.message.as_ref().unwrap().value.clone();
                applied.insert((offer.type_url, resource.name.clone()), message);
            }
            for name in &offer.removed {
                applied.remove(&(offer.type_url, name.clone()));
            }
            server.hear(&client.answer(offer, &BTreeMap::new()));
        }
        let clusters = applied.keys().filter(|(t, _)| *t == TypeUrl::Cluster).map(|(_, n)| n.clone());
        let wanted: BTreeSet<String> = clusters.collect();
        applied.retain(|(t, n), _| *t != TypeUrl::Endpoint || wanted.contains(n));
        if let Some(request) = client.want(TypeUrl::Endpoint, wanted) {
            server.hear(&request);
        }
    }
}

#[test]
fn a_client_converges_through_changes_and_reconnections() {
    let mut random = Seeded(7);
    for _ in 0..200 {
        let (mut client, mut applied) = (Client::new(Default::default()), Applied::new());
        let mut server = DeltaServer::default();
        client.open().iter().for_each(|r| drop(server.hear(r)));
        for _ in 0..20 {
            if random.below(4) == 0 {
                server = DeltaServer::default();
                client.open().iter().for_each(|r| drop(server.hear(r)));
            }
            let mut content = Vec::new();
            for name in ["a", "b", "c", "d"] {
                if random.below(3) > 0 {
                    content.push((TypeUrl::Cluster, name, random.below(3)));
                    content.push((TypeUrl::Endpoint, name, random.below(3)));
                }
                if random.below(2) > 0 {
                    content.push((TypeUrl::Listener, name, random.below(3)));
                }
            }
            exchange(&mut server, &mut client, &snapshot(&content), &mut applied);
            let expected: Applied =
                content.iter().map(|(t, n, v)| ((*t, (*n).to_owned()), format!("{n}@{v}").into_bytes())).collect();
            assert_eq!(applied, expected);
        }
    }
}
