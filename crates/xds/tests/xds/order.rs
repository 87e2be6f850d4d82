//! Equal objects in any order give equal bytes.

use prost::Message;
use xds::{Mesh, Resources};

use crate::world::{BASE, cases, documents, node, objects};

fn bytes(resources: &Resources) -> Vec<Vec<u8>> {
    let listeners = resources.listeners.values().map(Message::encode_to_vec);
    let clusters = resources.clusters.values().map(Message::encode_to_vec);
    let endpoints = resources.endpoints.values().map(Message::encode_to_vec);
    let diagnostics = resources.diagnostics.iter().map(|d| d.to_string().into_bytes());
    listeners.chain(clusters).chain(endpoints).chain(diagnostics).collect()
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

#[test]
fn the_order_of_objects_changes_no_byte() {
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
