//! What routes ask of filters: faults, and answers to pages of other origins.

use std::collections::BTreeMap;

use api::istio::{Abort, CorsPolicy, Delay, Fault, HttpRoute, Percent, UnmatchedPreflights};
use envoy::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier};
use envoy::envoy::extensions::filters::http::cors::v3::CorsPolicy as Cors;
use envoy::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType};
use envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use prost_types::Any;

use super::matches;
use crate::{filter, wire};

/// The configuration of a route's filters, by their names.
pub(super) fn filters(route: &HttpRoute) -> BTreeMap<String, Any> {
    let fault = route.fault.as_ref().map(|f| wire::any("envoy.extensions.filters.http.fault.v3.HTTPFault", &faults(f)));
    let cors = route.cors_policy.as_ref();
    let cors = cors.map(|c| wire::any("envoy.extensions.filters.http.cors.v3.CorsPolicy", &origins(c)));
    let fault = fault.map(|config| (filter::FAULT.to_owned(), config));
    fault.into_iter().chain(cors.map(|config| (filter::CORS.to_owned(), config))).collect()
}

/// A share of requests.
pub(super) fn fraction(percent: &Percent) -> FractionalPercent {
    // One millionth of all is what Envoy counts in; the value is in the range of the type.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the value is clamped")]
    let numerator = (percent.value.clamp(0.0, 100.0) * 10_000.0).round() as u32;
    FractionalPercent { numerator, denominator: DenominatorType::Million.into() }
}

pub(super) fn all() -> FractionalPercent {
    FractionalPercent { numerator: 100, denominator: DenominatorType::Hundred.into() }
}

pub(super) fn runtime(share: FractionalPercent) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent { default_value: Some(share), ..RuntimeFractionalPercent::default() }
}

/// A share that is given in either way; neither is none.
fn share(percentage: Option<&Percent>, percent: u32) -> FractionalPercent {
    let old = FractionalPercent { numerator: percent.min(100), denominator: DenominatorType::Hundred.into() };
    percentage.map_or(old, fraction)
}

fn faults(fault: &Fault) -> HttpFault {
    let delay = |delay: &Delay| {
        let time = delay.fixed_delay.filter(wire::is_some_time)?;
        Some(FaultDelay {
            percentage: Some(share(delay.percentage.as_ref(), delay.percent)),
            fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(wire::duration(time))),
        })
    };
    let abort = |abort: &Abort| {
        let status = abort.http_status.filter(|status| (200..600).contains(status)).map(ErrorType::HttpStatus);
        let grpc = || abort.grpc_status.as_deref().and_then(super::grpc_status).map(ErrorType::GrpcStatus);
        Some(FaultAbort {
            percentage: Some(share(abort.percentage.as_ref(), abort.percent)),
            error_type: Some(status.or_else(grpc)?),
            ..FaultAbort::default()
        })
    };
    HttpFault {
        delay: fault.delay.as_ref().and_then(delay),
        abort: fault.abort.as_ref().and_then(abort),
        ..HttpFault::default()
    }
}

fn origins(cors: &CorsPolicy) -> Cors {
    let old = cors.allow_origin.iter().map(|origin| match origin.as_str() {
        "*" => wire::regex(".*"),
        origin => wire::matcher(MatchPattern::Exact(origin.to_owned())),
    });
    let origins = cors.allow_origins.iter().filter_map(matches::text);
    let unmatched = match cors.unmatched_preflights {
        UnmatchedPreflights::Unspecified | UnmatchedPreflights::Forward => true,
        UnmatchedPreflights::Ignore => false,
    };
    Cors {
        allow_origin_string_match: if cors.allow_origins.is_empty() { old.collect() } else { origins.collect() },
        allow_methods: cors.allow_methods.join(","),
        allow_headers: cors.allow_headers.join(","),
        expose_headers: cors.expose_headers.join(","),
        max_age: cors.max_age.map(|age| age.0.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: cors.allow_credentials,
        filter_enabled: Some(runtime(all())),
        forward_not_matching_preflights: Some(unmatched),
        ..Cors::default()
    }
}
