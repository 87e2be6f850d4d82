//! Copies of requests.

use std::sync::Arc;

use envoy::envoy::config::route::v3::route_action::RequestMirrorPolicy;

use crate::config::field::{Checked, Path, fields};
use crate::config::fraction::Fraction;

/// Where copies of requests go, whose responses nobody reads.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// The cluster that gets them.
    pub cluster: Arc<str>,
    /// How many requests are copied.
    pub share: Fraction,
    /// Whether the copy is traced; `None` is as the request.
    pub traced: Option<bool>,
    /// Whether the copy's authority ends in `-shadow`.
    pub shadow_suffix: bool,
}

impl Mirror {
    pub(super) fn from_messages(at: &Path<'_>, messages: Vec<RequestMirrorPolicy>) -> Checked<Box<[Mirror]>> {
        messages.into_iter().enumerate().map(|(i, message)| Mirror::from_message(&at.index(i), message)).collect()
    }

    fn from_message(at: &Path<'_>, message: RequestMirrorPolicy) -> Checked<Mirror> {
        fields!(at, message => RequestMirrorPolicy { cluster, runtime_fraction, trace_sampled,
                disable_shadow_host_suffix_append }
            refuse { cluster_header, request_headers_mutations, host_rewrite_literal });
        let share = runtime_fraction.map(|f| Fraction::from_runtime(&at.field("runtime_fraction"), f));
        Ok(Mirror {
            cluster: at.field("cluster").named(&cluster)?.into(),
            share: share.transpose()?.unwrap_or(Fraction::ALL),
            traced: trace_sampled,
            shadow_suffix: !disable_shadow_host_suffix_append,
        })
    }
}
