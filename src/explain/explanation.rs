//! The answer to a question.

use std::net::SocketAddr;

use serde::Serialize;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Verdict {
    /// It reaches the workload.
    Allowed,
    /// An AuthorizationPolicy refuses it.
    Denied,
    /// Both sides do not agree on TLS.
    Refused,
    /// There is nowhere to go.
    Unreachable,
    /// Some endpoints take it, others do not.
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
    pub(super) destination: Destination,
    /// What the caller's sidecar does; none if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outbound: Option<Hop>,
    /// What becomes of the connection at each endpoint that it may be sent to.
    pub(super) paths: Vec<Path>,
    /// What objects on the way say without effect.
    pub(super) diagnostics: Vec<String>,
}

/// A pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Party {
    pub(super) pod: String,
    pub(super) namespace: String,
    pub(super) sidecar: bool,
    /// Who it is to others, if it has a sidecar to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<String>,
}

/// What was called.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Destination {
    pub(super) asked: String,
    pub(super) address: SocketAddr,
}

/// What one sidecar does with the connection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hop {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listener: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) filter_chain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cluster: Option<String>,
    /// What is worth knowing about it, in sentences.
    pub(super) notes: Vec<String>,
}

/// The connection's way from the caller's side to one endpoint.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Path {
    /// None if there is nowhere to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<Tls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination: Option<Party>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inbound: Option<Hop>,
    pub(super) verdict: Verdict,
    /// Why, in a sentence.
    pub(super) reason: String,
    /// The objects that decide, each as `KIND NAMESPACE/NAME`, with the rule if it is one.
    pub(super) decided_by: Vec<String>,
}

/// How the caller's sidecar encrypts.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tls {
    /// Whether it shows the workload's own certificate.
    pub(super) mutual: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_name: Option<String>,
}
