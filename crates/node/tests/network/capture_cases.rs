//! Which of a pod's connections its sidecar sees.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Uid, setfsuid};
use node::{Capture, Selection};
use socket2::{Domain, Socket, Type};

use crate::cases::Case;
use crate::world::{Pod, World};

pub(crate) const CASES: &[Case] = &[
    ("connections_of_an_injected_pod_are_led_to_its_sidecar", connections_of_an_injected_pod_are_led_to_its_sidecar),
    ("what_a_pod_sends_itself_is_led_as_in_istio", what_a_pod_sends_itself_is_led_as_in_istio),
    ("only_what_is_selected_is_captured", only_what_is_selected_is_captured),
    ("a_sidecars_user_is_known_without_a_mark", a_sidecars_user_is_known_without_a_mark),
];

const SIDECAR: u32 = 1337;
const PATIENCE: Duration = Duration::from_secs(5);

/// What Istio's injection asks for.
fn everything() -> Capture {
    Capture {
        outbound_port: 15001,
        inbound_port: 15006,
        tunnel_port: 15008,
        users: vec![SIDECAR],
        groups: vec![SIDECAR],
        outbound: Selection::All,
        excluded_outbound: Vec::new(),
        outbound_ports: Vec::new(),
        excluded_outbound_ports: Vec::new(),
        inbound: Selection::All,
        excluded_inbound_ports: vec![15090, 15021, 15020],
        excluded_interfaces: Vec::new(),
    }
}

/// A pod whose listeners tell, to whoever connects, their name and where the connection was meant to go.
fn pod(world: &World, cluster: &node::ClusterNetwork, last: u8, listeners: &[(&'static str, u16)]) -> Pod {
    let pod = world.pod(cluster, 1, last);
    for (name, port) in listeners.iter().copied() {
        let listener = pod.run(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port"));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let meant = getsockopt(&stream, sockopt::OriginalDst).expect("every connection is tracked");
                let address = Ipv4Addr::from(u32::from_be(meant.sin_addr.s_addr));
                let meant = SocketAddrV4::new(address, u16::from_be(meant.sin_port));
                // Whoever only looked whether something listens has gone away by now.
                write!(stream, "{name} {meant}").unwrap_or_default();
            }
        });
    }
    pod
}

const INJECTED: &[(&str, u16)] = &[("outbound", 15001), ("inbound", 15006), ("app", 8080), ("health", 15021)];

fn install(pod: &Pod, capture: Capture) {
    pod.run(move || capture.install()).expect("rules");
}

/// How the one that connects looks to the rules.
#[derive(Clone, Copy)]
struct As {
    mark: u32,
    from: Ipv4Addr,
}

const APP: As = As { mark: 0, from: Ipv4Addr::UNSPECIFIED };
const PROXY: As = As { mark: SIDECAR, ..APP };

/// Who answers, and where it believes that the client wanted to go.
fn answer(pod: &Pod, client: As, to: (Ipv4Addr, u16)) -> String {
    let ask = move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_mark(client.mark)?;
        socket.bind(&SocketAddr::from((client.from, 0)).into())?;
        socket.connect_timeout(&SocketAddr::from(to).into(), PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut heard = String::new();
        TcpStream::from(socket).read_to_string(&mut heard)?;
        Ok::<_, std::io::Error>(heard)
    };
    pod.run(move || ask().unwrap_or_else(|error| error.kind().to_string()))
}

fn connections_of_an_injected_pod_are_led_to_its_sidecar() {
    let world = World::new();
    let cluster = world.cluster(1);
    let (a, b) = (pod(&world, &cluster, 5, INJECTED), pod(&world, &cluster, 6, &[("b", 80)]));
    // Connections are tracked where there are rules; these leave everything as it is.
    install(&b, Capture { outbound: Selection::Only(vec![]), inbound: Selection::Only(vec![]), ..everything() });
    assert_eq!(answer(&a, APP, (b.address, 80)), format!("b {}:80", b.address));
    // A second time, because an init container may run again.
    install(&a, everything());
    install(&a, everything());
    assert_eq!(answer(&a, APP, (b.address, 80)), format!("outbound {}:80", b.address));
    assert_eq!(answer(&a, APP, ([192, 0, 2, 1].into(), 443)), "outbound 192.0.2.1:443");
    assert_eq!(answer(&a, PROXY, (b.address, 80)), format!("b {}:80", b.address));

    for port in [8080, 9999] {
        assert_eq!(answer(&b, APP, (a.address, port)), format!("inbound {}:{port}", a.address));
    }
    assert_eq!(answer(&b, APP, (a.address, 15021)), format!("health {}:15021", a.address));
    assert_eq!(answer(&b, APP, (a.address, 15090)), "connection refused");
    assert_eq!(answer(&b, APP, (a.address, 15008)), "connection refused");

    let server = b.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).expect("a free port"));
    server.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let to = b.address;
    a.run(move || UdpSocket::bind("0.0.0.0:0").and_then(|s| s.send_to(b"name", (to, 53))).expect("a datagram leaves"));
    let (_, from) = server.recv_from(&mut [0; 8]).expect("UDP is left alone");
    assert_eq!(from.ip(), a.address);
}

