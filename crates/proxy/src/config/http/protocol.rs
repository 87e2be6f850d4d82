//! Options of HTTP/1 and of HTTP/2.

use std::num::NonZeroU32;
use std::time::Duration;

use envoy::envoy::config::core::v3;

use crate::config::field::{Checked, Path, fields};

/// How many streams an HTTP/2 connection carries at once if the configuration does not say (Envoy 1.40).
const STREAMS: NonZeroU32 = NonZeroU32::new(1024).expect("1024 is not zero");
/// The flow-control window of a stream if the configuration does not say, in bytes (Envoy 1.40).
const STREAM_WINDOW: u32 = 16 << 20;
/// The flow-control window of a connection if the configuration does not say, in bytes (Envoy 1.40).
const CONNECTION_WINDOW: u32 = 24 << 20;
/// The smallest and the largest flow-control window, in bytes.
const WINDOWS: std::ops::RangeInclusive<u32> = 65_535..=0x7fff_ffff;
/// The size of the table of header compression if the configuration does not say, in bytes.
const HPACK_TABLE: u32 = 4096;

/// The limits on frames if the configuration does not say (Envoy 1.40).
const CONTROL_FRAMES: NonZeroU32 = NonZeroU32::new(1000).expect("1000 is not zero");
const EMPTY_FRAMES: u32 = 1;
const PRIORITY_FRAMES: u32 = 100;
const WINDOW_FRAMES: NonZeroU32 = NonZeroU32::new(10).expect("10 is not zero");

/// Options of HTTP/1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http1Options {
    /// Whether a request may name its target with scheme and authority.
    pub allow_absolute_url: bool,
    /// Whether HTTP/1.0 is answered; otherwise it gets 426.
    pub accept_http_10: bool,
    /// The authority of an HTTP/1.0 request without one; may be empty.
    pub default_host: Box<str>,
    /// Whether trailers pass.
    pub trailers: bool,
    /// Whether methods that no standard knows pass.
    pub custom_methods: bool,
}

/// Options of HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Options {
    /// The size of the table of header compression, in bytes.
    pub hpack_table: u32,
    /// How many streams there may be at once.
    pub max_streams: NonZeroU32,
    /// The flow-control window of a stream, in bytes.
    pub stream_window: u32,
    /// The flow-control window of the connection, in bytes.
    pub connection_window: u32,
    /// How often the peer is asked for a sign of life, and how long it has for that.
    pub keepalive: Option<(Duration, Duration)>,
    /// Whether clients are told that they may ask for other protocols (RFC 8441). Endpoints are asked in any case.
    pub allow_connect: bool,
    /// How many frames of some kinds a client may send.
    pub frames: FrameLimits,
}

/// How many frames of some kinds a client may send before its connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Frames that want an answer, in what has come at once.
    pub control: u32,
    /// Frames in a row that carry nothing.
    pub empty: u32,
    /// Changes of priorities for each stream, and once more.
    pub priorities_per_stream: u32,
    /// Updates of windows, for each frame of data that was sent.
    pub windows_per_data: u32,
}

impl Http1Options {
    pub(super) fn from_message(at: &Path<'_>, message: Option<v3::Http1ProtocolOptions>) -> Checked<Http1Options> {
        // There is one parser.
        fields!(at, message.unwrap_or_default() => v3::Http1ProtocolOptions { allow_absolute_url, accept_http_10,
                default_host_for_http_10, enable_trailers, override_stream_error_on_invalid_http_message,
                allow_custom_methods }
            refuse { allow_chunked_length, header_key_format, send_fully_qualified_url, ignore_http_11_upgrade }
            ignore { use_balsa_parser });
        let name = "override_stream_error_on_invalid_http_message";
        at.field(name).off(override_stream_error_on_invalid_http_message)?;
        Ok(Http1Options {
            allow_absolute_url: allow_absolute_url.unwrap_or(true),
            accept_http_10,
            default_host: default_host_for_http_10.into(),
            trailers: enable_trailers,
            custom_methods: allow_custom_methods,
        })
    }
}

impl Http2Options {
    pub(super) fn from_message(at: &Path<'_>, message: Option<v3::Http2ProtocolOptions>) -> Checked<Http2Options> {
        // There is one codec. What it has to send never queues, so that the frames in its queues need no limit.
        fields!(at, message.unwrap_or_default() => v3::Http2ProtocolOptions { hpack_table_size,
                max_concurrent_streams, initial_stream_window_size, initial_connection_window_size,
                max_outbound_control_frames, max_consecutive_inbound_frames_with_empty_payload,
                max_inbound_priority_frames_per_stream, max_inbound_window_update_frames_per_data_frame_sent,
                allow_connect, override_stream_error_on_invalid_http_message, connection_keepalive }
            refuse { stream_error_on_invalid_http_messaging, allow_metadata,
                custom_settings_parameters, max_metadata_size, max_header_field_size_kb, disallow_obs_text }
            ignore { max_outbound_frames, use_oghttp2_codec, enable_huffman_encoding,
                stream_reset_burst, stream_reset_rate });
        let name = "override_stream_error_on_invalid_http_message";
        at.field(name).off(override_stream_error_on_invalid_http_message)?;
        let control = at.field("max_outbound_control_frames");
        let windows = at.field("max_inbound_window_update_frames_per_data_frame_sent");
        let streams = at.field("max_concurrent_streams").at_least_one(max_concurrent_streams, STREAMS)?;
        Ok(Http2Options {
            hpack_table: hpack_table_size.unwrap_or(HPACK_TABLE),
            max_streams: streams,
            stream_window: window(
                &at.field("initial_stream_window_size"),
                initial_stream_window_size.unwrap_or(STREAM_WINDOW),
            )?,
            connection_window: window(
                &at.field("initial_connection_window_size"),
                initial_connection_window_size.unwrap_or(CONNECTION_WINDOW),
            )?,
            keepalive: connection_keepalive
                .map(|k| keepalive(&at.field("connection_keepalive"), k))
                .transpose()?
                .flatten(),
            allow_connect,
            frames: FrameLimits {
                control: control.at_least_one(max_outbound_control_frames, CONTROL_FRAMES)?.get(),
                empty: max_consecutive_inbound_frames_with_empty_payload.unwrap_or(EMPTY_FRAMES),
                priorities_per_stream: max_inbound_priority_frames_per_stream.unwrap_or(PRIORITY_FRAMES),
                windows_per_data: windows
                    .at_least_one(max_inbound_window_update_frames_per_data_frame_sent, WINDOW_FRAMES)?
                    .get(),
            },
        })
    }
}

fn window(at: &Path<'_>, size: u32) -> Checked<u32> {
    if WINDOWS.contains(&size) { Ok(size) } else { Err(at.reject("must be from 65535 to 2147483647")) }
}

fn keepalive(at: &Path<'_>, message: v3::KeepaliveSettings) -> Checked<Option<(Duration, Duration)>> {
    // The jitter only keeps many connections from being asked at once.
    fields!(at, message => v3::KeepaliveSettings { interval, timeout } refuse { connection_idle_interval }
        ignore { interval_jitter });
    let timeout_at = at.field("timeout");
    let timeout = timeout_at.required(timeout_at.duration(timeout)?)?;
    Ok(at.field("interval").timeout(interval, None)?.map(|interval| (interval, timeout)))
}
