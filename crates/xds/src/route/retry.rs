//! What happens to requests that fail.

use api::istio::{MeshConfig, Retries};
use envoy::envoy::config::route::v3::RetryPolicy;
use envoy::envoy::config::route::v3::retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate};
use envoy::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;

use crate::wire;

/// Istio's conditions (up to 1.23: later ones leave out the status).
const CONDITIONS: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const STATUSES: [u32; 1] = [503];
const ATTEMPTS: u32 = 2;
/// How often an endpoint is drawn that has not failed yet.
const SELECTIONS: i64 = 5;

/// The condition that a status from a list is.
const BY_STATUS: &str = "retriable-status-codes";

/// Every condition that Envoy knows.
const KNOWN: [&str; 16] = [
    "5xx",
    "cancelled",
    "connect-failure",
    "deadline-exceeded",
    "envoy-ratelimited",
    "gateway-error",
    "http3-post-connect-failure",
    "internal",
    "refused-stream",
    "reset",
    "reset-before-request",
    "resource-exhausted",
    "retriable-4xx",
    "retriable-headers",
    "retriable-status-codes",
    "unavailable",
];

/// What a route says, or else the mesh, or else Istio; `None` is that nothing is tried again.
pub(super) fn policy(own: Option<&Retries>, mesh: &MeshConfig) -> Option<RetryPolicy> {
    match own.or(mesh.default_http_retry_policy.as_ref()) {
        None => Some(RetryPolicy {
            retry_on: CONDITIONS.to_owned(),
            retriable_status_codes: STATUSES.to_vec(),
            num_retries: Some(ATTEMPTS),
            ..avoiding(true)
        }),
        Some(Retries { attempts: 0, .. }) => None,
        Some(retries) => {
            let (mut retry_on, statuses) = conditions(&retries.retry_on);
            if retries.retry_on.trim().is_empty() {
                retry_on = CONDITIONS.to_owned();
            }
            let retriable_status_codes = match retries.retry_on.trim() {
                "" => STATUSES.to_vec(),
                _ => statuses,
            };
            Some(RetryPolicy {
                retry_on,
                retriable_status_codes,
                num_retries: Some(retries.attempts),
                per_try_timeout: retries.per_try_timeout.filter(wire::is_some_time).map(wire::duration),
                retry_back_off: retries.backoff.filter(wire::is_some_time).map(|least| RetryBackOff {
                    base_interval: Some(wire::duration(least)),
                    ..RetryBackOff::default()
                }),
                ..avoiding(retries.retry_ignore_previous_hosts.unwrap_or(true))
            })
        }
    }
}

/// The words of a list that are neither conditions nor statuses.
pub(crate) fn unknown(list: &str) -> impl Iterator<Item = &str> {
    words(list).filter(|word| status(word).is_none() && !KNOWN.contains(word))
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn status(word: &str) -> Option<u32> {
    word.parse().ok().filter(|status| (100..600).contains(status))
}

/// The conditions of a list and its statuses.
fn conditions(list: &str) -> (String, Vec<u32>) {
    let statuses: Vec<u32> = words(list).filter_map(status).collect();
    let mut conditions: Vec<&str> = words(list).filter(|word| KNOWN.contains(word)).collect();
    if !statuses.is_empty() && !conditions.contains(&BY_STATUS) {
        conditions.push(BY_STATUS);
    }
    (conditions.join(","), statuses)
}

/// A policy under which endpoints that failed are avoided, or not.
fn avoiding(previous: bool) -> RetryPolicy {
    let config =
        wire::any("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", &PreviousHostsPredicate {});
    let predicate = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(config)),
    };
    RetryPolicy {
        retry_host_predicate: previous.then_some(predicate).into_iter().collect(),
        host_selection_retry_max_attempts: if previous { SELECTIONS } else { 0 },
        ..RetryPolicy::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_conditions_too() {
        assert_eq!(conditions("5xx, 503,409"), ("5xx,retriable-status-codes".to_owned(), vec![503, 409]));
        assert_eq!(conditions("reset"), ("reset".to_owned(), vec![]));
        assert_eq!(unknown("5xx,sometimes,99,599").collect::<Vec<_>>(), ["sometimes", "99"]);
    }

    #[test]
    fn no_attempts_are_no_policy() {
        let mesh = MeshConfig::default();
        assert!(policy(Some(&Retries::default()), &mesh).is_none());
        assert_eq!(policy(None, &mesh).and_then(|p| p.num_retries), Some(2));
    }
}
