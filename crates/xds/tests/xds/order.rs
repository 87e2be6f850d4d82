//! Equal objects in any order give equal bytes.

use api::NamespacedName;
use prost::Message;
use serde_json::{Value, json};
use xds::{Changes, Mesh, Node, Objects, Outdated, Resources};

use crate::world::{BASE, cases, documents, node, objects, text_of};

fn bytes(resources: &Resources) -> Vec<Vec<u8>> {
    let listeners = resources.listeners.values().map(Message::encode_to_vec);
    let clusters = resources.clusters.values().map(Message::encode_to_vec);
    let endpoints = resources.endpoints.values().map(Message::encode_to_vec);
    let routes = resources.routes.values().map(Message::encode_to_vec);
    let diagnostics = resources.diagnostics.iter().map(|d| d.to_string().into_bytes());
    listeners.chain(clusters).chain(endpoints).chain(routes).chain(diagnostics).collect()
}

/// A small generator of numbers (xorshift), so that a failure happens again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }
}

/// The cases in one world.
fn everything() -> Vec<Value> {
    let inputs = cases().into_iter().map(|folder| std::fs::read_to_string(folder.join("in.yaml")).unwrap());
    let mut all = documents(BASE);
    for (i, mut document) in inputs.flat_map(|input| documents(&input)).enumerate() {
        // The cases share names; here all are together.
        let name = format!("{}-{i}", document["metadata"]["name"].as_str().unwrap());
        if document["kind"] != "ConfigMap" {
            document["metadata"]["name"] = name.into();
        }
        all.push(document);
    }
    all
}

#[test]
fn the_order_of_objects_changes_no_byte() {
    let mut all = everything();
    let mesh = Mesh::new(&objects(&all));
    let expected = bytes(&xds::build(&mesh, &node("sleep")));
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    for _ in 0..100 {
        for i in (1..all.len()).rev() {
            all.swap(i, numbers.below(i + 1));
        }
        let other = Mesh::new(&objects(&all));
        assert_eq!(other.diagnostics(), mesh.diagnostics());
        assert_eq!(bytes(&xds::build(&other, &node("sleep"))), expected);
    }
}

/// A document as it may be after an edit that touches what others depend on.
fn edited(document: &Value, numbers: &mut Numbers) -> Value {
    let mut document = document.clone();
    match document["kind"].as_str().unwrap() {
        "EndpointSlice" => document["endpoints"] = json!([{"addresses": [format!("10.9.8.{}", numbers.below(9))]}]),
        "PeerAuthentication" => document["spec"]["mtls"]["mode"] = ["DISABLE", "STRICT"][numbers.below(2)].into(),
        "VirtualService" => document["spec"]["exportTo"] = vec![[".", "*"][numbers.below(2)]].into(),
        "Gateway" => document["spec"]["servers"][0]["hosts"] = vec![["*", "a.shop.example"][numbers.below(2)]].into(),
        "Pod" => document["metadata"]["labels"]["edited"] = numbers.below(2).to_string().into(),
        "AuthorizationPolicy" => document["spec"]["action"] = ["DENY", "ALLOW"][numbers.below(2)].into(),
        _ => document["metadata"]["labels"]["edited"] = numbers.below(3).to_string().into(),
    }
    document
}

/// What a node had, brought up to date as [`Changes`] says.
fn updated(held: &Resources, old: &Mesh, new: &Mesh, node: &Node) -> Resources {
    let changes = Changes::between(old, new);
    let class = new.outbound_class(node);
    let mut next = match changes.outbound(&class) {
        _ if class != old.outbound_class(node) => return xds::build(new, node),
        Outdated::Everything => return xds::build(new, node),
        Outdated::Nothing => held.clone(),
        Outdated::Parts { clusters, tables } => {
            let made = xds::clusters_of(new, &class, &clusters);
            let mut next = held.clone();
            next.clusters.extend(made.clusters);
            next.endpoints.extend(made.endpoints);
            next.routes.extend(xds::tables(new, &class, Some(&tables)).into_iter().map(|(name, t)| (name, t.routes)));
            next
        }
    };
    if changes.inbound(node) || old.inbound_class(node) != new.inbound_class(node) {
        let inbound = xds::inbound(new, node);
        next.clusters.retain(|name, _| !name.starts_with("inbound|"));
        next.clusters.extend(inbound.clusters);
        next.listeners.extend(inbound.listeners);
    }
    next
}

#[test]
fn what_is_brought_up_to_date_is_what_is_built_anew() {
    assert_up_to_date(&everything(), &[node("sleep"), node("tcp-echo")]);
}

#[test]
fn so_it_is_of_gateways() {
    for (case, pod) in [("gateway_edge", "edge"), ("gateway_between", "between"), ("gateway_tcp_ingress", "ingress")] {
        let all = [documents(BASE), documents(&text_of(case))].concat();
        let router = Mesh::new(&objects(&all)).node(&NamespacedName::new("gates", pod)).unwrap();
        assert_up_to_date(&all, &[router]);
    }
}

/// Edits objects one by one, and compares what nodes are told then with what they would be told by a mesh that is new.
fn assert_up_to_date(all: &[Value], nodes: &[Node]) {
    let decoded = |document: &Value| objects(std::slice::from_ref(document));
    let mut numbers = Numbers(0x0DDB_1A5E_5BAD_5EED);
    let mut present: Vec<Option<Objects>> = all.iter().map(|d| Some(decoded(d))).collect();
    let together = |present: &[Option<Objects>]| {
        let mut together = Objects::default();
        for part in present.iter().flatten() {
            together.extend(part);
            if part.mesh_config != Objects::default().mesh_config {
                together.mesh_config = part.mesh_config.clone();
            }
        }
        together
    };
    let mut mesh = Mesh::new(&together(&present));
    let mut held: Vec<Resources> = nodes.iter().map(|node| xds::build(&mesh, node)).collect();
    for _ in 0..300 {
        let i = numbers.below(all.len());
        present[i] = match numbers.below(3) {
            0 => None,
            1 => Some(decoded(&all[i])),
            _ => Some(decoded(&edited(&all[i], &mut numbers))),
        };
        let next = mesh.after(&together(&present));
        let fresh = Mesh::new(&together(&present));
        assert_eq!(next.diagnostics(), fresh.diagnostics());
        for (node, held) in nodes.iter().zip(&mut held) {
            *held = updated(held, &mesh, &next, node);
            let expected = xds::build(&fresh, node);
            let part = |r: &Resources| (r.listeners.clone(), r.routes.clone(), r.clusters.clone(), r.endpoints.clone());
            assert!(part(held) == part(&expected), "{} after an edit of {}", node.name, all[i]);
        }
        mesh = next;
    }
}
