use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Api, service, slice};
use crate::cases::Case;
use crate::world::{PLAN, Pod, World, index, pod_address, until};

pub(crate) const CASES: &[Case] = &[
    ("a_service_leads_to_its_endpoints", a_service_leads_to_its_endpoints),
    ("a_client_stays_with_its_endpoint_for_a_time", a_client_stays_with_its_endpoint_for_a_time),
    ("a_service_without_endpoints_refuses", a_service_without_endpoints_refuses),
    ("a_pod_reaches_itself_through_its_service", a_pod_reaches_itself_through_its_service),
    ("established_connections_survive_changes", established_connections_survive_changes),
    ("udp_clients_follow_changes", udp_clients_follow_changes),
    ("load_balancers_answer_other_clusters_and_their_own", load_balancers_answer_other_clusters_and_their_own),
    ("source_ranges_guard_a_load_balancer", source_ranges_guard_a_load_balancer),
    ("an_endpoint_may_be_another_clusters_load_balancer", an_endpoint_may_be_another_clusters_load_balancer),
    ("outer_ports_answer_on_the_host", outer_ports_answer_on_the_host),
    ("many_services_are_programmed", many_services_are_programmed),
    ("names_resolve_by_both_transports", names_resolve_by_both_transports),
];

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 50);

fn api(world: &World, n: u8) -> Api {
    let directory = world.home.join(format!("c{n}"));
    Api::serve(&directory.join("dns.kubeconfig"))
}

/// Serves lines: each connection is told the pod's address, and then what it says is said back until it ends.
fn echo(pod: &Pod, port: u16) {
    let (listener, address) = (pod.listen(port), pod.address);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let mut said = Vec::new();
                let greeted = stream.write_all(format!("{address}\n").as_bytes());
                // A client that only looked whether there is a connection has gone away by now.
                let heard = greeted.and_then(|()| stream.read_to_end(&mut said));
                heard.and_then(|_| stream.write_all(&said)).unwrap_or_default();
            });
        }
    });
}

/// What a pod hears first from an address, if it gets a connection.
fn hears(pod: &Pod, to: (Ipv4Addr, u16)) -> Option<String> {
    let mut stream = pod.connect(to).ok()?;
    stream.shutdown(Shutdown::Write).ok()?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard).ok()?;
    Some(heard.trim_end().to_owned())
}

fn a_service_leads_to_its_endpoints() {
    let world = World::new();
    let cluster = world.cluster(1);
    let api = api(&world, 1);
    let pods: Vec<Pod> = (5..8).map(|last| world.pod(&cluster, 1, last)).collect();
    let client = world.pod(&cluster, 1, 9);
    pods.iter().for_each(|pod| echo(pod, 9000));
    let addresses: Vec<Ipv4Addr> = pods.iter().map(|pod| pod.address).collect();
    api.set(vec![service("echo", "10.97.0.50", 80, json!({}))], vec![slice("echo", 9000, &addresses)]);
    until("the service answers", || hears(&client, (SERVICE, 80)).is_some());
    let mut heard: Vec<String> = (0..60).filter_map(|_| hears(&client, (SERVICE, 80))).collect();
    assert_eq!(heard.len(), 60);
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), 3, "every endpoint has its share: {heard:?}");
}

fn a_client_stays_with_its_endpoint_for_a_time() {
    let world = World::new();
    let cluster = world.cluster(1);
    let api = api(&world, 1);
    let pods: Vec<Pod> = (5..8).map(|last| world.pod(&cluster, 1, last)).collect();
    let client = world.pod(&cluster, 1, 9);
    pods.iter().for_each(|pod| echo(pod, 9000));
    let mut addresses: Vec<Ipv4Addr> = pods.iter().map(|pod| pod.address).collect();
    let serve = |seconds: u32, addresses: &[Ipv4Addr]| {
        let config = json!({"clientIP": {"timeoutSeconds": seconds}});
        let spec = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config});
        api.set(vec![service("echo", "10.97.0.50", 80, spec)], vec![slice("echo", 9000, addresses)]);
    };
    let only = || {
        let mut heard: Vec<_> = (0..12).map(|_| hears(&client, (SERVICE, 80))).collect();
        heard.dedup();
        heard.pop().flatten().filter(|_| heard.is_empty())
    };
    serve(10_800, &addresses);
    until("a client stays with its endpoint", || only().is_some());
    let first = only().expect("it still does");
    addresses.retain(|address| address.to_string() != first);
    serve(10_800, &addresses);
    until("it moves when the endpoint is gone", || only().is_some_and(|endpoint| endpoint != first));
    let second = only();
    addresses = pods.iter().map(|pod| pod.address).collect();
    serve(10_800, &addresses);
    let mut last = 9;
    until("another client gets the one that has come back", || {
        last += 1;
        hears(&world.pod(&cluster, 1, last), (SERVICE, 80)).as_ref() == Some(&first)
    });
    assert_eq!(only(), second, "others that come do not lead it away");

    serve(1, &addresses);
    until("a client that was away for longer is led anew", || {
        let away = std::time::Instant::now();
        until("the time is over", || away.elapsed() > Duration::from_millis(1200));
        hears(&client, (SERVICE, 80)) != second
    });
}