fn what_a_pod_sends_itself_is_led_as_in_istio() {
    let world = World::new();
    let cluster = world.cluster(1);
    let a = pod(&world, &cluster, 5, INJECTED);
    install(&a, everything());
    let own = a.address;
    assert_eq!(answer(&a, APP, (own, 8080)), format!("app {own}:8080"));
    assert_eq!(answer(&a, APP, (Ipv4Addr::LOCALHOST, 8080)), "app 127.0.0.1:8080");
    assert_eq!(answer(&a, PROXY, (Ipv4Addr::LOCALHOST, 8080)), "app 127.0.0.1:8080");
    assert_eq!(answer(&a, PROXY, (own, 8080)), format!("inbound {own}:8080"), "the sidecar to its own pod");
    let inbound_side = As { from: Ipv4Addr::new(127, 0, 0, 6), ..PROXY };
    assert_eq!(answer(&a, inbound_side, (own, 8080)), format!("app {own}:8080"), "and its inbound side");
}

fn only_what_is_selected_is_captured() {
    let world = World::new();
    let cluster = world.cluster(1);
    let a = pod(&world, &cluster, 5, INJECTED);
    let b = pod(&world, &cluster, 6, &[("b", 80), ("b", 81), ("b", 82)]);
    install(&b, Capture { outbound: Selection::Only(vec![]), inbound: Selection::Only(vec![]), ..everything() });
    let direct = |port| format!("b {}:{port}", b.address);
    let captured = |port| format!("outbound {}:{port}", b.address);
    let outbound = |capture: Capture| {
        install(&a, capture);
        [80, 81, 82].map(|port| answer(&a, APP, (b.address, port)))
    };
    let excluded_outbound_ports = vec![81];
    let seen = outbound(Capture { excluded_outbound_ports, ..everything() });
    assert_eq!(seen, [captured(80), direct(81), captured(82)]);
    let excluded_outbound = vec!["10.0.0.0/8".parse().expect("a range")];
    assert_eq!(outbound(Capture { excluded_outbound, ..everything() }), [direct(80), direct(81), direct(82)]);
    let elsewhere = Selection::Only(vec!["192.0.2.0/24".parse().expect("a range")]);
    let seen = outbound(Capture { outbound: elsewhere, outbound_ports: vec![82], ..everything() });
    assert_eq!(seen, [direct(80), direct(81), captured(82)]);
    assert_eq!(answer(&a, APP, ([192, 0, 2, 7].into(), 1)), "outbound 192.0.2.7:1");
    let seen = outbound(Capture { excluded_interfaces: vec!["eth0".to_owned()], ..everything() });
    assert_eq!(seen, [direct(80), direct(81), direct(82)]);

    install(&a, Capture { inbound: Selection::Only(vec![9999]), ..everything() });
    assert_eq!(answer(&b, APP, (a.address, 8080)), format!("app {}:8080", a.address));
    assert_eq!(answer(&b, APP, (a.address, 9999)), format!("inbound {}:9999", a.address));
}

fn a_sidecars_user_is_known_without_a_mark() {
    let world = World::new();
    let cluster = world.cluster(1);
    let (a, b) = (pod(&world, &cluster, 5, INJECTED), pod(&world, &cluster, 6, &[("b", 80)]));
    install(&b, Capture { outbound: Selection::Only(vec![]), inbound: Selection::Only(vec![]), ..everything() });
    install(&a, everything());
    let become_user = |id: u32| a.run(move || setfsuid(Uid::from_raw(id)));
    become_user(SIDECAR);
    if a.run(|| setfsuid(Uid::from_raw(u32::MAX))).as_raw() != SIDECAR {
        return println!("skipped: user {SIDECAR} does not exist here");
    }
    assert_eq!(answer(&a, APP, (b.address, 80)), format!("b {}:80", b.address));
    become_user(SIDECAR + 1);
    assert_eq!(answer(&a, APP, (b.address, 80)), format!("outbound {}:80", b.address));
}
