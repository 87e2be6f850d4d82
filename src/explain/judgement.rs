//! Who decides about a flow at a proxy, and what.

use api::istio::{Action, MutualTlsMode};
use proxy::config::http::Action as RouteAction;
use proxy::rbac::Verdict as Authorization;
use proxy::select::{LocalReply, Outcome, RequestSelection, Selection};
use xds::{ObjectRef, Role};

use super::explanation::Verdict;
use super::flow::Flow;
use super::named;
use super::sidecar::Sidecar;
use super::world::Cluster;

/// The virtual host of requests that may go nowhere, in a mesh with `outboundTrafficPolicy: REGISTRY_ONLY`.
const BLOCKED: &str = "block_all";

/// What becomes of a flow at a proxy, and why.
#[derive(Debug, Clone)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) reason: String,
    /// The status of the answer, if the proxy gives it.
    pub(super) status: Option<u16>,
    /// What its access log shows.
    pub(super) flag: Option<String>,
    pub(super) decided_by: Vec<String>,
}

impl Judgement {
    pub(super) fn new(verdict: Verdict, reason: String) -> Judgement {
        Judgement { verdict, reason, status: None, flag: None, decided_by: Vec::new() }
    }
}

/// A proxy that decides about a flow.
pub(super) struct Guard<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) proxy: &'a Sidecar,
    pub(super) flow: &'a Flow,
    pub(super) port: u16,
    /// Whether the flow reaches the workload of a sidecar.
    pub(super) inbound: bool,
    /// What the dice show.
    pub(super) random: u64,
}