fn a_service_without_endpoints_refuses() {
    let world = World::new();
    let cluster = world.cluster(1);
    let api = api(&world, 1);
    let (pod, client) = (world.pod(&cluster, 1, 5), world.pod(&cluster, 1, 9));
    echo(&pod, 9000);
    let services = || vec![service("echo", "10.97.0.50", 80, json!({}))];
    api.set(services(), vec![slice("echo", 9000, &[pod.address])]);
    until("the service answers", || hears(&client, (SERVICE, 80)).is_some());
    api.set(services(), vec![slice("echo", 9000, &[])]);
    let refused = |to| client.connect(to).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    until("the service refuses", || refused((SERVICE, 80)));
    assert!(refused(([10, 97, 7, 7].into(), 80)), "a service address that nobody has");
    let udp = client.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect((SERVICE, 99)).map(|()| s)).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        socket.send(b"x").and_then(|_| socket.recv(&mut [0; 8])).map_err(|error| error.kind())
    });
    assert_eq!(udp, Err(ErrorKind::ConnectionRefused));
}

fn a_pod_reaches_itself_through_its_service() {
    let world = World::new();
    let cluster = world.cluster(1);
    let api = api(&world, 1);
    let pod = world.pod(&cluster, 1, 5);
    echo(&pod, 9000);
    api.set(vec![service("echo", "10.97.0.50", 80, json!({}))], vec![slice("echo", 9000, &[pod.address])]);
    until("the service answers", || hears(&pod, (SERVICE, 80)) == Some(pod.address.to_string()));
}

fn established_connections_survive_changes() {
    let world = World::new();
    let cluster = world.cluster(1);
    let api = api(&world, 1);
    let (old, new) = (world.pod(&cluster, 1, 5), world.pod(&cluster, 1, 6));
    let client = world.pod(&cluster, 1, 9);
    [&old, &new].into_iter().for_each(|pod| echo(pod, 9000));
    let services = || vec![service("echo", "10.97.0.50", 80, json!({}))];
    api.set(services(), vec![slice("echo", 9000, &[old.address])]);
    until("the service answers", || hears(&client, (SERVICE, 80)).is_some());
    let mut stream = client.connect((SERVICE, 80)).expect("a connection");
    api.set(services(), vec![slice("echo", 9000, &[new.address])]);
    until("the new endpoint answers", || hears(&client, (SERVICE, 80)) == Some(new.address.to_string()));
    stream.write_all(b"still here").and_then(|()| stream.shutdown(Shutdown::Write)).expect("the connection lives");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).expect("the connection lives");
    assert_eq!(heard, format!("{}\nstill here", old.address));
}

fn udp_clients_follow_changes() {
    let world = World::new();
    let cluster = world.cluster(1);
    let api = api(&world, 1);
    let pods = [world.pod(&cluster, 1, 5), world.pod(&cluster, 1, 6)];
    let client = world.pod(&cluster, 1, 9);
    for pod in &pods {
        let address = pod.address;
        let socket = pod.run(move || UdpSocket::bind((address, 5300)).expect("a free port"));
        std::thread::spawn(move || {
            while let Ok((_, client)) = socket.recv_from(&mut [0; 8]) {
                // A client that is gone needs no answer.
                drop(socket.send_to(address.to_string().as_bytes(), client));
            }
        });
    }
    let socket = client.run(|| UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect((SERVICE, 53)).map(|()| s)));
    let socket = socket.expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let is_led_to = |pod: &Pod| {
        let mut heard = [0; 32];
        let length = socket.send(b"x").and_then(|_| socket.recv(&mut heard));
        length.is_ok_and(|length| heard[..length] == *pod.address.to_string().as_bytes())
    };
    let udp = |what: Value, list: &str| {
        let mut what = what;
        let port = what.pointer_mut(list).and_then(|ports| ports.get_mut(0)).expect("a port");
        port["protocol"] = "UDP".into();
        what
    };
    let service = || vec![udp(service("dns", "10.97.0.50", 53, json!({})), "/spec/ports")];
    let slice = |pod: &Pod| vec![udp(slice("dns", 5300, &[pod.address]), "/ports")];
    // The client asks before there is a service, and its question leaves a trace.
    assert!(!is_led_to(&pods[0]));
    api.set(service(), slice(&pods[0]));
    until("the first endpoint answers", || is_led_to(&pods[0]));
    api.set(service(), slice(&pods[1]));
    until("the second endpoint answers the same socket", || is_led_to(&pods[1]));
}

