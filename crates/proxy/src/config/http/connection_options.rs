//! How long connections of HTTP live, and how large heads may be.

use std::num::NonZeroU32;
use std::time::Duration;

use envoy::envoy::config::core::v3;
use envoy::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;

use crate::config::field::{Checked, Path, fields};

/// How long a connection may have no stream if the configuration does not say (Envoy 1.40).
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// How many headers a head may have if the configuration does not say (Envoy 1.40).
const HEADERS: NonZeroU32 = NonZeroU32::new(100).expect("100 is not zero");
/// The largest head of a response if the configuration does not say, in KiB (Envoy 1.40).
const RESPONSE_HEAD: NonZeroU32 = NonZeroU32::new(60).expect("60 is not zero");

/// What HTTP/1 and HTTP/2 connections have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// How long a connection may have no stream; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may live before it is drained; `None` is for ever.
    pub max_duration: Option<Duration>,
    /// How many requests a connection carries; `None` is without limit.
    pub max_requests: Option<NonZeroU32>,
    /// How many headers a head may have.
    pub max_headers: usize,
    /// The largest head of a response from upstream, in bytes.
    pub max_response_head: usize,
    /// How long a stream may live; `None` is for ever.
    pub max_stream_duration: Option<Duration>,
    /// What is done about headers with underscores in their names.
    pub underscores: Underscores,
}

/// What is done about headers with underscores in their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underscores {
    /// Nothing.
    Allow,
    /// The request is answered with 400.
    Reject,
    /// They are dropped.
    Drop,
}

impl ConnectionOptions {
    pub(super) fn from_message(at: &Path<'_>, message: Option<v3::HttpProtocolOptions>) -> Checked<ConnectionOptions> {
        fields!(at, message.unwrap_or_default() => v3::HttpProtocolOptions { idle_timeout, max_connection_duration,
                max_headers_count, max_response_headers_kb, max_stream_duration, headers_with_underscores_action,
                max_requests_per_connection }
            refuse { max_connection_duration_jitter });
        let headers = at.field("max_headers_count").at_least_one(max_headers_count, HEADERS)?;
        let response_head = at.field("max_response_headers_kb").at_least_one(max_response_headers_kb, RESPONSE_HEAD)?;
        Ok(ConnectionOptions {
            idle_timeout: at.field("idle_timeout").timeout(idle_timeout, Some(IDLE_TIMEOUT))?,
            max_duration: at.field("max_connection_duration").timeout(max_connection_duration, None)?,
            max_requests: max_requests_per_connection.and_then(NonZeroU32::new),
            max_headers: usize::try_from(headers.get()).unwrap_or(usize::MAX),
            max_response_head: usize::try_from(response_head.get()).unwrap_or(usize::MAX).saturating_mul(1024),
            max_stream_duration: at.field("max_stream_duration").timeout(max_stream_duration, None)?,
            underscores: match at
                .field("headers_with_underscores_action")
                .enumeration(headers_with_underscores_action)?
            {
                HeadersWithUnderscoresAction::Allow => Underscores::Allow,
                HeadersWithUnderscoresAction::RejectRequest => Underscores::Reject,
                HeadersWithUnderscoresAction::DropHeader => Underscores::Drop,
            },
        })
    }
}
