//! An explanation for people.

use std::fmt;

use super::explanation::{Explanation, Hop, Party, Path, Tls, Verdict};

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
            Verdict::Refused => "refused",
            Verdict::Unreachable => "unreachable",
            Verdict::Divided => "divided: not every endpoint takes it",
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation { verdict, reason, source, destination, outbound, paths, diagnostics } = self;
        writeln!(f, "{verdict}: {reason}\n")?;
        writeln!(f, "from      {source}")?;
        let address = destination.address;
        match destination.asked.parse() == Ok(address.ip()) {
            true => writeln!(f, "to        {address}")?,
            false => writeln!(f, "to        {} ({address})", destination.asked)?,
        }
        if let Some(hop) = outbound {
            write!(f, "outbound  {hop}")?;
        }
        paths.iter().try_for_each(|path| write!(f, "{path}"))?;
        if !diagnostics.is_empty() {
            f.write_str("\n")?;
        }
        diagnostics.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.pod, self.namespace)?;
        match &self.identity {
            Some(identity) => write!(f, ", {identity}"),
            None => f.write_str(", without a sidecar"),
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("listener", &self.listener), ("chain", &self.filter_chain), ("cluster", &self.cluster)];
        let parts = parts.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name} {value}")));
        writeln!(f, "{}", parts.collect::<Vec<_>>().join(", "))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "          {note}"))
    }
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.mutual { "mutual TLS" } else { "TLS" })?;
        self.server_name.as_ref().map_or(Ok(()), |name| write!(f, " for {name}"))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = self.tls.as_ref().map_or_else(|| "plaintext".to_owned(), ToString::to_string);
        if let Some(endpoint) = &self.endpoint {
            writeln!(f, "endpoint  {endpoint} in {tls}")?;
        }
        if let Some(pod) = &self.destination {
            writeln!(f, "          {pod}")?;
        }
        if let Some(hop) = &self.inbound {
            write!(f, "inbound   {hop}")?;
        }
        writeln!(f, "verdict   {}: {}", self.verdict, self.reason)
    }
}
