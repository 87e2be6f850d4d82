//! The filter that notes for connections to upstream what they are to be like: which protocols they offer.

use std::sync::Arc;

use envoy::envoy::config::core::v3::SubstitutionFormatString;
use envoy::envoy::config::core::v3::substitution_format_string::Format;
use envoy::envoy::extensions::filters::common::set_filter_state::v3::FilterStateValue;
use envoy::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::{Key, Value};
use envoy::envoy::extensions::filters::http::set_filter_state::v3::Config;

use crate::config::data_source::bytes;
use crate::config::field::{Checked, Path, fields};

/// Application protocols for a handshake.
pub type Protocols = Arc<[Box<[u8]>]>;

/// Under which name the protocols are noted, which replace those of the cluster.
const PROTOCOLS: &str = "envoy.network.application_protocols";

/// The protocols that a filter notes.
pub(super) fn from_message(at: &Path<'_>, message: Config) -> Checked<Protocols> {
    fields!(at, message => Config { on_request_headers } refuse { clear_route_cache });
    let at = at.field("on_request_headers");
    let mut protocols = Protocols::default();
    for (i, value) in on_request_headers.into_iter().enumerate() {
        protocols = noted(&at.index(i), value)?;
    }
    Ok(protocols)
}

fn noted(at: &Path<'_>, message: FilterStateValue) -> Checked<Protocols> {
    // Nobody asks for it but the connection to upstream, which takes the last that is said, and takes it as it is.
    let at_key = at.field("object_key");
    fields!(at, message => FilterStateValue { key, value } refuse { factory_key }
        ignore { read_only, shared_with_upstream, skip_if_empty });
    let Key::ObjectKey(key) = at_key.required(key)?;
    if key != PROTOCOLS {
        return Err(at_key.reject(format_args!("only {PROTOCOLS:?} is supported")));
    }
    let at = at.field("format_string");
    let Value::FormatString(text) = at.required(value)?;
    fields!(&at, text => SubstitutionFormatString { format } refuse { omit_empty_values, content_type, formatters,
        json_format_options });
    let at = at.field("text_format_source");
    let Some(Format::TextFormatSource(source)) = format else { return Err(at.reject("is required")) };
    let text = bytes(&at, source)?;
    if text.contains(&b'%') {
        return Err(at.reject("must be without operators"));
    }
    let protocols = text.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|protocol| !protocol.is_empty());
    Ok(protocols.map(Box::from).collect())
}
