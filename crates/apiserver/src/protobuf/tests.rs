use serde_json::json;

use super::table::MessageId;
use super::*;

/// Bodies that kubectl 1.32 sent, each with the command and the JSON that `--dry-run=client -o json` prints for it
/// (less its nulls): three lines apiece.
const KUBECTL: &str = include_str!("kubectl.txt");

fn bodies() -> Vec<(&'static str, Vec<u8>, Value)> {
    let lines: Vec<&str> = KUBECTL.lines().collect();
    let bodies = lines.chunks(3).map(|c| (c[0], hex(c[1]), serde_json::from_str(c[2]).unwrap()));
    bodies.collect()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push((n as u8) | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

/// A length-delimited field.
fn bytes(number: u64, payload: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(payload.len() as u64), payload.to_vec()].concat()
}

fn int(number: u64, value: i64) -> Vec<u8> {
    [varint(number << 3), varint(value.cast_unsigned())].concat()
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), bytes(1, &type_meta), bytes(2, raw), bytes(3, b""), bytes(4, b"")].concat()
}

#[test]
fn what_kubectl_sends_decodes_to_what_it_prints() {
    assert!(bodies().len() > 20);
    for (command, body, expected) in bodies() {
        assert_eq!(decode(&body).unwrap(), expected, "{command}");
    }
}

#[test]
fn special_types_become_their_json_forms() {
    let time = [int(1, 1_700_000_000), int(2, 123_456_789)].concat();
    let lease = bytes(2, &[bytes(1, b"node"), int(2, 40), bytes(4, &time), int(5, -1)].concat());
    assert_eq!(
        decode(&body("coordination.k8s.io/v1", "Lease", &lease)).unwrap()["spec"],
        json!({ "holderIdentity": "node", "leaseDurationSeconds": 40, "renewTime": "2023-11-14T22:13:20.123456Z",
                "leaseTransitions": -1 })
    );
    let managed = [bytes(1, b"m"), bytes(4, &time), bytes(7, &bytes(1, br#"{"f:data":{}}"#))].concat();
    let metadata = [bytes(8, b""), bytes(9, &time), bytes(17, &managed)].concat();
    assert_eq!(
        decode(&body("v1", "ConfigMap", &bytes(1, &metadata))).unwrap()["metadata"],
        json!({ "deletionTimestamp": "2023-11-14T22:13:20Z", "managedFields": [
            { "manager": "m", "time": "2023-11-14T22:13:20Z", "fieldsV1": { "f:data": {} } }] })
    );
    let extra = bytes(4, &[bytes(1, b"scopes"), bytes(2, &[bytes(1, b"a"), bytes(1, b"b")].concat())].concat());
    let status = bytes(3, &[int(1, 1), bytes(2, &extra)].concat());
    assert_eq!(
        decode(&body("authentication.k8s.io/v1", "TokenReview", &status)).unwrap()["status"],
        json!({ "authenticated": true, "user": { "extra": { "scopes": ["a", "b"] } } })
    );
}

#[test]
fn zeros_are_kept_where_go_tells_them_from_nothing() {
    let spec = [int(1, 0), int(5, 0), int(7, 0)].concat();
    let deployment = decode(&body("apps/v1", "Deployment", &bytes(2, &spec))).unwrap();
    assert_eq!(deployment["spec"], json!({ "replicas": 0 }));
}

#[test]
fn fields_that_are_not_known_are_skipped_and_repeated_ones_merged() {
    let odd =
        [varint(900 << 3 | 1), vec![0; 8], varint(901 << 3 | 5), vec![0; 4], int(902, 7), bytes(903, b"x")].concat();
    let name = bytes(1, &bytes(1, b"a"));
    let namespace = bytes(1, &[odd.clone(), bytes(3, b"b")].concat());
    let decoded = decode(&body("v1", "ConfigMap", &[name, odd, namespace].concat())).unwrap();
    assert_eq!(decoded["metadata"], json!({ "name": "a", "namespace": "b" }));
    let packed = bytes(9, &bytes(4, &[varint(1), varint(2)].concat()));
    let context = bytes(2, &bytes(14, &packed[2..]));
    let pod = decode(&body("v1", "Pod", &context)).unwrap();
    assert_eq!(pod["spec"]["securityContext"]["supplementalGroups"], json!([1, 2]));
}

#[test]
fn options_of_a_deletion_come_under_any_group() {
    let options = [int(1, 0), bytes(4, b"Background")].concat();
    for version in ["v1", "apps/v1", "meta.k8s.io/v1", "isthmus.io/v1"] {
        let decoded = decode(&body(version, "DeleteOptions", &options)).unwrap();
        assert_eq!(decoded["gracePeriodSeconds"], 0);
        assert_eq!(decoded["propagationPolicy"], "Background");
    }
}

#[test]
fn a_kind_that_is_not_in_the_table_is_refused_with_a_way_out() {
    for (version, kind) in [("v1", "Container"), ("apps.example.com/v1", "Deployment"), ("v1", "Bogus"), ("", "")] {
        let error = decode(&body(version, kind, b"")).unwrap_err();
        assert_eq!(error.code, 415);
        assert!(error.message.contains("kubectl apply -f"), "{error}");
    }
}

#[test]
fn malformed_bodies_are_refused_where_they_are_wrong() {
    let refused = |raw: &[u8]| {
        let error = decode(&body("v1", "Pod", raw)).unwrap_err();
        assert_eq!(error.code, 400);
        error.message
    };
    assert!(refused(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]).ends_with("unexpected end of the message"));
    assert!(refused(&[0xff; 11]).ends_with("integer overflow"));
    assert!(refused(&[0x13]).ends_with("illegal wire type 3"));
    assert!(refused(&[0x02, 0x00]).ends_with("illegal tag 2"));
    assert!(refused(&int(1, 5)).ends_with("metadata: wrong wire type"));
    assert!(refused(&bytes(1, &bytes(1, &[0xff]))).ends_with("metadata: name: text that is not UTF-8"));
    let time = bytes(1, &bytes(9, &int(1, i64::MAX)));
    assert!(refused(&time).ends_with("metadata: deletionTimestamp: time out of range"));
    assert_eq!(decode(b"{}").unwrap_err().code, 400);
}

#[test]
fn no_message_contains_itself() {
    fn depth(table: &Table, id: MessageId, left: usize) -> usize {
        let left = left.checked_sub(1).expect("the table has a cycle");
        1 + table.parts(id).into_iter().map(|part| depth(table, part, left)).max().unwrap_or(0)
    }
    let table = Table::get();
    assert!(table.ids().all(|id| depth(table, id, 20) < 20));
}

/// Every truncation and many mutations of real bodies: an error or an object, never a panic.
#[test]
fn damaged_bodies_never_panic() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for (_, body, _) in bodies() {
        for end in 0..body.len().min(300) {
            drop(decode(&body[..end]));
        }
        for _ in 0..200 {
            let mut damaged = body.clone();
            for _ in 0..3 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let at = (seed >> 8) as usize % damaged.len();
                damaged[at] = seed as u8;
            }
            drop(decode(&damaged));
        }
    }
}