fn load_balancer(n: u8) -> Ipv4Addr {
    PLAN.load_balancers(index(n)).next().expect("a load balancer's address")
}

/// A load balancer's service, with a node port.
fn balanced(n: u8) -> Value {
    let more = json!({"type": "LoadBalancer", "loadBalancer": {"ingress": [{"ip": load_balancer(n)}]},
                      "ports": [{"name": "tcp", "port": 80, "nodePort": 30080}]});
    service("echo", &format!("10.{}.0.50", 96 + n), 80, more)
}

fn load_balancers_answer_other_clusters_and_their_own() {
    let world = World::new();
    let (one, two) = (world.cluster(1), world.cluster(2));
    let api = api(&world, 2);
    let (server, sibling) = (world.pod(&two, 2, 5), world.pod(&two, 2, 6));
    let stranger = world.pod(&one, 1, 5);
    echo(&server, 9000);
    api.set(vec![balanced(2)], vec![slice("echo", 9000, &[server.address])]);
    let expected = Some(server.address.to_string());
    let node = PLAN.node(index(2));
    until("another cluster reaches it", || hears(&stranger, (load_balancer(2), 80)) == expected);
    assert_eq!(hears(&stranger, (node, 30080)), expected, "another cluster reaches the node port");
    assert_eq!(hears(&sibling, (load_balancer(2), 80)), expected, "its own cluster reaches it");
    assert_eq!(hears(&sibling, (node, 30080)), expected, "its own cluster reaches the node port");
    assert_eq!(hears(&server, (load_balancer(2), 80)), expected, "the pod itself reaches it");
    stranger.connect((server.address, 9000)).expect_err("the pod itself is out of reach");
    let refused = stranger.connect((load_balancer(2), 81)).expect_err("no such port").kind();
    assert_eq!(refused, ErrorKind::ConnectionRefused);

    api.set(vec![], vec![]);
    until("the address is given back", || stranger.connect((load_balancer(2), 80)).is_err());
}

fn source_ranges_guard_a_load_balancer() {
    let world = World::new();
    let (one, two) = (world.cluster(1), world.cluster(2));
    let api = api(&world, 2);
    let (server, stranger) = (world.pod(&two, 2, 5), world.pod(&one, 1, 5));
    echo(&server, 9000);
    let guarded = |range: String| {
        let mut service = balanced(2);
        service["spec"]["loadBalancerSourceRanges"] = json!([range]);
        api.set(vec![service], vec![slice("echo", 9000, &[server.address])]);
    };
    let node = PLAN.node(index(2));
    guarded("192.0.2.0/24".to_owned());
    until("the node port answers", || hears(&stranger, (node, 30080)).is_some());
    stranger.connect((load_balancer(2), 80)).expect_err("the client is not in the range");
    guarded(format!("{}/32", PLAN.node(index(1))));
    until("the load balancer answers", || hears(&stranger, (load_balancer(2), 80)).is_some());
    guarded("192.0.2.0/24".to_owned());
    until("the client is shut out again", || hears(&stranger, (load_balancer(2), 80)).is_none());
    api.set(vec![balanced(2)], vec![slice("echo", 9000, &[server.address])]);
    until("everybody may come in", || hears(&stranger, (load_balancer(2), 80)).is_some());
}

fn an_endpoint_may_be_another_clusters_load_balancer() {
    let world = World::new();
    let (one, two) = (world.cluster(1), world.cluster(2));
    let (api_one, api_two) = (api(&world, 1), api(&world, 2));
    let (server, client) = (world.pod(&two, 2, 5), world.pod(&one, 1, 5));
    echo(&server, 9000);
    api_two.set(vec![balanced(2)], vec![slice("echo", 9000, &[server.address])]);
    api_one.set(vec![service("echo", "10.97.0.50", 8000, json!({}))], vec![slice("echo", 80, &[load_balancer(2)])]);
    until("the service answers", || hears(&client, (SERVICE, 8000)) == Some(server.address.to_string()));
}

