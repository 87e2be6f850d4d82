//! A selection as a sentence.

use std::fmt;

use super::{Outcome, Selection, Target};
use crate::config::Socket;
use crate::rbac::{Action, Verdict};

impl fmt::Display for Selection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "The connection from {} to {} is taken by ", self.source.ip(), self.destination)?;
        let Some(listener) = self.listener else { return f.write_str("no listener.") };
        write!(f, "listener {:?}", listener.name)?;
        let Some(chain) = self.chain else {
            return f.write_str(", of whose filter chains none matches, and closed.");
        };
        let chosen = if listener.chains.iter().any(|c| std::sync::Arc::ptr_eq(c, chain)) { "" } else { "default " };
        write!(f, ", {chosen}filter chain {:?}", chain.name)?;
        for verdict in self.verdicts.iter().filter(|v| v.allowed) {
            write!(f, ", allowed because {}", Reason(verdict))?;
        }
        match &self.outcome {
            // Without a listener or a chain the sentence has ended above.
            Outcome::NoListener | Outcome::NoChain => f.write_str("."),
            Outcome::TlsRefused(refusal) => write!(f, ", and refused in the TLS handshake: {refusal}."),
            Outcome::Denied(verdict) => write!(f, ", and denied because {}.", Reason(verdict)),
            Outcome::NoCluster(name) => write!(f, ", and closed: there is no cluster {name:?}."),
            Outcome::NoEndpoint(cluster) => write!(f, ", and closed: cluster {:?} has no endpoint.", cluster.name),
            Outcome::Http(_) => f.write_str(", and carries requests of HTTP."),
            Outcome::Proxied { cluster, targets } => {
                write!(f, ", and goes to cluster {:?} at ", cluster.name)?;
                for (i, target) in targets.iter().enumerate() {
                    write!(f, "{}{target}", if i > 0 { " or " } else { "" })?;
                }
                f.write_str(".")
            }
        }
    }
}

/// Why rules say what they say.
struct Reason<'a, 'r>(&'a Verdict<'r>);

impl fmt::Display for Reason<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.0.action {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
            Action::Log => "LOG",
        };
        match self.0.policy {
            Some(policy) => write!(f, "the {action} policy {policy:?} matches"),
            None => write!(f, "no {action} policy matches"),
        }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.socket {
            Socket::Raw => "unchanged",
            Socket::Tls(tls) if tls.settings.secrets().next().is_some() => "over mutual TLS",
            Socket::Tls(_) => "over TLS",
        };
        write!(f, "{} {how}", self.address)
    }
}
