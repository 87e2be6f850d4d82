use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node::{ClusterNetwork, OuterNetwork};

use crate::world::{PLAN, World, index, until};

/// A case's name, which is the fact that it shows, and the case.
pub(crate) type Case = (&'static str, fn());

pub(crate) const CASES: &[Case] = &[
    ("pods_reach_one_another_and_the_node", pods_reach_one_another_and_the_node),
    ("attaching_again_keeps_connections", attaching_again_keeps_connections),
    ("a_namespace_survives_the_cluster_process", a_namespace_survives_the_cluster_process),
    ("pods_of_other_clusters_are_unreachable", pods_of_other_clusters_are_unreachable),
    ("nothing_outlives_close", nothing_outlives_close),
    ("a_network_ends_with_the_outer_process", a_network_ends_with_the_outer_process),
    ("one_process_serves_all_who_open_at_once", one_process_serves_all_who_open_at_once),
];

fn pods_reach_one_another_and_the_node() {
    let world = World::new();
    let cluster = world.cluster(1);
    let (a, b) = (world.pod(&cluster, 1, 5), world.pod(&cluster, 1, 6));
    let server = b.listen(80);
    let client = a.connect((b.address, 80)).expect("a pod reaches a pod");
    assert_eq!(server.accept().expect("a connection").1.ip(), a.address);
    drop(client);

    let node = cluster.listen_for_pods(6443).expect("a listener in the node's namespace");
    node.set_nonblocking(false).expect("a blocking listener");
    a.connect((PLAN.pod_gateway(index(1)), 6443)).expect("a pod reaches the node");
    assert_eq!(node.accept().expect("a connection").1.ip(), a.address);

    let probe = world.runtime.block_on(cluster.connect((b.address, 80).into()));
    probe.expect("the node reaches a pod");
    assert_eq!(a.connect((b.address, 81)).expect_err("nothing listens").kind(), ErrorKind::ConnectionRefused);
    let nowhere = a.connect(([192, 0, 2, 1].into(), 80)).expect_err("nothing is there").kind();
    assert_eq!(nowhere, ErrorKind::NetworkUnreachable);
}

fn attaching_again_keeps_connections() {
    let world = World::new();
    let cluster = world.cluster(1);
    let (a, b) = (world.pod(&cluster, 1, 5), world.pod(&cluster, 1, 6));
    let server = b.listen(80);
    let mut client = a.connect((b.address, 80)).expect("a connection");
    let mut accepted = server.accept().expect("a connection").0;
    world.attach(&cluster, &a);
    assert_says_hello(&mut client, &mut accepted);

    let next = world.pod(&cluster, 1, 5);
    next.connect((b.address, 80)).expect("the address's next pod has its network");
}

fn assert_says_hello(client: &mut std::net::TcpStream, server: &mut std::net::TcpStream) {
    client.write_all(b"hello").expect("the connection lives");
    let mut heard = [0; 5];
    server.read_exact(&mut heard).expect("the connection lives");
    assert_eq!(&heard, b"hello");
}

fn a_namespace_survives_the_cluster_process() {
    let world = World::new();
    let cluster = world.cluster(1);
    let pod = world.pod(&cluster, 1, 5);
    let server = pod.listen(80);
    drop(cluster);
    let again = world.cluster(1);
    world.runtime.block_on(again.connect((pod.address, 80).into())).expect("the pod is still attached");
    server.accept().expect("a connection");
}

fn pods_of_other_clusters_are_unreachable() {
    let world = World::new();
    let (one, two) = (world.cluster(1), world.cluster(2));
    let (a, b) = (world.pod(&one, 1, 5), world.pod(&two, 2, 5));
    let server = b.listen(80);
    a.connect((b.address, 80)).expect_err("pod networks are not routed to one another");
    let outer: TcpListener = one.listen_on_outer_loopback(6443).expect("a listener in the outer namespace");
    drop((server, outer));
}

fn nothing_outlives_close() {
    let world = World::new();
    drop(world.cluster(1));
    let processes = [process(&world, "outer.lock"), process(&world, "c1/network.lock")];
    assert!(processes.into_iter().all(alive));
    ClusterNetwork::close(&world.home, "c1").expect("the network process ends");
    OuterNetwork::find(&world.home).expect("an outer process").close().expect("the outer process ends");
    assert!(!alive(processes[0]), "the outer process is reaped by the one that started it");
    assert!(OuterNetwork::find(&world.home).is_none());
}

/// The process that holds a lock.
fn process(world: &World, lock: &str) -> i32 {
    let text = std::fs::read(world.home.join(lock)).expect("a lock file");
    let record: serde_json::Value = serde_json::from_slice(&text).expect("a record");
    record["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a process")
}

/// Whether a process lives; one that has ended but was not reaped does not.
fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn a_network_ends_with_the_outer_process() {
    let world = World::new();
    drop(world.cluster(1));
    let (outer, network) = (process(&world, "outer.lock"), process(&world, "c1/network.lock"));
    assert!(alive(outer) && alive(network));
    kill(Pid::from_raw(outer), Signal::SIGKILL).expect("it is ours to kill");
    until("the network process has ended", || !alive(network));
    assert!(OuterNetwork::find(&world.home).is_none());
    let config = world.config(1);
    let error = world.runtime.block_on(ClusterNetwork::open(config)).err().expect("there is no outer network");
    assert!(error.to_string().ends_with("is not running"), "{error}");
}

fn one_process_serves_all_who_open_at_once() {
    let world = World::new();
    let opening: Vec<_> = (0..8).map(|_| world.runtime.spawn(ClusterNetwork::open(world.config(1)))).collect();
    for opened in opening {
        let cluster = world.runtime.block_on(opened).expect("no panic").expect("a cluster's network");
        world.pod(&cluster, 1, 5);
    }
}
