//! An explanation for people.

use std::fmt;

use super::explanation::{Explanation, Hop, Party, Path, Request, Route, Tls, Verdict};
use super::notes::percent;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
            Verdict::Refused => "refused",
            Verdict::Unreachable => "unreachable",
            Verdict::Answered => "answered",
            Verdict::Divided => "divided: not every endpoint takes it",
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation { verdict, reason, source, request, destination, outbound, paths, diagnostics } = self;
        writeln!(f, "{verdict}: {reason}\n")?;
        writeln!(f, "from      {source}")?;
        if let Some(request) = request {
            write!(f, "{request}")?;
        }
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

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "request   {} {}", self.method, self.url)?;
        self.headers.iter().try_for_each(|header| writeln!(f, "          {header}"))
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.pod, self.namespace)?;
        if let Some(cluster) = &self.cluster {
            write!(f, " in {cluster}")?;
        }
        match &self.identity {
            Some(identity) => write!(f, ", {identity}"),
            None => f.write_str(", without a sidecar"),
        }
    }
}

/// Where, and by what; then, in lines of their own, whose route it is and what else is worth knowing.
impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hop { listener, filter_chain, gateways, virtual_host, route, cluster, notes } = self;
        let named = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} {value}"));
        let of_requests = virtual_host.is_some();
        let cluster = named("cluster", cluster);
        let mut first: Vec<String> =
            named("listener", listener).into_iter().chain(named("chain", filter_chain)).collect();
        first.extend(gateways.iter().cloned());
        first.extend(cluster.clone().filter(|_| !of_requests));
        let host = named("virtual host", virtual_host);
        let second: Vec<String> = host
            .into_iter()
            .chain(route.as_ref().map(ToString::to_string))
            .chain(cluster.filter(|_| of_requests))
            .collect();
        let mut lines = vec![first.join(", "), second.join(", ")];
        lines.extend(notes.iter().cloned());
        lines.retain(|line| !line.is_empty());
        writeln!(f, "{}", lines.join("\n          "))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Route { name, object, rule } = self;
        let named = if name.is_empty() { "route".to_owned() } else { format!("route {name}") };
        match (object, rule) {
            (None, _) => f.write_str(&named),
            (Some(object), None) => write!(f, "{named} of {object}"),
            (Some(object), Some(rule)) => write!(f, "{named} of {object} {rule}"),
        }
    }
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.mutual { "mutual TLS" } else { "TLS" })?;
        if let Some(name) = &self.server_name {
            write!(f, " for {name}")?;
        }
        self.certificate.as_ref().map_or(Ok(()), |certificate| write!(f, ", as {certificate}"))
    }
}

impl Path {
    /// By which of several clusters it goes, or whose rules say how the one is called.
    fn way(&self) -> Option<String> {
        let upstream = self.upstream.as_ref().filter(|_| self.share < 100.0 || self.destination_rule.is_some())?;
        let share = if self.share < 100.0 { format!("{:<10}", percent(self.share)) } else { "by        ".to_owned() };
        let rule = self.destination_rule.as_ref().map(|rule| format!(", {rule}")).unwrap_or_default();
        Some(format!("{share}{upstream}{rule}"))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(way) = self.way() {
            writeln!(f, "{way}")?;
        }
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
        if !self.onward.is_empty() {
            let onward: String = self.onward.iter().map(ToString::to_string).collect();
            return onward.lines().try_for_each(|line| writeln!(f, "  {line}"));
        }
        let status = self
            .status
            .map(|status| format!(" ({status}{})", self.flag.as_ref().map(|f| format!(" {f}")).unwrap_or_default()));
        writeln!(f, "verdict   {}: {}{}", self.verdict, self.reason, status.unwrap_or_default())
    }
}
