//! What a gateway makes of connections and requests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proxy::inspect::Hello;
use proxy::select::{Arrival, Call, Connection, Fate, request};
use proxy::{DynamicMetadata, Snapshot};

use crate::call::{leave, outcome, snapshot};
use crate::world::{case_of, node, told_pod};

pub(crate) const EAST: &str = "spiffe://east.example/egress";
pub(crate) const SOUTH: &str = "spiffe://south.example/egress";
const OF_THE_MESH: &str = "spiffe://cluster.local/ns/foo/sa/sleep";

/// Somebody outside of a gateway.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Client {
    /// The server name; without one it speaks plaintext, and `-` is TLS without a name.
    name: &'static str,
    /// The URI of its certificate; none is no certificate.
    identity: &'static str,
    /// Its address, if it is not 198.18.9.9.
    from: &'static str,
    /// The application protocols that it offers.
    offers: &'static [&'static str],
}

/// What becomes of a connection to a port of a gateway, or of a request on it.
pub(crate) fn arrive(snapshot: &Snapshot, port: u16, client: Client, request_for: Option<&str>) -> String {
    let Client { name, identity, from, offers } = client;
    let server_name = Some(name).filter(|name| *name != "-").map(Into::into);
    let hello = Hello { server_name, application_protocols: offers.iter().map(|name| (*name).into()).collect() };
    let identities: Vec<Arc<str>> = Some(identity).filter(|id| !id.is_empty()).into_iter().map(Into::into).collect();
    let from: IpAddr = if from.is_empty() { "198.18.9.9" } else { from }.parse().unwrap();
    let address: SocketAddr = format!("10.0.1.1:{port}").parse().unwrap();
    let connection = Connection {
        arrival: Arrival::At(address),
        destination: address,
        source: SocketAddr::new(from, 40000),
        spoken: None,
        hello: (!name.is_empty()).then_some(&hello),
        identities: &identities,
        random: 0,
    };
    let (method, target) = request_for.unwrap_or("GET http://nowhere/").split_once(' ').unwrap();
    let scheme = if name.is_empty() { "http" } else { "https" };
    let head = http::Request::builder().method(method).uri(target).header("x-forwarded-proto", scheme);
    let parts = head.body(()).unwrap().into_parts().0;
    let call =
        Call { connection, parts: &parts, remote: from, metadata: &DynamicMetadata::default(), time: Duration::ZERO };
    let selection = request(snapshot, &call);
    match &selection.fate {
        Fate::NotReached => outcome(&selection.connection),
        _ if request_for.is_none() => outcome(&selection.connection),
        Fate::Answered(reply) => {
            let location = reply.location.as_deref().map(|to| format!(" {to}")).unwrap_or_default();
            format!("{} {}{location}", reply.status.as_u16(), reply.details)
        }
        Fate::Forwarded { cluster, targets, path, authority, .. } => {
            format!("{} {:?} {}{path}", cluster.name, targets[0].address, authority.as_deref().unwrap_or("-"))
        }
    }
}

fn gate(case: &str, pod: &str) -> Snapshot {
    snapshot(&told_pod(&case_of(case), "gates", pod))
}

pub(crate) fn tls(name: &'static str, identity: &'static str) -> Client {
    Client { name, identity, ..Client::default() }
}

#[test]
fn bytes_leave_by_the_name_that_the_sidecar_gives() {
    let snapshot = gate("gateway_tcp_egress", "egress");
    let of = |port, name, identity| arrive(&snapshot, port, tls(name, identity), None);
    let west = "outbound|31400||west.gates.svc.cluster.local Ip(198.18.2.9:31400)";
    assert_eq!(of(31400, "echo-west.foo.svc.cluster.local", OF_THE_MESH), west);
    let north = "outbound|31400||north.gates.svc.cluster.local Ip(198.18.3.9:31400)";
    assert_eq!(of(31400, "echo-north.foo.svc.cluster.local", OF_THE_MESH), north);
    let hello = "outbound|31401||north-2.gates.svc.cluster.local Ip(198.18.3.9:31401)";
    assert_eq!(of(31401, "hello-north.foo.svc.cluster.local", OF_THE_MESH), hello);
    assert_eq!(of(31400, "hello-north.foo.svc.cluster.local", OF_THE_MESH), "no chain");
    assert_eq!(of(31400, "-", OF_THE_MESH), "no chain");
    assert_eq!(of(31400, "echo-west.foo.svc.cluster.local", ""), "tls: the client has no certificate");
    assert_eq!(of(443, "echo-west.foo.svc.cluster.local", OF_THE_MESH), "no listener");
}