fn outer_ports_answer_on_the_host() {
    let world = World::new();
    let cluster = world.cluster(1);
    let api = api(&world, 1);
    let server = world.pod(&cluster, 1, 5);
    echo(&server, 9000);
    api.set(vec![balanced(1)], vec![slice("echo", 9000, &[server.address])]);
    let file = world.home.join("c1/forwards.json");
    let read =
        || -> Vec<Value> { serde_json::from_slice(&std::fs::read(&file).unwrap_or_default()).unwrap_or_default() };
    let at: Vec<SocketAddr> = if nix::unistd::geteuid().is_root() && std::env::var_os("TEST_USER").is_none() {
        vec![(load_balancer(1), 80).into(), (PLAN.node(index(1)), 30080).into()]
    } else {
        until("ports are forwarded", || read().len() == 2);
        assert!(read().iter().all(|line| line["service"] == "default/echo"));
        let port = |line: &Value| line["localPort"].as_u64().and_then(|port| u16::try_from(port).ok());
        read().iter().filter_map(port).map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect()
    };
    assert_eq!(at.len(), 2);
    for at in at {
        let ask = || {
            let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2))?;
            stream.write_all(b"hello")?;
            stream.shutdown(Shutdown::Write)?;
            let mut heard = String::new();
            stream.read_to_string(&mut heard)?;
            std::io::Result::Ok(heard)
        };
        until("the host gets an answer", || ask().is_ok_and(|heard| heard == format!("{}\nhello", server.address)));
    }
}

fn many_services_are_programmed() {
    const COUNT: u16 = 1500;
    let world = World::new();
    let cluster = world.cluster(1);
    let api = api(&world, 1);
    let (server, client) = (world.pod(&cluster, 1, 5), world.pod(&cluster, 1, 6));
    echo(&server, 9000);
    let address = |n: u16| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 97, 1, 0)) + u32::from(n));
    let others: Vec<Ipv4Addr> = (20..25).map(|last| pod_address(1, last)).collect();
    let name = |n: u16| format!("a-service-whose-name-is-as-long-as-names-of-services-are-{n:05}");
    let services = (0..COUNT).map(|n| service(&name(n), &address(n).to_string(), 80, json!({}))).collect();
    let endpoints = |n: u16| if n.is_multiple_of(2) { vec![server.address] } else { others.clone() };
    api.set(services, (0..COUNT).map(|n| slice(&name(n), 9000, &endpoints(n))).collect());
    until("the last service answers", || hears(&client, (address(COUNT - 2), 80)).is_some());
    assert!(hears(&client, (address(0), 80)).is_some());
    api.set(vec![], vec![]);
    until("the services are gone", || hears(&client, (address(0), 80)).is_none());
}

/// A question for addresses, as it is on the wire.
fn question(name: &str) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).expect("a short label"));
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    packet
}

fn names_resolve_by_both_transports() {
    let world = World::new();
    let cluster = world.cluster(1);
    let api = api(&world, 1);
    let client = world.pod(&cluster, 1, 5);
    api.set(vec![service("echo", "10.97.0.50", 80, json!({}))], vec![]);
    let server = PLAN.dns_service(index(1));
    let ask = |name: &str| {
        let question = question(name);
        client.run(move || {
            let socket =
                UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect((server, 53)).map(|()| s)).expect("a socket");
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
            let mut answer = [0; 512];
            let length = socket.send(&question).and_then(|_| socket.recv(&mut answer)).expect("an answer");
            answer[..length].to_vec()
        })
    };
    let code = |answer: &[u8]| answer[3] & 0xf;
    let name = "ECHO.default.svc.cluster.local";
    until("the name resolves", || code(&ask(name)) == 0);
    let by_datagram = ask(name);
    assert_eq!(by_datagram[by_datagram.len() - 4..], SERVICE.octets());
    assert_eq!(code(&ask("nobody.default.svc.cluster.local")), 3);
    assert_eq!(code(&ask("example.com")), 5);

    let mut stream = client.connect((server, 53)).expect("a connection");
    let question = question(name);
    stream.write_all(&[&[0, u8::try_from(question.len()).expect("short")][..], &question].concat()).expect("a server");
    let mut by_stream = vec![0; by_datagram.len() + 2];
    stream.read_exact(&mut by_stream).expect("an answer");
    assert_eq!(by_stream[2..], by_datagram);
}
