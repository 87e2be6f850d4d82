//! The way of a connection, and its end.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::istio::{Action, MutualTlsMode, SpiffeId};
use k8s_openapi::api::core::v1::{Pod, Service};
use proxy::config::{Direction, EndpointAddress, SanKind, Socket, Terminal, UpstreamTls};
use proxy::inspect::Hello;
use proxy::rbac::Verdict as Authorization;
use proxy::select::{Arrival, Connection, Outcome, Selection, Target, select};
use xds::{Mesh, ObjectRef, Objects, Role};

use super::explanation::{Destination, Explanation, Hop, Party, Path, Tls, Verdict};
use super::question::{endpoints, ip};
use super::sidecar::{Certificate, Sidecar, lets_in, lets_out};

/// A port that nobody looks at: connections have some source port.
const SOURCE_PORT: u16 = 40000;

/// A connection that somebody asks about.
pub(super) struct Question<'a> {
    /// Who connects.
    pub(super) from: &'a Pod,
    /// Whom to, in the words of whoever asks.
    pub(super) asked: String,
    /// What that means.
    pub(super) to: SocketAddr,
}

/// Follows the connection that is asked about.
pub(super) fn explain(objects: &Objects, question: &Question<'_>) -> anyhow::Result<Explanation> {
    let mesh = Mesh::new(objects);
    let certificate = Certificate::new()?;
    let client = Sidecar::of(&mesh, question.from, &certificate)?;
    let mut world = World { objects, mesh, certificate, question, found: BTreeSet::new() };
    let captured = client.as_ref().filter(|_| !lets_out(question.from, question.to.port()));
    let (outbound, paths) = match captured {
        None => (None, world.directly()?),
        Some(client) => world.through(client)?,
    };
    let verdict = match paths.as_slice() {
        [] => Verdict::Unreachable,
        [first, rest @ ..] if rest.iter().all(|p| p.verdict == first.verdict) => first.verdict,
        paths if paths.iter().all(|p| p.verdict != Verdict::Allowed) => paths[0].verdict,
        _ => Verdict::Divided,
    };
    let reason = paths.iter().find(|p| p.verdict != Verdict::Allowed).or(paths.first());
    Ok(Explanation {
        verdict,
        reason: reason.map_or_else(|| "there is nowhere to go".to_owned(), |p| p.reason.clone()),
        source: world.party(question.from, client.is_some()),
        destination: Destination { asked: question.asked.clone(), address: question.to },
        outbound,
        diagnostics: world.found.into_iter().collect(),
        paths,
    })
}

/// What an answer is made from.
struct World<'a> {
    objects: &'a Objects,
    mesh: Mesh,
    certificate: Certificate,
    question: &'a Question<'a>,
    /// What objects on the way say without effect.
    found: BTreeSet<String>,
}

/// A connection that has left the caller's side.
struct Sent<'s> {
    tls: Option<&'s UpstreamTls>,
    client: Option<&'s Sidecar>,
}

