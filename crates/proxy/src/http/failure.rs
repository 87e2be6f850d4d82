//! Why upstream did not answer, in Envoy's words.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use h2::Reason;

use super::pool::Unavailable;
use crate::access_log::Flag;

/// Why upstream did not answer, or did not answer to the end.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// No connection came about, for this reason.
    Connect(Arc<str>),
    /// No connection came about in time.
    ConnectTimeout,
    /// A circuit breaker was open.
    Overflow,
    /// The connection ended.
    Terminated,
    /// Upstream reset the stream.
    Reset,
    /// Upstream refused the stream, and has done nothing with it.
    Refused,
    /// This proxy reset the stream.
    LocalReset,
    /// Upstream does not speak the protocol.
    Protocol,
    /// An attempt took too long.
    PerTryTimeout,
    /// It all took too long.
    Timeout,
}

impl Failure {
    /// What an error of a connection stands for.
    pub(crate) fn of(e: &hyper::Error) -> Failure {
        let mut cause = e.source();
        while let Some(e) = cause {
            if let Some(e) = e.downcast_ref::<h2::Error>() {
                return match e.reason() {
                    Some(Reason::REFUSED_STREAM) => Failure::Refused,
                    Some(Reason::PROTOCOL_ERROR | Reason::FRAME_SIZE_ERROR | Reason::COMPRESSION_ERROR)
                        if !e.is_remote() =>
                    {
                        Failure::Protocol
                    }
                    _ if e.is_io() || e.is_go_away() => Failure::Terminated,
                    _ if e.is_remote() => Failure::Reset,
                    _ => Failure::LocalReset,
                };
            }
            cause = e.source();
        }
        if e.is_parse() { Failure::Protocol } else { Failure::Terminated }
    }

    /// Its name where names have underscores.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Failure::Connect(_) => "remote_connection_failure",
            Failure::ConnectTimeout => "connection_timeout",
            Failure::Overflow => "overflow",
            Failure::Terminated => "connection_termination",
            Failure::Reset => "remote_reset",
            Failure::Refused => "remote_refused_stream_reset",
            Failure::LocalReset => "local_reset",
            Failure::Protocol => "protocol_error",
            Failure::PerTryTimeout => "upstream_per_try_timeout",
            Failure::Timeout => "response_timeout",
        }
    }

    pub(crate) fn flag(&self) -> Flag {
        match self {
            Failure::Connect(_) | Failure::ConnectTimeout => Flag::UpstreamConnectionFailure,
            Failure::Overflow => Flag::UpstreamOverflow,
            Failure::Terminated => Flag::UpstreamConnectionTermination,
            Failure::Reset | Failure::Refused => Flag::UpstreamRemoteReset,
            Failure::LocalReset => Flag::LocalReset,
            Failure::Protocol => Flag::UpstreamProtocolError,
            Failure::PerTryTimeout | Failure::Timeout => Flag::UpstreamRequestTimeout,
        }
    }

    /// What the transport says of it.
    pub(crate) fn transport(&self) -> Option<&Arc<str>> {
        match self {
            Failure::Connect(reason) => Some(reason),
            _ => None,
        }
    }
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Failure {
        match unavailable {
            Unavailable::Overflow => Failure::Overflow,
            Unavailable::Failed(e) if e.timed_out => Failure::ConnectTimeout,
            Unavailable::Failed(e) => Failure::Connect(e.reason),
        }
    }
}

/// In words.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().replace('_', " "))
    }
}

impl Error for Failure {}