#[test]
fn each_port_is_for_one_peer() {
    let snapshot = gate("gateway_tcp_ingress", "ingress");
    let echo = "outbound|9000||tcp-echo.foo.svc.cluster.local Ip(10.0.0.2:9000)";
    let hello = "outbound|9000||hello.foo.svc.cluster.local Ip(10.0.0.9:9000)";
    for name in ["west.example", "-", "other.example"] {
        let of = |port, identity| arrive(&snapshot, port, tls(name, identity), None);
        assert_eq!(of(31400, EAST), echo);
        assert_eq!(of(31400, SOUTH), "denied by none");
        assert_eq!(of(31401, EAST), "denied by none");
        assert_eq!(of(31401, SOUTH), hello);
        assert_eq!(of(31400, OF_THE_MESH), "denied by none");
        assert_eq!(of(31400, ""), "tls: the client has no certificate");
    }
    assert_eq!(arrive(&snapshot, 31400, Client::default(), None), "no chain");
}

#[test]
fn requests_leave_by_their_host_with_another_path() {
    let snapshot = gate("gateway_http_egress", "egress");
    let of = |name, target| arrive(&snapshot, 8443, tls(name, OF_THE_MESH), Some(target));
    let west = "outbound|15443||west.gates.svc.cluster.local Ip(198.18.2.9:15443) west.example";
    let reviews = "reviews.foo.svc.cluster.local";
    assert_eq!(
        of(reviews, "GET http://reviews.foo.svc.cluster.local/reviews/0"),
        format!("{west}/shop/reviews/reviews/0")
    );
    assert_eq!(of(reviews, "GET http://ratings.foo.svc.cluster.local:443/"), format!("{west}/shop/ratings/"));
    assert_eq!(of(reviews, "GET http://other/"), "404 route_not_found");
    assert_eq!(of("other", "GET http://reviews.foo.svc.cluster.local/"), "no chain");
    assert_eq!(arrive(&snapshot, 443, tls(reviews, OF_THE_MESH), None), "no listener");
}

#[test]
fn requests_come_in_by_peer_method_and_path() {
    let snapshot = gate("gateway_http_ingress", "ingress");
    let of = |identity, target| arrive(&snapshot, 15443, tls("west.example", identity), Some(target));
    let reviews = "outbound|9080|v3|myreviews.foo.svc.cluster.local Ip(10.0.0.6:9080) \
        myreviews.foo.svc.cluster.local/reviews/0";
    let ratings = "outbound|9080|v1|ratings.foo.svc.cluster.local Ip(10.0.0.7:9080) \
        ratings.foo.svc.cluster.local/ratings/0";
    let denied = "403 rbac_access_denied_matched_policy[none]";
    assert_eq!(of(EAST, "GET http://west.example/shop/myreviews/v3/reviews/0"), reviews);
    assert_eq!(of(SOUTH, "GET http://west.example/shop/myreviews/v3/reviews/0"), denied);
    assert_eq!(of(EAST, "GET http://west.example/shop/ratings/v1/ratings/0"), denied);
    assert_eq!(of(SOUTH, "GET http://west.example:15443/shop/ratings/v1/ratings/0"), ratings);
    for target in ["POST http://west.example/shop/myreviews/v3/", "GET http://west.example/shop/myreviews/v3"] {
        assert_eq!(of(EAST, target), denied);
    }
    assert_eq!(of(EAST, "GET http://other.example/shop/myreviews/v3/"), "404 route_not_found");
    let connect = |client| arrive(&snapshot, 15443, client, None);
    assert_eq!(connect(tls("other.example", EAST)), "no chain");
    assert_eq!(connect(tls("west.example", "")), "tls: the client has no certificate");
}

