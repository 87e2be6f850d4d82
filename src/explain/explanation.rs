//! The answer to a question.

use std::net::SocketAddr;

use serde::Serialize;

/// What becomes of a connection, or of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Verdict {
    /// It reaches the workload.
    Allowed,
    /// A policy refuses it.
    Denied,
    /// Both sides do not agree on TLS.
    Refused,
    /// There is nowhere to go.
    Unreachable,
    /// A proxy answers it in place of the workload, as it is told to.
    Answered,
    /// Some of the places that it may go to take it, others do not.
    Divided,
}

/// The answer to a question.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    pub(super) verdict: Verdict,
    /// Why, in a sentence.
    pub(super) reason: String,
    pub(super) source: Party,
    /// The request, if somebody asks about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<Request>,
    pub(super) destination: Destination,
    /// What the caller's sidecar does; none if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outbound: Option<Hop>,
    /// What becomes of it at each endpoint that it may be sent to.
    pub(super) paths: Vec<Path>,
    /// What objects on the way say without effect.
    pub(super) diagnostics: Vec<String>,
}

/// A pod.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Party {
    pub(super) pod: String,
    pub(super) namespace: String,
    /// Its cluster, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cluster: Option<String>,
    pub(super) sidecar: bool,
    /// Who it is to others, if it has a sidecar to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<String>,
}

/// A request as it was asked about.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) url: String,
    /// Each as `NAME: VALUE`.
    pub(super) headers: Vec<String>,
}

/// What was called.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Destination {
    pub(super) asked: String,
    pub(super) address: SocketAddr,
}

/// What one proxy does.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hop {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listener: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) filter_chain: Option<String>,
    /// The Gateways that have opened it, each as `Gateway NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) gateways: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) virtual_host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) route: Option<Route>,
    /// Where it goes on, if that is one cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cluster: Option<String>,
    /// What is worth knowing about it, in sentences.
    pub(super) notes: Vec<String>,
}

/// The route that takes a request, or a connection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Route {
    /// May be empty.
    pub(super) name: String,
    /// The VirtualService that has it, as `VirtualService NAMESPACE/NAME`, if one has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object: Option<String>,
    /// Its place there, as `spec.http[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
}

/// The way from a proxy to one endpoint, and on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Path {
    /// The share of all that goes to its cluster, in percent.
    pub(super) share: f64,
    /// The cluster of the proxy before, if it chose one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<String>,
    /// The object that says how that is called, as `DestinationRule NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination_rule: Option<String>,
    /// None if there is nowhere to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<Tls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination: Option<Party>,
    /// What the proxy there does: a sidecar, or a gateway that sends it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inbound: Option<Hop>,
    /// From a gateway on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) onward: Vec<Path>,
    pub(super) verdict: Verdict,
    /// Why, in a sentence.
    pub(super) reason: String,
    /// The status of the answer, where a proxy gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    /// What its access log shows for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flag: Option<String>,
    /// The objects that decide, each as `KIND NAMESPACE/NAME`, with the rule if it is one.
    pub(super) decided_by: Vec<String>,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tls {
    /// Whether the client shows its workload's own certificate.
    pub(super) mutual: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_name: Option<String>,
    /// Who another certificate says that the client is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
}

/// What all of several ways come to: what they agree on, or that they do not.
pub(super) fn sum(paths: &[Path]) -> (Verdict, String) {
    let verdict = match paths {
        [] => Verdict::Unreachable,
        [first, rest @ ..] if rest.iter().all(|path| path.verdict == first.verdict) => first.verdict,
        [first, ..] if paths.iter().all(|path| path.verdict != Verdict::Allowed) => first.verdict,
        _ => Verdict::Divided,
    };
    let telling = paths.iter().find(|path| path.verdict != Verdict::Allowed).or(paths.first());
    (verdict, telling.map_or_else(|| "there is nowhere to go".to_owned(), |path| path.reason.clone()))
}
