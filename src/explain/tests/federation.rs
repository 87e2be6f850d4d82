//! Questions about a request that goes to another cluster, through the gateways of both.

use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pki::{Authority, PeerEnd};
use serde_json::{Value, json};

use super::super::explanation::{Explanation, Path, Verdict};
use super::super::path::{Question, explain};
use super::super::{question, request};
use super::{World, documents};

const PODS: &str = include_str!("federation.yaml");
const REMOTES: &str = include_str!("../../../samples/federation/c1-remotes.yaml");
const BIND: &str = include_str!("../../../samples/federation/http/c1-bind-reviews.yaml");
const SPLIT: &str = include_str!("../../../samples/federation/http/c1-split.yaml");
const EXPOSE: &str = include_str!("../../../samples/federation/http/c2-expose-reviews.yaml");
const AUTHORIZE: &str = include_str!("../../../samples/federation/http/c2-authorize-clusters.yaml");

fn secret(name: &str, items: &[(&str, &str)]) -> Value {
    let items: serde_json::Map<String, Value> =
        items.iter().map(|(key, text)| ((*key).to_owned(), BASE64_STANDARD.encode(text).into())).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "istio-private-gateways"},
        "data": items})
}

/// The certificate of a gateway as files of its pod, and whom it trusts.
fn secrets(trusted: &Authority, by: &Authority, name: &str, end: PeerEnd) -> Vec<Value> {
    let kind = if matches!(end, PeerEnd::Client) { "egress" } else { "ingress" };
    let id = format!("spiffe://{name}.example.com/istio-private-{kind}gateway");
    let own = by.issue_peer(&format!("{name}.example.com"), &id, end).unwrap();
    let key = own.key_pem.unwrap();
    vec![
        secret("own", &[("tls.crt", &own.chain_pem), ("tls.key", &key)]),
        secret("authority", &[("example.com.crt", trusted.certificate_pem())]),
    ]
}

/// What is told of a request of `sleep` for `reviews`, of which half goes to c2, when `more` is in c2 and the certificate
/// of c1's gateway, which says that it is of `claimed`, is of `signer`.
fn ask(more: &str, signer: &Authority, trusted: &Authority, claimed: &str) -> Explanation {
    let (c1, c2) = PODS.split_once("=====\n").unwrap();
    let remotes = REMOTES.replace("C2_ADDRESS", "198.18.2.2").replace("C3_ADDRESS", "198.18.3.2");
    let mut c1 = [c1, &remotes, BIND, SPLIT].map(documents).concat();
    let mut c2 = [c2, EXPOSE, more].map(documents).concat();
    c1.extend(secrets(trusted, signer, claimed, PeerEnd::Client));
    c2.extend(secrets(trusted, trusted, "c2", PeerEnd::Server));
    let world = World::new([("c1".to_owned(), c1), ("c2".to_owned(), c2)]).unwrap();
    let objects = &world.own().objects;
    let from = question::pod(objects, "default/sleep", "default").unwrap();
    let sent = request::read("GET", "http://reviews:9080/reviews/0", &[]).unwrap();
    let address = question::address(objects, &sent.host, sent.port, "default", "default").unwrap();
    let to = SocketAddr::new(address, sent.port);
    explain(&world, &Question { from, asked: sent.host, to, request: Some(sent.asked) }).unwrap()
}

fn remote(told: &Explanation) -> &Path {
    told.paths.iter().find(|path| !path.onward.is_empty()).unwrap_or_else(|| panic!("{told}"))
}

#[test]
fn a_request_is_followed_through_both_gateways_to_the_service() {
    let authority = Authority::generate("example.com").unwrap();
    let told = ask("", &authority, &authority, "c1");
    assert_eq!((told.verdict, told.paths.len()), (Verdict::Allowed, 2), "{told}");
    let egress = remote(&told);
    assert_eq!((egress.share, egress.destination.as_ref().unwrap().pod.as_str()), (50.0, "egress"));
    let rule = "DestinationRule istio-private-gateways/to-egress-for-reviews";
    assert_eq!(egress.destination_rule.as_deref(), Some(rule));
    let hop = egress.inbound.as_ref().unwrap();
    assert_eq!(hop.gateways, ["Gateway istio-private-gateways/bound-reviews"]);
    assert_eq!(
        hop.route.as_ref().unwrap().object.as_deref(),
        Some("VirtualService istio-private-gateways/bound-reviews")
    );
    assert!(hop.notes.iter().any(|note| note == "rewritten to c2.example.com/reviews/v2/reviews/0"), "{:?}", hop.notes);
    let ingress = &egress.onward[0];
    let party = ingress.destination.as_ref().unwrap();
    assert_eq!((party.pod.as_str(), party.cluster.as_deref()), ("ingress", Some("c2")));
    let certificate = ingress.tls.as_ref().unwrap().certificate.as_deref();
    assert_eq!(certificate, Some("spiffe://c1.example.com/istio-private-egressgateway"));
    assert_eq!(ingress.inbound.as_ref().unwrap().gateways, ["Gateway istio-private-gateways/exposed-http"]);
    let service = &ingress.onward[0];
    assert_eq!(service.destination.as_ref().unwrap().pod, "reviews-v2");
    assert_eq!((service.verdict, service.endpoint.as_deref()), (Verdict::Allowed, Some("10.34.0.2:9080")));
    assert_eq!(service.destination_rule.as_deref(), Some("DestinationRule bookinfo/myreviews"));
}

#[test]
fn the_boundary_says_which_rule_refuses() {
    let authority = Authority::generate("example.com").unwrap();
    // Version 3 is what c1 may use.
    let told = ask(AUTHORIZE, &authority, &authority, "c1");
    assert_eq!(told.verdict, Verdict::Divided, "{told}");
    let expected = "no rule of AuthorizationPolicy istio-private-gateways/clusters lets \
                    \"spiffe://c1.example.com/istio-private-egressgateway\" in";
    let refused = &remote(&told).onward[0];
    assert_eq!((refused.verdict, refused.reason.as_str(), refused.status), (Verdict::Denied, expected, Some(403)));
    let exposed = AUTHORIZE.replace("/reviews/v3/", "/reviews/v2/");
    let told = ask(&exposed, &authority, &authority, "c1");
    assert_eq!(told.verdict, Verdict::Allowed, "{told}");
    let admitted = &remote(&told).onward[0];
    assert_eq!(admitted.decided_by, ["AuthorizationPolicy istio-private-gateways/clusters rule 0"]);
    assert_eq!(remote(&ask(&exposed, &authority, &authority, "c4")).onward[0].verdict, Verdict::Denied);
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let [own, other] = ["example.com", "example.com"].map(|name| Authority::generate(name).unwrap());
    let told = ask("", &other, &own, "c1");
    let refused = &remote(&told).onward[0];
    assert_eq!(refused.verdict, Verdict::Refused, "{told}");
    assert!(refused.reason.contains("does not trust the authority of the certificate of"), "{}", refused.reason);
}