impl Guard<'_> {
    /// About a connection.
    pub(super) fn of_connection(&self, selection: &Selection<'_>) -> Judgement {
        let name = self.proxy.name();
        let flag = selection.outcome.flag().map(|flag| flag.short().to_owned());
        let judgement = match &selection.outcome {
            Outcome::Proxied { .. } => self.admitted(&selection.verdicts),
            Outcome::Denied(verdict) => {
                // Every verdict but the last was an admission of a filter of its own.
                let enforced = || selection.chain.into_iter().flat_map(|c| &c.rbac).filter(|f| f.rules.is_some());
                let refused_by = enforced().nth(selection.verdicts.len().saturating_sub(1));
                self.refused(verdict, refused_by.and_then(|filter| filter.rules.as_ref()))
            }
            Outcome::NoChain => self.without_chain(),
            Outcome::TlsRefused(refusal) => {
                let by = self.accepted().1.map(|object| object.to_string());
                let opened = selection.chain.map(|chain| named::gateways(chain)).unwrap_or_default();
                let decided_by = by.into_iter().chain(opened).collect();
                Judgement { decided_by, ..Judgement::new(Verdict::Refused, format!("the handshake fails: {refusal}")) }
            }
            Outcome::NoEndpoint(cluster) if &*cluster.name == xds::BLACK_HOLE => {
                let reason = format!("{name} may call nothing but known services (REGISTRY_ONLY), and none is there");
                Judgement::new(Verdict::Unreachable, reason)
            }
            Outcome::NoListener => Judgement::new(Verdict::Unreachable, self.nobody_listens()),
            Outcome::NoCluster(to) => {
                let reason = format!("a route of {name} names {to}, which is not there");
                Judgement::new(Verdict::Unreachable, reason)
            }
            Outcome::NoEndpoint(cluster) => {
                Judgement::new(Verdict::Unreachable, format!("{} has no endpoint", cluster.name))
            }
            // Requests are judged one by one.
            Outcome::Http(_) => Judgement::new(Verdict::Allowed, String::new()),
        };
        Judgement { flag: judgement.flag.clone().or(flag), ..judgement }
    }

    /// About a request that goes on.
    pub(super) fn of_request(&self, selection: &RequestSelection<'_>) -> Judgement {
        let verdicts: Vec<_> = selection.connection.verdicts.iter().chain(&selection.verdicts).copied().collect();
        self.admitted(&verdicts)
    }

    /// About a request that the proxy answers; `selection` is none for one whose head was refused.
    pub(super) fn answered(&self, reply: &LocalReply, selection: Option<&RequestSelection<'_>>) -> Judgement {
        let judgement = match selection {
            None => Judgement::new(
                Verdict::Denied,
                format!("{} refuses the request's head: {}", self.proxy.name(), reply.details),
            ),
            Some(selection) => self.reply(reply, selection),
        };
        Judgement {
            status: Some(reply.status.as_u16()),
            flag: reply.flag.map(|flag| flag.short().to_owned()),
            ..judgement
        }
    }

    fn reply(&self, reply: &LocalReply, selection: &RequestSelection<'_>) -> Judgement {
        let name = self.proxy.name();
        if let (Some(rbac), Some(verdict)) = (selection.refused_by, selection.verdicts.last()) {
            return self.refused(verdict, rbac.rules.as_ref());
        }
        let by_route = || selection.route.and_then(|route| named::route(route).object);
        let decided_by: Vec<String> = by_route().into_iter().collect();
        let (verdict, reason, decided_by) = match (&*reply.details, selection.route.map(|route| &route.action)) {
            ("fault_filter_abort", _) => (Verdict::Answered, "a fault is injected".to_owned(), decided_by),
            (details, _) if details.starts_with("jwt_authn") => {
                let found = self.cluster.mesh.request_authentications(&self.proxy.node);
                let reason = format!("the request's token is refused: {}", String::from_utf8_lossy(&reply.body));
                (Verdict::Denied, reason, found.iter().map(ToString::to_string).collect())
            }
            ("route_not_found", _) => (Verdict::Unreachable, self.not_found(selection), selection_gateways(selection)),
            ("cluster_not_found", _) => {
                let to = super::notes::upstream(selection, self.random).unwrap_or_else(|| "a cluster".to_owned());
                (Verdict::Unreachable, format!("a route of {name} names {to}, which is not there"), decided_by)
            }
            ("no_healthy_upstream", _) => {
                let to = super::notes::upstream(selection, self.random).unwrap_or_else(|| "the cluster".to_owned());
                (Verdict::Unreachable, format!("{to} has no endpoint"), decided_by)
            }
            (_, Some(RouteAction::Respond(_))) if selection.host.is_some_and(|host| &*host.name == BLOCKED) => {
                let reason =
                    format!("{name} may call nothing but known services (REGISTRY_ONLY), and none has this host");
                (Verdict::Unreachable, reason, Vec::new())
            }
            _ => match &reply.location {
                Some(location) => (Verdict::Answered, format!("the caller is sent to {location}"), decided_by),
                None => (Verdict::Answered, format!("{name} answers in place of the service"), decided_by),
            },
        };
        Judgement { decided_by, ..Judgement::new(verdict, reason) }
    }

    fn not_found(&self, selection: &RequestSelection<'_>) -> String {
        let name = self.proxy.name();
        match selection.host {
            None => format!("no virtual host of {name} has the request's host"),
            Some(host) => format!("no route of the virtual host {} of {name} takes the request", host.name),
        }
    }

    /// What lets a flow in.
    fn admitted(&self, verdicts: &[Authorization<'_>]) -> Judgement {
        let (name, who) = (self.proxy.name(), self.flow.caller());
        let policies = self.cluster.mesh.authorization_policies(&self.proxy.node);
        let admitting = verdicts.iter().rev().find(|v| v.action == proxy::rbac::Action::Allow);
        let (reason, decided_by) = match admitting.and_then(|verdict| verdict.policy) {
            Some(id) => {
                let rule = named::rule(self.cluster, &self.proxy.node, id);
                (format!("{rule} lets {who} in"), vec![rule])
            }
            None if policies.is_empty() => (format!("no policy holds for {name}"), Vec::new()),
            None => {
                let all = policies.iter().map(|(object, _)| object.to_string()).collect();
                (format!("no policy for {name} refuses {who}"), all)
            }
        };
        Judgement { decided_by, ..Judgement::new(Verdict::Allowed, reason) }
    }

    fn refused(&self, verdict: &Authorization<'_>, rules: Option<&proxy::rbac::Rules>) -> Judgement {
        let (node, who) = (&self.proxy.node, self.flow.caller());
        let (reason, decided_by) = match verdict.policy {
            Some(id) => {
                let rule = named::rule(self.cluster, node, id);
                (format!("{rule} refuses {who}"), vec![rule])
            }
            None => {
                let all = self.allowing(rules);
                (format!("no rule of {} lets {who} in", all.join(", ")), all)
            }
        };
        Judgement { decided_by, ..Judgement::new(Verdict::Denied, reason) }
    }

    /// The objects of which none lets a flow in. Of policies some have no rule that can be held against a connection.
    fn allowing(&self, rules: Option<&proxy::rbac::Rules>) -> Vec<String> {
        let found = named::guards(self.cluster, &self.proxy.node, rules);
        let policies = self.cluster.mesh.authorization_policies(&self.proxy.node);
        let allow =
            policies.iter().filter(|(_, action)| *action == Action::Allow).map(|(object, _)| object.to_string());
        let allow: Vec<String> = allow.collect();
        let without_rules = rules.is_none_or(|rules| rules.policies.is_empty()) && !allow.is_empty();
        if without_rules || found.iter().any(|object| allow.contains(object)) { allow } else { found }
    }

    fn without_chain(&self) -> Judgement {
        let (mode, saying) = self.accepted();
        let name = self.proxy.name();
        if mode == MutualTlsMode::Strict && self.flow.layers.is_empty() {
            let by: Vec<String> = saying.iter().map(ToString::to_string).collect();
            let reason = format!("{} asks for mutual TLS, and the caller has none", by.join(""));
            return Judgement { decided_by: by, ..Judgement::new(Verdict::Refused, reason) };
        }
        let server_name = self.flow.layers.last().and_then(|layer| layer.hello.server_name.as_deref());
        let reason = match (self.proxy.node.role, server_name) {
            (Role::Router, Some(asked)) => format!("no server of {name} has the name {asked}"),
            _ => format!("no filter chain of {name} takes it"),
        };
        Judgement::new(Verdict::Unreachable, reason)
    }

    fn nobody_listens(&self) -> String {
        let name = self.proxy.name();
        match self.proxy.node.role {
            Role::Sidecar => format!("no listener of {name} takes it"),
            Role::Router => format!("no Gateway opens port {} of {name}", self.port),
        }
    }

    /// What a sidecar accepts, and who says so.
    fn accepted(&self) -> (MutualTlsMode, Option<ObjectRef>) {
        match self.inbound {
            true => self.cluster.mesh.accepted(&self.proxy.node, self.port),
            false => (MutualTlsMode::Unset, None),
        }
    }
}

fn selection_gateways(selection: &RequestSelection<'_>) -> Vec<String> {
    selection.connection.chain.map(|chain| named::gateways(chain)).unwrap_or_default()
}
