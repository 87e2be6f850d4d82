//! The way of a connection, and its end.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use api::istio::MutualTlsMode;
use http::request::Parts;
use k8s_openapi::api::core::v1::Pod;
use proxy::config::{Direction, EndpointAddress};
use proxy::select::Arrival;
use xds::{ObjectRef, Role};

use super::explanation::{Destination, Explanation, Hop, Party, Path, Request, Verdict, sum};
use super::flow::Flow;
use super::judgement::Judgement;
use super::passage::{Passage, Stop, Way};
use super::question::{self, endpoints, ip};
use super::sidecar::{self, Sidecar};
use super::world::{Cluster, Place, World};

/// How many gateways there may be on a way: one more is one that it has met before.
const LONGEST: usize = 8;

/// A connection that somebody asks about.
pub(super) struct Question<'a> {
    /// Who connects.
    pub(super) from: &'a Pod,
    /// Whom to, in the words of whoever asks.
    pub(super) asked: String,
    /// What that means.
    pub(super) to: SocketAddr,
    /// What is sent, if not mere bytes.
    pub(super) request: Option<Asked>,
}

/// A request that somebody asks about.
pub(super) struct Asked {
    pub(super) told: Request,
    pub(super) parts: Parts,
    /// Whether the application itself speaks TLS.
    pub(super) secure: bool,
    /// The server's name there; none is sent with an address.
    pub(super) server_name: Option<String>,
}

/// Follows the connection that is asked about.
pub(super) fn explain(world: &World, question: &Question<'_>) -> anyhow::Result<Explanation> {
    let own = world.own();
    let client = Sidecar::of(own, question.from)?;
    let source = ip(question.from).unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let asked = question.request.as_ref();
    let flow = Flow::of_application(source, asked);
    let mut journey = Journey { world, found: BTreeSet::new() };
    let captured = client.as_ref().filter(|sidecar| sidecar.takes_outbound(question.to));
    let (outbound, paths) = match captured {
        None => (journey.past(client.as_ref(), question.to), journey.routed(own, question.to, &flow, 0)?),
        Some(client) => {
            let (hop, paths) = journey.through(client, question.to, &flow)?;
            (Some(hop), paths)
        }
    };
    let (verdict, reason) = sum(&paths);
    Ok(Explanation {
        verdict,
        reason,
        source: journey.party(own, question.from, client.is_some()),
        request: asked.map(|request| request.told.clone()),
        destination: Destination { asked: question.asked.clone(), address: question.to },
        outbound,
        diagnostics: journey.found.into_iter().collect(),
        paths,
    })
}

/// What an answer is made from.
struct Journey<'w> {
    world: &'w World,
    /// What objects on the way say without effect.
    found: BTreeSet<String>,
}

