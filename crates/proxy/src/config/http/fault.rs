//! The HTTP filter that injects faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use envoy::envoy::extensions::filters::common::fault::v3::FaultDelay;
use envoy::envoy::extensions::filters::common::fault::v3::fault_delay::{FaultDelaySecifier, HeaderDelay};
use envoy::envoy::extensions::filters::http::fault::v3;
use envoy::envoy::extensions::filters::http::fault::v3::fault_abort::{ErrorType, HeaderAbort};
use http::StatusCode;

use super::route_match::HeaderMatch;
use crate::config::field::{Checked, Path, fields};
use crate::config::fraction::Fraction;

/// What is injected, and where.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The delay before a request goes on.
    pub delay: Option<FaultOf<Delay>>,
    /// The answer that takes the place of upstream's.
    pub abort: Option<FaultOf<Abort>>,
    /// What the headers of a request must be.
    pub headers: Box<[HeaderMatch]>,
    /// How many requests may suffer at once.
    pub most: Option<Most>,
}

/// How many requests may suffer at once, over all workers, and how many do.
#[derive(Debug, Clone)]
pub struct Most {
    limit: u32,
    suffering: Arc<AtomicU32>,
}

impl Most {
    /// Counts another one; `false` if as many as allowed suffer.
    pub(crate) fn begin(&self) -> bool {
        let another = |suffering: u32| (suffering < self.limit).then(|| suffering + 1);
        self.suffering.fetch_update(Ordering::Relaxed, Ordering::Relaxed, another).is_ok()
    }

    /// One that was counted suffers no more.
    pub(crate) fn end(&self) {
        self.suffering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A fault for a part of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultOf<T> {
    /// Where it is said what it is.
    pub what: Stated<T>,
    /// For how many.
    pub share: Fraction,
}

/// Where something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stated<T> {
    /// Here.
    Here(T),
    /// In the headers of the request.
    InHeaders,
}

/// How long requests are delayed.
pub type Delay = Duration;

/// How requests are aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// With a status of HTTP.
    Http(StatusCode),
    /// With a status of gRPC.
    Grpc(u32),
}

impl Fault {
    pub(super) fn from_message(at: &Path<'_>, message: v3::HttpFault) -> Checked<Fault> {
        // There is no runtime that could overrule anything, and statistics are kept by filter, not by caller.
        fields!(at, message => v3::HttpFault { delay, abort, headers, max_active_faults }
            refuse { upstream_cluster, downstream_nodes, response_rate_limit, filter_metadata }
            ignore { delay_percent_runtime, abort_percent_runtime, delay_duration_runtime, abort_http_status_runtime,
                max_active_faults_runtime, response_rate_limit_percent_runtime, abort_grpc_status_runtime,
                disable_downstream_cluster_stats });
        Ok(Fault {
            delay: delay.map(|d| delay_of(&at.field("delay"), d)).transpose()?,
            abort: abort.map(|a| abort_of(&at.field("abort"), a)).transpose()?,
            headers: HeaderMatch::from_messages(&at.field("headers"), headers)?,
            most: max_active_faults.map(|limit| Most { limit, suffering: Arc::default() }),
        })
    }
}

/// The share of a message; without one it is nothing, as with any protobuf.
fn share(at: &Path<'_>, message: Option<envoy::envoy::r#type::v3::FractionalPercent>) -> Checked<Fraction> {
    Fraction::from_message(&at.field("percentage"), message.unwrap_or_default())
}

fn delay_of(at: &Path<'_>, message: FaultDelay) -> Checked<FaultOf<Delay>> {
    let FaultDelay { percentage, fault_delay_secifier } = message;
    let what = match at.required(fault_delay_secifier)? {
        FaultDelaySecifier::FixedDelay(delay) => {
            let at = at.field("fixed_delay");
            Stated::Here(at.timeout(Some(delay), None)?.ok_or_else(|| at.reject("must be more than zero"))?)
        }
        FaultDelaySecifier::HeaderDelay(HeaderDelay {}) => Stated::InHeaders,
    };
    Ok(FaultOf { what, share: share(at, percentage)? })
}

fn abort_of(at: &Path<'_>, message: v3::FaultAbort) -> Checked<FaultOf<Abort>> {
    fields!(at, message => v3::FaultAbort { percentage, error_type } refuse { response_body });
    let what = match at.required(error_type)? {
        ErrorType::HttpStatus(status) => {
            let known = u16::try_from(status).ok().filter(|status| (200..600).contains(status));
            let known = known.and_then(|status| StatusCode::from_u16(status).ok());
            Stated::Here(Abort::Http(known.ok_or_else(|| at.field("http_status").reject("must be from 200 to 599"))?))
        }
        ErrorType::GrpcStatus(status) => Stated::Here(Abort::Grpc(status)),
        ErrorType::HeaderAbort(HeaderAbort {}) => Stated::InHeaders,
    };
    Ok(FaultOf { what, share: share(at, percentage)? })
}
