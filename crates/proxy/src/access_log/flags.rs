//! What went wrong with a connection, in Envoy's letters.

use std::fmt;

/// A response flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Flag {
    /// The proxy's own health check failed.
    FailedLocalHealthCheck,
    /// No endpoint takes connections.
    NoHealthyUpstream,
    /// Upstream took too long to answer.
    UpstreamRequestTimeout,
    /// This proxy reset the connection.
    LocalReset,
    /// Upstream reset the connection.
    UpstreamRemoteReset,
    /// No connection to upstream came about.
    UpstreamConnectionFailure,
    /// Upstream ended the connection before its time.
    UpstreamConnectionTermination,
    /// A circuit breaker is open.
    UpstreamOverflow,
    /// No route or filter chain takes it.
    NoRouteFound,
    /// A delay was injected.
    DelayInjected,
    /// A fault was injected.
    FaultInjected,
    /// A rate limit was reached.
    RateLimited,
    /// An external service denied it.
    UnauthorizedExternalService,
    /// The rate limit service failed.
    RateLimitServiceError,
    /// Downstream ended the connection before its time.
    DownstreamConnectionTermination,
    /// Retries or attempts to connect were used up.
    UpstreamRetryLimitExceeded,
    /// It was silent for too long.
    StreamIdleTimeout,
    /// Its Envoy headers are invalid.
    InvalidEnvoyRequestHeaders,
    /// Downstream broke the protocol.
    DownstreamProtocolError,
    /// Upstream took its longest time.
    UpstreamMaxStreamDurationReached,
    /// It was answered from a cache.
    ResponseFromCacheFilter,
    /// A filter has not got its configuration.
    NoFilterConfigFound,
    /// It took its longest time.
    DurationTimeout,
    /// Upstream broke the protocol.
    UpstreamProtocolError,
    /// Its cluster does not exist.
    NoClusterFound,
    /// The proxy is overloaded.
    OverloadManagerTerminated,
    /// The name of upstream could not be resolved.
    DnsResolutionFailed,
    /// It was dropped by the load assignment.
    DropOverload,
    /// Downstream reset the connection.
    DownstreamRemoteReset,
    /// Everything is dropped by the load assignment.
    UnconditionalDropOverload,
}

/// Every flag with its short and its long name, in Envoy's order.
const NAMES: [(Flag, &str, &str); 30] = [
    (Flag::FailedLocalHealthCheck, "LH", "FailedLocalHealthCheck"),
    (Flag::NoHealthyUpstream, "UH", "NoHealthyUpstream"),
    (Flag::UpstreamRequestTimeout, "UT", "UpstreamRequestTimeout"),
    (Flag::LocalReset, "LR", "LocalReset"),
    (Flag::UpstreamRemoteReset, "UR", "UpstreamRemoteReset"),
    (Flag::UpstreamConnectionFailure, "UF", "UpstreamConnectionFailure"),
    (Flag::UpstreamConnectionTermination, "UC", "UpstreamConnectionTermination"),
    (Flag::UpstreamOverflow, "UO", "UpstreamOverflow"),
    (Flag::NoRouteFound, "NR", "NoRouteFound"),
    (Flag::DelayInjected, "DI", "DelayInjected"),
    (Flag::FaultInjected, "FI", "FaultInjected"),
    (Flag::RateLimited, "RL", "RateLimited"),
    (Flag::UnauthorizedExternalService, "UAEX", "UnauthorizedExternalService"),
    (Flag::RateLimitServiceError, "RLSE", "RateLimitServiceError"),
    (Flag::DownstreamConnectionTermination, "DC", "DownstreamConnectionTermination"),
    (Flag::UpstreamRetryLimitExceeded, "URX", "UpstreamRetryLimitExceeded"),
    (Flag::StreamIdleTimeout, "SI", "StreamIdleTimeout"),
    (Flag::InvalidEnvoyRequestHeaders, "IH", "InvalidEnvoyRequestHeaders"),
    (Flag::DownstreamProtocolError, "DPE", "DownstreamProtocolError"),
    (Flag::UpstreamMaxStreamDurationReached, "UMSDR", "UpstreamMaxStreamDurationReached"),
    (Flag::ResponseFromCacheFilter, "RFCF", "ResponseFromCacheFilter"),
    (Flag::NoFilterConfigFound, "NFCF", "NoFilterConfigFound"),
    (Flag::DurationTimeout, "DT", "DurationTimeout"),
    (Flag::UpstreamProtocolError, "UPE", "UpstreamProtocolError"),
    (Flag::NoClusterFound, "NC", "NoClusterFound"),
    (Flag::OverloadManagerTerminated, "OM", "OverloadManagerTerminated"),
    (Flag::DnsResolutionFailed, "DF", "DnsResolutionFailed"),
    (Flag::DropOverload, "DO", "DropOverload"),
    (Flag::DownstreamRemoteReset, "DR", "DownstreamRemoteReset"),
    (Flag::UnconditionalDropOverload, "UDO", "UnconditionalDropOverload"),
];