impl Journey<'_> {
    /// What is to be said of a sidecar that a connection goes past.
    fn past(&self, client: Option<&Sidecar>, to: SocketAddr) -> Option<Hop> {
        let name = &client?.node.name;
        let note = format!("connections of {name} to {to} go past its sidecar, as its annotations say");
        Some(Hop { notes: vec![note], ..Hop::default() })
    }

    /// From a pod with a sidecar.
    fn through(&mut self, client: &Sidecar, to: SocketAddr, flow: &Flow) -> anyhow::Result<(Hop, Vec<Path>)> {
        let cluster = self.world.own();
        let arrival = Arrival::Captured(Direction::Outbound);
        let Passage { mut hop, ways } = Stop { cluster, proxy: client, arrival, destination: to }.pass(flow);
        if hop.virtual_host.is_none() && hop.cluster.as_deref() == Some("PassthroughCluster") {
            let pod = &client.node.name;
            hop.notes.push(format!("no service that {pod} may call has {to}: the connection passes as it is"));
        }
        let called = hop.cluster.as_deref().and_then(service_of).map(str::to_owned);
        self.find(cluster, client, called.as_deref());
        let mut paths = Vec::new();
        for way in &ways {
            paths.extend(self.along(cluster, way, 0)?);
        }
        Ok((hop, paths))
    }

    /// Along one of the ways that a proxy has chosen.
    fn along(&mut self, cluster: &Cluster, way: &Way, gateways: usize) -> anyhow::Result<Vec<Path>> {
        if way.targets.is_empty() {
            return Ok(vec![Path { share: way.share, upstream: way.upstream.clone(), ..end(way.judgement.clone()) }]);
        }
        let mut paths = Vec::new();
        for (address, flow) in &way.targets {
            let reached = match address {
                EndpointAddress::Ip(address) => self.routed(cluster, *address, flow, gateways)?,
                EndpointAddress::Name { host, port } => self.named(cluster, host, *port, flow, gateways)?,
            };
            paths.extend(reached.into_iter().map(|path| Path {
                share: way.share,
                upstream: way.upstream.clone(),
                destination_rule: way.destination_rule.clone(),
                ..path
            }));
        }
        Ok(paths)
    }

    /// To a name that is looked up in DNS.
    fn named(
        &mut self,
        cluster: &Cluster,
        host: &str,
        port: u16,
        flow: &Flow,
        gateways: usize,
    ) -> anyhow::Result<Vec<Path>> {
        match question::address(&cluster.objects, host, port, "", "") {
            Ok(address) => self.routed(cluster, SocketAddr::new(address, port), flow, gateways),
            Err(_) => {
                let judgement =
                    Judgement::new(Verdict::Allowed, format!("it goes to whatever {host} stands for in DNS"));
                Ok(vec![Path { endpoint: Some(format!("{host}:{port}")), tls: flow.tls(), ..end(judgement) }])
            }
        }
    }

    /// What the network makes of an address: a service's stands for its endpoints.
    fn routed(
        &mut self,
        from: &Cluster,
        address: SocketAddr,
        flow: &Flow,
        gateways: usize,
    ) -> anyhow::Result<Vec<Path>> {
        let world = self.world;
        let closed = |reason: String| Ok(vec![end(Judgement::new(Verdict::Unreachable, reason))]);
        let (cluster, service, port) = match world.place(from, address) {
            Place::Service(cluster, service, port) => (cluster, service, port),
            Place::Closed(service) => {
                return closed(format!("Service {} has no port {}", full_name(&service.metadata), address.port()));
            }
            Place::Pod(cluster, pod) => return Ok(vec![self.arrive(cluster, pod, address, flow, gateways)?]),
            Place::Elsewhere => {
                let reason = format!("{} is no pod's, so nothing here decides about it", address.ip());
                let path = end(Judgement::new(Verdict::Allowed, reason));
                return Ok(vec![Path { endpoint: Some(address.to_string()), tls: flow.tls(), ..path }]);
            }
        };
        let wanted = port.name.as_deref().unwrap_or_default();
        let places: BTreeSet<SocketAddr> = endpoints(&cluster.objects, service)
            .filter(|(_, name, _)| *name == wanted)
            .filter_map(|(address, _, port)| Some(SocketAddr::new(address.parse().ok()?, port)))
            .collect();
        if places.is_empty() {
            let name = full_name(&service.metadata);
            return closed(format!("Service {name} has no endpoint for port {}", address.port()));
        }
        let mut paths = Vec::new();
        for place in places {
            match world.place(cluster, place) {
                Place::Pod(cluster, pod) => paths.push(self.arrive(cluster, pod, place, flow, gateways)?),
                // The endpoints were written by hand, for something that is no pod of the cluster.
                _ if place != address => paths.extend(self.routed(cluster, place, flow, gateways + 1)?),
                _ => return closed(format!("Service {} stands for itself", full_name(&service.metadata))),
            }
        }
        Ok(paths)
    }

    /// What becomes of the connection where it arrives.
    fn arrive(
        &mut self,
        cluster: &Cluster,
        pod: &Pod,
        address: SocketAddr,
        flow: &Flow,
        gateways: usize,
    ) -> anyhow::Result<Path> {
        let server = Sidecar::of(cluster, pod)?;
        let destination = Some(self.party(cluster, pod, server.is_some()));
        let tls = flow.tls();
        let own_tls = flow.layers.last().is_some_and(|layer| layer.mutual);
        let name = full_name(&pod.metadata);
        let path = match &server {
            Some(server) if server.node.role == Role::Router => {
                self.gateway(cluster, address, flow, server, gateways)?
            }
            Some(server) if server.takes_inbound(address.port()) => self.inbound(cluster, address, flow, server),
            _ if own_tls => end(Judgement::new(
                Verdict::Refused,
                match server {
                    Some(_) => format!("port {} is not its sidecar's, which alone could take TLS", address.port()),
                    None => format!("{name} has no sidecar that could take TLS"),
                },
            )),
            Some(_) => {
                let reason = format!("connections to port {} go past the pod's sidecar", address.port());
                end(Judgement::new(Verdict::Allowed, reason))
            }
            None => end(Judgement::new(Verdict::Allowed, format!("{name} has no sidecar, so nobody asks who calls"))),
        };
        Ok(Path { endpoint: Some(address.to_string()), tls, destination, ..path })
    }

    /// At the sidecar of a workload that is called.
    fn inbound(&mut self, cluster: &Cluster, address: SocketAddr, flow: &Flow, server: &Sidecar) -> Path {
        let arrival = Arrival::Captured(Direction::Inbound);
        let Passage { mut hop, ways } = Stop { cluster, proxy: server, arrival, destination: address }.pass(flow);
        let (mode, saying) = cluster.mesh.accepted(&server.node, address.port());
        let says = saying.as_ref().map_or_else(|| "by default".to_owned(), |object| format!("says {object}"));
        hop.notes.push(format!("port {} is {}, {says}", address.port(), name_of(mode)));
        if hop.cluster.as_deref() == Some("InboundPassthroughCluster") {
            let note = format!("no service declares port {} of the pod: the connection passes through", address.port());
            hop.notes.push(note);
        }
        self.find(cluster, server, None);
        let nowhere = || Judgement::new(Verdict::Unreachable, "there is nowhere to go".to_owned());
        let path = end(ways.into_iter().next().map_or_else(nowhere, |way| way.judgement));
        Path { inbound: Some(hop), ..path }
    }

    /// At a gateway, which sends it on.
    fn gateway(
        &mut self,
        cluster: &Cluster,
        address: SocketAddr,
        flow: &Flow,
        gateway: &Sidecar,
        gateways: usize,
    ) -> anyhow::Result<Path> {
        let arrival = Arrival::At(address);
        let Passage { mut hop, ways } = Stop { cluster, proxy: gateway, arrival, destination: address }.pass(flow);
        hop.notes.push("the pod is a gateway, which sends on what it takes".to_owned());
        self.find(cluster, gateway, None);
        if gateways >= LONGEST {
            let reason = format!("it goes round, by {} again", gateway.name());
            return Ok(Path { inbound: Some(hop), ..end(Judgement::new(Verdict::Unreachable, reason)) });
        }
        if let [Way { targets, judgement, .. }] = ways.as_slice()
            && targets.is_empty()
        {
            return Ok(Path { inbound: Some(hop), ..end(judgement.clone()) });
        }
        let decided_by = ways.first().map(|way| way.judgement.decided_by.clone()).unwrap_or_default();
        let mut onward = Vec::new();
        for mut way in ways {
            way.targets.iter_mut().for_each(|(_, flow)| flow.source = address.ip());
            onward.extend(self.along(cluster, &way, gateways + 1)?);
        }
        let (verdict, reason) = sum(&onward);
        let path = end(Judgement { decided_by, ..Judgement::new(verdict, reason) });
        Ok(Path { inbound: Some(hop), onward, ..path })
    }

    fn party(&self, cluster: &Cluster, pod: &Pod, sidecar: bool) -> Party {
        Party {
            pod: pod.metadata.name.clone().unwrap_or_default(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            cluster: self.world.has_several().then(|| cluster.name.clone()),
            sidecar,
            identity: sidecar.then(|| sidecar::identity(cluster, pod)),
        }
    }

    /// Keeps what is said about objects that have to do with a side of the connection.
    fn find(&mut self, cluster: &Cluster, side: &Sidecar, host: Option<&str>) {
        let config = cluster.mesh.config();
        let policies = cluster.mesh.authorization_policies(&side.node);
        let own = [side.node.namespace.as_str(), config.root_namespace.as_str()];
        let all = cluster.mesh.diagnostics().iter().chain(&side.diagnostics);
        let concerns = |object: &ObjectRef| match object.kind.as_str() {
            "AuthorizationPolicy" => policies.iter().any(|(policy, _)| policy == object),
            "Service" => host.is_some_and(|h| h.starts_with(&format!("{}.{}.", object.name, object.namespace))),
            _ => own.contains(&object.namespace.as_str()),
        };
        let found = all.filter(|d| concerns(&d.object)).map(ToString::to_string).chain(side.refused.iter().cloned());
        let prefix = if cluster.name == self.world.own().name { String::new() } else { format!("{}: ", cluster.name) };
        self.found.extend(found.map(|line| format!("{prefix}{line}")));
    }
}

/// A way that ends.
fn end(judgement: Judgement) -> Path {
    let Judgement { verdict, reason, status, flag, decided_by } = judgement;
    Path {
        share: 100.0,
        upstream: None,
        destination_rule: None,
        endpoint: None,
        tls: None,
        destination: None,
        inbound: None,
        onward: Vec::new(),
        verdict,
        reason,
        status,
        flag,
        decided_by,
    }
}

fn name_of(mode: MutualTlsMode) -> &'static str {
    match mode {
        MutualTlsMode::Strict => "STRICT",
        MutualTlsMode::Disable => "DISABLE",
        MutualTlsMode::Permissive | MutualTlsMode::Unset => "PERMISSIVE",
    }
}

/// The host of an outbound cluster.
fn service_of(cluster: &str) -> Option<&str> {
    cluster.strip_prefix("outbound|")?.rsplit('|').next()
}

fn full_name(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
}