impl World<'_> {
    /// From a pod without a sidecar.
    fn directly(&mut self) -> anyhow::Result<Vec<Path>> {
        self.routed(self.question.to, &Sent { tls: None, client: None })
    }

    /// From a pod with one.
    fn through(&mut self, client: &Sidecar) -> anyhow::Result<(Option<Hop>, Vec<Path>)> {
        let connection = Connection {
            arrival: Arrival::Captured(Direction::Outbound),
            destination: self.question.to,
            source: self.source(),
            hello: None,
            spoken: None,
            identities: &[],
            random: 0,
        };
        let selection = select(&client.snapshot, &connection);
        let mut hop = hop(&selection);
        let (pod, to) = (&client.node.name, self.question.to);
        if hop.cluster.as_deref() == Some("PassthroughCluster") {
            hop.notes.push(format!("no service that {pod} may call has {to}: the connection passes as it is"));
        }
        self.note_choice(&selection, &mut hop);
        let named = hop.cluster.as_deref().and_then(service_of).map(str::to_owned);
        self.find(client, named.as_deref());
        let paths = match &selection.outcome {
            Outcome::Proxied { targets, .. } => {
                let mut paths = Vec::new();
                for target in targets {
                    paths.extend(self.sent(target, client)?);
                }
                paths
            }
            Outcome::NoEndpoint(cluster) if &*cluster.name == xds::BLACK_HOLE => {
                vec![end(format!("{pod} may call nothing but known services, and none has {to}"))]
            }
            outcome @ Outcome::Http(_) => vec![path(None, Verdict::Allowed, nowhere(outcome, pod))],
            outcome => vec![end(nowhere(outcome, pod))],
        };
        Ok((Some(hop), paths))
    }

    fn note_choice(&self, selection: &Selection<'_>, hop: &mut Hop) {
        let clusters = selection.chain.map_or(0, |chain| match &chain.terminal {
            Terminal::Tcp(proxy) => proxy.cluster.clusters().count(),
            // Each request has a route of its own.
            Terminal::Http(_) => 0,
        });
        if clusters > 1 {
            hop.notes.push(format!("it is one of {clusters} clusters that connections are split over by weight"));
        }
    }

    fn sent(&mut self, target: &Target<'_>, client: &Sidecar) -> anyhow::Result<Vec<Path>> {
        let tls = match target.socket {
            Socket::Raw => None,
            Socket::Tls(tls) => Some(&**tls),
        };
        match &target.address {
            EndpointAddress::Ip(address) => self.routed(*address, &Sent { tls, client: Some(client) }),
            EndpointAddress::Name { host, port } => {
                let reason = format!("it goes to whatever {host} stands for in DNS");
                Ok(vec![Path {
                    tls: tls.map(tls_of),
                    ..path(Some(format!("{host}:{port}")), Verdict::Allowed, reason)
                }])
            }
        }
    }

    /// What the cluster's network makes of an address: a service's stands for its endpoints.
    fn routed(&mut self, address: SocketAddr, sent: &Sent<'_>) -> anyhow::Result<Vec<Path>> {
        let Some(service) = self.objects.services.iter().find(|s| has_address(s, address.ip())) else {
            return Ok(vec![self.arrive(address, sent)?]);
        };
        let name = format!("Service {}", full_name(&service.metadata));
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
        let Some(port) = ports.into_iter().find(|p| u16::try_from(p.port) == Ok(address.port())) else {
            return Ok(vec![end(format!("{name} has no port {}", address.port()))]);
        };
        let wanted = port.name.as_deref().unwrap_or_default();
        let places: BTreeSet<SocketAddr> = endpoints(self.objects, service)
            .filter(|(_, name, _)| *name == wanted)
            .filter_map(|(address, _, port)| Some(SocketAddr::new(address.parse().ok()?, port)))
            .collect();
        if places.is_empty() {
            return Ok(vec![end(format!("{name} has no endpoint for port {}", address.port()))]);
        }
        places.into_iter().map(|place| self.arrive(place, sent)).collect()
    }

    /// What becomes of the connection where it arrives.
    fn arrive(&mut self, address: SocketAddr, sent: &Sent<'_>) -> anyhow::Result<Path> {
        let objects = self.objects;
        let tls = sent.tls.map(tls_of);
        let Some(pod) = objects.pods.iter().find(|p| ip(p) == Some(address.ip())) else {
            let reason = format!("{} is no pod's, so nothing here decides about it", address.ip());
            return Ok(Path { tls, ..path(Some(address.to_string()), Verdict::Allowed, reason) });
        };
        let server = Sidecar::of(&self.mesh, pod, &self.certificate)?;
        let destination = Some(self.party(pod, server.is_some()));
        let end = match &server {
            Some(_) if lets_in(pod, address.port()) => {
                let reason = format!("connections to port {} go past the pod's sidecar", address.port());
                path(Some(address.to_string()), Verdict::Allowed, reason)
            }
            Some(server) => self.inbound(address, sent, server),
            None => {
                let name = full_name(&pod.metadata);
                let (verdict, reason) = match sent.tls {
                    None => (Verdict::Allowed, format!("{name} has no sidecar, so nobody asks who calls")),
                    Some(_) => (Verdict::Refused, format!("{name} has no sidecar that could take TLS")),
                };
                path(Some(address.to_string()), verdict, reason)
            }
        };
        Ok(Path { tls, destination, ..end })
    }

    fn inbound(&mut self, address: SocketAddr, sent: &Sent<'_>, server: &Sidecar) -> Path {
        let hello = sent.tls.map(|tls| Hello {
            server_name: tls.sni.as_deref().map(Into::into),
            application_protocols: tls.settings.alpn.iter().map(|name| (&**name).into()).collect(),
        });
        let mutual = sent.tls.is_some_and(|tls| tls_of(tls).mutual);
        let identity = sent.client.filter(|_| mutual).map(|_| self.identity(self.question.from));
        let identities: Vec<Arc<str>> = identity.iter().map(|id| id.as_str().into()).collect();
        let arrival = match server.node.role {
            Role::Sidecar => Arrival::Captured(Direction::Inbound),
            Role::Router => Arrival::At(address),
        };
        let connection = Connection {
            arrival,
            destination: address,
            source: self.source(),
            hello: hello.as_ref(),
            spoken: None,
            identities: &identities,
            random: 0,
        };
        let selection = select(&server.snapshot, &connection);
        let mut hop = hop(&selection);
        let (mode, saying) = self.mesh.accepted(&server.node, address.port());
        let says = saying.as_ref().map_or_else(|| "by default".to_owned(), |object| format!("says {object}"));
        match server.node.role {
            Role::Sidecar => hop.notes.push(format!("port {} is {}, {says}", address.port(), name_of(mode))),
            Role::Router => hop.notes.push("the pod is a gateway, which sends on what it takes".to_owned()),
        }
        if hop.cluster.as_deref() == Some("InboundPassthroughCluster") {
            let note = format!("no service declares port {} of the pod: the connection passes through", address.port());
            hop.notes.push(note);
        }
        let end = self.judge(&selection, server, mode, saying, identity.as_deref());
        let end = self.trusted(sent, server).map_or(end, |refusal| refusal);
        self.find(server, None);
        Path { endpoint: Some(address.to_string()), inbound: Some(hop), ..end }
    }

    fn judge(
        &self,
        selection: &Selection<'_>,
        server: &Sidecar,
        mode: MutualTlsMode,
        saying: Option<ObjectRef>,
        identity: Option<&str>,
    ) -> Path {
        let name = format!("{}/{}", server.node.namespace, server.node.name);
        let who = identity.map_or_else(|| "a caller without an identity".to_owned(), |id| format!("{id:?}"));
        let policies = self.mesh.authorization_policies(&server.node);
        let (verdict, reason, by) = match &selection.outcome {
            Outcome::Proxied { .. } => match deciding(&selection.verdicts) {
                Some(rule) => (Verdict::Allowed, format!("{rule} lets {who} in"), vec![rule]),
                None if policies.is_empty() => (Verdict::Allowed, format!("no policy holds for {name}"), Vec::new()),
                None => (Verdict::Allowed, format!("no policy for {name} refuses {who}"), named(&policies, |_| true)),
            },
            Outcome::Denied(verdict) => match verdict.policy.map(|id| rule(id)) {
                Some(rule) => (Verdict::Denied, format!("{rule} refuses {who}"), vec![rule]),
                None => {
                    let all = named(&policies, |action| action == Action::Allow);
                    (Verdict::Denied, format!("no rule of {} lets {who} in", all.join(", ")), all)
                }
            },
            Outcome::NoChain if mode == MutualTlsMode::Strict && server.node.role == Role::Sidecar => {
                let by: Vec<String> = saying.iter().map(ToString::to_string).collect();
                let reason = format!("{} asks for mutual TLS, and the caller has none", by.join(""));
                (Verdict::Refused, reason, by)
            }
            Outcome::TlsRefused(refusal) => {
                let by = saying.iter().map(ToString::to_string).collect();
                (Verdict::Refused, format!("the handshake fails: {refusal}"), by)
            }
            outcome @ Outcome::Http(_) => (Verdict::Allowed, nowhere(outcome, &name), Vec::new()),
            outcome => (Verdict::Unreachable, nowhere(outcome, &name), Vec::new()),
        };
        Path { decided_by: by, ..path(None, verdict, reason) }
    }

    /// Why the caller's sidecar does not take the server for whom it expects, if so.
    fn trusted(&self, sent: &Sent<'_>, server: &Sidecar) -> Option<Path> {
        let demands = sent.client?.snapshot.validation(&sent.tls?.settings.validation)?;
        let pod = self.objects.pods.iter().find(|p| {
            p.metadata.name.as_ref() == Some(&server.node.name)
                && p.metadata.namespace.as_ref() == Some(&server.node.namespace)
        })?;
        let identity = self.identity(pod);
        let known = demands.names.is_empty() || demands.names.iter().any(|name| name.matches(SanKind::Uri, &identity));
        let reason = || format!("the caller does not expect {identity} there");
        (!known).then(|| path(None, Verdict::Refused, reason()))
    }

    fn source(&self) -> SocketAddr {
        SocketAddr::new(ip(self.question.from).unwrap_or(IpAddr::from([0, 0, 0, 0])), SOURCE_PORT)
    }

    fn party(&self, pod: &Pod, sidecar: bool) -> Party {
        Party {
            pod: pod.metadata.name.clone().unwrap_or_default(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            sidecar,
            identity: sidecar.then(|| self.identity(pod)),
        }
    }

    /// Who a pod is.
    fn identity(&self, pod: &Pod) -> String {
        let account = pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
        let id = SpiffeId {
            trust_domain: self.mesh.config().trust_domain.clone(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            service_account: account.unwrap_or_else(|| "default".to_owned()),
        };
        id.to_string()
    }

    /// Keeps what is said about objects that have to do with a side of the connection.
    fn find(&mut self, side: &Sidecar, host: Option<&str>) {
        let config = self.mesh.config();
        let policies = self.mesh.authorization_policies(&side.node);
        let own = [side.node.namespace.as_str(), config.root_namespace.as_str()];
        let all = self.mesh.diagnostics().iter().chain(&side.diagnostics);
        let concerns = |object: &ObjectRef| match object.kind.as_str() {
            "AuthorizationPolicy" => policies.iter().any(|(policy, _)| policy == object),
            "Service" => host.is_some_and(|h| h.starts_with(&format!("{}.{}.", object.name, object.namespace))),
            _ => own.contains(&object.namespace.as_str()),
        };
        let found: Vec<String> = all.filter(|d| concerns(&d.object)).map(ToString::to_string).collect();
        self.found.extend(found);
    }
}

fn path(endpoint: Option<String>, verdict: Verdict, reason: String) -> Path {
    Path { endpoint, tls: None, destination: None, inbound: None, verdict, reason, decided_by: Vec::new() }
}

/// The connection goes no further than the caller's side.
fn end(reason: String) -> Path {
    path(None, Verdict::Unreachable, reason)
}

fn hop(selection: &Selection<'_>) -> Hop {
    let cluster = match &selection.outcome {
        Outcome::Proxied { cluster, .. } | Outcome::NoEndpoint(cluster) => Some(cluster.name.to_string()),
        Outcome::NoCluster(name) => Some(name.to_string()),
        Outcome::NoListener | Outcome::NoChain | Outcome::Http(_) => None,
        // Where it would go.
        Outcome::TlsRefused(_) | Outcome::Denied(_) => {
            selection.chain.and_then(|chain| chain.terminal.clusters().first().map(|name| name.to_string()))
        }
    };
    Hop {
        listener: selection.listener.map(|l| l.name.to_string()),
        filter_chain: selection.chain.map(|c| c.name.to_string()),
        cluster,
        notes: Vec::new(),
    }
}

/// Why a connection comes to no endpoint.
fn nowhere(outcome: &Outcome<'_>, pod: &str) -> String {
    match outcome {
        Outcome::NoListener => format!("no listener of {pod} takes it"),
        Outcome::NoChain => format!("no filter chain of {pod} takes it"),
        Outcome::NoCluster(name) => format!("a route of {pod} names {name}, which is not there"),
        Outcome::NoEndpoint(cluster) => format!("{} has no endpoint", cluster.name),
        Outcome::TlsRefused(refusal) => format!("the handshake fails: {refusal}"),
        Outcome::Http(_) => {
            format!("{pod} takes requests of HTTP there, and routes and policies decide about each of them")
        }
        Outcome::Denied(_) | Outcome::Proxied { .. } => String::new(),
    }
}

fn tls_of(tls: &UpstreamTls) -> Tls {
    let own = tls.settings.secrets().any(|secret| &*secret.name == "default");
    Tls { mutual: own, server_name: tls.sni.as_deref().map(str::to_owned) }
}

/// The rule by which a connection was let in.
fn deciding(verdicts: &[Authorization<'_>]) -> Option<String> {
    let admitted = |v: &&Authorization<'_>| v.action == proxy::rbac::Action::Allow;
    verdicts.iter().find(admitted).and_then(|v| v.policy).map(|id| rule(id))
}

/// A policy's id as its object and rule.
fn rule(id: &str) -> String {
    let parts = id.strip_prefix("ns[").and_then(|rest| rest.strip_suffix(']'));
    let parts: Vec<&str> = parts.map(|p| p.split("]-").collect()).unwrap_or_default();
    match parts.as_slice() {
        [namespace, policy, rule] => {
            let policy = policy.trim_start_matches("policy[");
            format!("AuthorizationPolicy {namespace}/{policy} rule {}", rule.trim_start_matches("rule["))
        }
        _ => id.to_owned(),
    }
}

fn named(policies: &[(ObjectRef, Action)], of: impl Fn(Action) -> bool) -> Vec<String> {
    policies.iter().filter(|(_, action)| of(*action)).map(|(object, _)| object.to_string()).collect()
}

fn name_of(mode: MutualTlsMode) -> &'static str {
    match mode {
        MutualTlsMode::Strict => "STRICT",
        MutualTlsMode::Disable => "DISABLE",
        MutualTlsMode::Permissive | MutualTlsMode::Unset => "PERMISSIVE",
    }
}

fn has_address(service: &Service, address: IpAddr) -> bool {
    let spec = service.spec.as_ref();
    let own = spec.into_iter().flat_map(|s| s.cluster_ip.iter().chain(s.cluster_ips.iter().flatten()));
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let outer = balancer.into_iter().flat_map(|b| b.ingress.iter().flatten()).filter_map(|i| i.ip.as_ref());
    own.chain(outer).any(|ip| ip.parse() == Ok(address))
}

/// The host of an outbound cluster.
fn service_of(cluster: &str) -> Option<&str> {
    cluster.strip_prefix("outbound|")?.rsplit('|').next()
}

fn full_name(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
}