#[test]
fn a_connection_passes_to_the_service_that_it_names() {
    let snapshot = gate("gateway_between", "between");
    let of = |name, offers| arrive(&snapshot, 15443, Client { name, offers, ..Client::default() }, None);
    let mesh = &["istio-peer-exchange", "istio"];
    let echo = "outbound_.9000_.v1_.tcp-echo.foo.svc.cluster.local";
    assert_eq!(of(echo, mesh), format!("{echo} Ip(10.0.0.2:9000)"));
    assert_eq!(of(echo, &["h2"]), "no chain", "only proxies of the mesh");
    let bare = "outbound_.80_._.bare.legacy.svc.cluster.local";
    assert_eq!(of(bare, mesh), format!("no endpoint in {bare}"), "what takes no mutual TLS is not called");
    let empty = "outbound_.9000_.v2_.tcp-echo.foo.svc.cluster.local";
    assert_eq!(of(empty, mesh), format!("no endpoint in {empty}"));
    assert_eq!(of("outbound_.80_._.outside.foo.svc.cluster.local", mesh), "no chain");
    assert_eq!(of("tcp-echo.foo.svc.cluster.local", mesh), "no chain");
}

#[test]
fn sidecars_send_to_gateways_what_is_for_remote_services() {
    let told = |case| snapshot(&xds::build(&case_of(case), &node("sleep")));
    let snapshot = told("gateway_tcp_egress");
    let echo = leave(&snapshot, "10.96.3.9:9001", None);
    assert_eq!(echo, "outbound|31400|echo-west|egress.gates.svc.cluster.local Ip(10.0.1.1:31400)");
    let resources = xds::build(&case_of("gateway_tcp_egress"), &node("sleep"));
    let socket = |name: &str| resources.clusters[name].transport_socket.clone().unwrap();
    let bytes = |name: &str| format!("{:?}", socket(name));
    let west = bytes("outbound|31400|echo-west|egress.gates.svc.cluster.local");
    assert_ne!(west, bytes("outbound|31400|echo-north|egress.gates.svc.cluster.local"), "each has its own server name");
}

#[test]
fn one_port_serves_many_hosts() {
    let snapshot = gate("gateway_edge", "edge");
    let plain = |target| arrive(&snapshot, 8080, Client::default(), Some(target));
    assert_eq!(plain("GET http://a.shop.example/a?b"), "301 direct_response https://a.shop.example/a?b");
    assert_eq!(plain("GET http://plain.example/"), "301 direct_response https://plain.example/");
    assert_eq!(
        plain("GET http://free.example/"),
        "outbound|80||web.foo.svc.cluster.local Ip(10.0.0.8:8000) free.example/"
    );
    assert_eq!(plain("GET http://other/"), "404 route_not_found");
    let secure = |name, target| arrive(&snapshot, 8443, tls(name, ""), Some(target));
    let web = "outbound|80||web.foo.svc.cluster.local Ip(10.0.0.8:8000) a.shop.example";
    assert_eq!(secure("a.shop.example", "GET http://a.shop.example/a"), format!("{web}/a"));
    assert_eq!(
        secure("a.shop.example", "GET http://a.shop.example/b"),
        format!("{web}/b"),
        "what takes all comes last"
    );
    assert_eq!(secure("a.shop.example", "GET http://a.shop.example/c"), "418 direct_response");
    assert_eq!(secure("x.b.shop.example", "GET http://x.b.shop.example/c"), "418 direct_response");
    let by_name = |name| arrive(&snapshot, 8443, tls(name, ""), None);
    assert_eq!(by_name("c.shop.example"), "no chain");
    assert_eq!(by_name("x.pass.example"), "outbound|443||web.foo.svc.cluster.local Ip(10.0.0.8:8001) tlsMode-istio");
    assert_eq!(
        by_name("z.y.pass.example"),
        "outbound|9000||tcp-echo.foo.svc.cluster.local Ip(10.0.0.2:9000) tlsMode-istio"
    );
    assert_eq!(by_name("other.pass.example"), "no chain");
    assert_eq!(by_name("own.example"), "tls: the client has no certificate");
    let near = Client { from: "198.18.1.1", ..Client::default() };
    assert_eq!(
        arrive(&snapshot, 5000, near, None),
        "outbound|5000||web.foo.svc.cluster.local Ip(10.0.0.8:8002) tlsMode-istio"
    );
    let far = Client { from: "203.0.113.1", ..Client::default() };
    assert_eq!(
        arrive(&snapshot, 5000, far, None),
        "outbound|9000||tcp-echo.foo.svc.cluster.local Ip(10.0.0.2:9000) tlsMode-istio"
    );
}