/// What filters say before anything is sent, and what the router says before it says why.
const FIRST: [Flag; 6] = [
    Flag::DelayInjected,
    Flag::FaultInjected,
    Flag::RateLimited,
    Flag::UnauthorizedExternalService,
    Flag::RateLimitServiceError,
    Flag::UpstreamRetryLimitExceeded,
];

impl Flag {
    /// The flag with this short name.
    pub fn parse(short: &str) -> Option<Flag> {
        NAMES.iter().find(|(_, s, _)| *s == short).map(|(flag, _, _)| *flag)
    }

    /// Its letters.
    pub fn short(self) -> &'static str {
        self.names().1
    }

    /// Its name in full.
    pub fn long(self) -> &'static str {
        self.names().2
    }

    fn names(self) -> (Flag, &'static str, &'static str) {
        NAMES[self as usize]
    }
}

/// A set of flags; displays as Envoy writes it for connections, `UF,URX` or `-`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flags(u32);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);

    /// The flags of both sets.
    #[must_use]
    pub fn union(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// This set and `flag`.
    #[must_use]
    pub const fn with(self, flag: Flag) -> Flags {
        Flags(self.0 | 1 << flag as u8)
    }

    /// Adds `flag`.
    pub fn set(&mut self, flag: Flag) {
        *self = self.with(flag);
    }

    /// Whether `flag` is in the set.
    pub fn contains(self, flag: Flag) -> bool {
        self.intersects(Flags::default().with(flag))
    }

    /// Whether no flag is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a flag is in both sets.
    pub fn intersects(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// The flags of the set, in Envoy's order.
    pub fn iter(self) -> impl Iterator<Item = Flag> {
        NAMES.iter().map(|(flag, _, _)| *flag).filter(move |flag| self.contains(*flag))
    }

    /// The same in the order in which Envoy comes to set the flags of a request.
    fn of_request(self) -> impl Iterator<Item = Flag> {
        let first = FIRST.into_iter().filter(move |flag| self.contains(*flag));
        first.chain(self.iter().filter(|flag| !FIRST.contains(flag)))
    }

    /// Writes what `name` says of each flag of a request or of a connection, with commas between.
    pub(super) fn write(self, out: &mut impl fmt::Write, request: bool, name: fn(Flag) -> &'static str) -> fmt::Result {
        let (first, rest) = if request { (Some(self.of_request()), None) } else { (None, Some(self.iter())) };
        for (i, flag) in first.into_iter().flatten().chain(rest.into_iter().flatten()).enumerate() {
            if i > 0 {
                out.write_char(',')?;
            }
            out.write_str(name(flag))?;
        }
        Ok(())
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() { f.write_str("-") } else { self.write(f, false, Flag::short) }
    }
}
