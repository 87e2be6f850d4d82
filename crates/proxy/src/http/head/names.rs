//! The names of headers that are not in the standard.

use http::HeaderName;

/// Declares constants of header names.
macro_rules! names {
    ($($constant:ident = $name:literal;)*) => {
        $(pub(crate) const $constant: HeaderName = HeaderName::from_static($name);)*
    };
}

names! {
    GRPC_MESSAGE = "grpc-message";
    GRPC_STATUS = "grpc-status";
    GRPC_TIMEOUT = "grpc-timeout";
    KEEP_ALIVE = "keep-alive";
    PROXY_CONNECTION = "proxy-connection";
    X_CLIENT_TRACE_ID = "x-client-trace-id";
    X_ENVOY_ALT_STAT_NAME = "x-envoy-upstream-alt-stat-name";
    X_ENVOY_ATTEMPT_COUNT = "x-envoy-attempt-count";
    X_ENVOY_DECORATOR_OPERATION = "x-envoy-decorator-operation";
    X_ENVOY_DEGRADED = "x-envoy-degraded";
    X_ENVOY_EXPECTED_TIMEOUT = "x-envoy-expected-rq-timeout-ms";
    X_ENVOY_EXTERNAL_ADDRESS = "x-envoy-external-address";
    X_ENVOY_FORCE_TRACE = "x-envoy-force-trace";
    X_ENVOY_HEDGE = "x-envoy-hedge-on-per-try-timeout";
    X_ENVOY_INTERNAL = "x-envoy-internal";
    X_ENVOY_IS_TIMEOUT_RETRY = "x-envoy-is-timeout-retry";
    X_ENVOY_MAX_RETRIES = "x-envoy-max-retries";
    X_ENVOY_ORIGINAL_HOST = "x-envoy-original-host";
    X_ENVOY_ORIGINAL_PATH = "x-envoy-original-path";
    X_ENVOY_OVERLOADED = "x-envoy-overloaded";
    X_ENVOY_PEER_METADATA = "x-envoy-peer-metadata";
    X_ENVOY_PEER_METADATA_ID = "x-envoy-peer-metadata-id";
    X_ENVOY_PER_TRY_TIMEOUT = "x-envoy-upstream-rq-per-try-timeout-ms";
    X_ENVOY_RATELIMITED = "x-envoy-ratelimited";
    X_ENVOY_RETRIABLE_HEADER_NAMES = "x-envoy-retriable-header-names";
    X_ENVOY_RETRIABLE_STATUS_CODES = "x-envoy-retriable-status-codes";
    X_ENVOY_RETRY_GRPC_ON = "x-envoy-retry-grpc-on";
    X_ENVOY_RETRY_ON = "x-envoy-retry-on";
    X_ENVOY_TIMEOUT = "x-envoy-upstream-rq-timeout-ms";
    X_ENVOY_TIMEOUT_ALT_RESPONSE = "x-envoy-upstream-rq-timeout-alt-response";
    X_ENVOY_UPSTREAM_SERVICE_TIME = "x-envoy-upstream-service-time";
    X_FORWARDED_CLIENT_CERT = "x-forwarded-client-cert";
    X_FORWARDED_FOR = "x-forwarded-for";
    X_FORWARDED_HOST = "x-forwarded-host";
    X_FORWARDED_PORT = "x-forwarded-port";
    X_FORWARDED_PROTO = "x-forwarded-proto";
    X_REQUEST_ID = "x-request-id";
}

/// What a request may say only if it comes from inside: it steers the router.
pub(super) const ONLY_FROM_INSIDE: [HeaderName; 13] = [
    X_ENVOY_RETRIABLE_STATUS_CODES,
    X_ENVOY_RETRIABLE_HEADER_NAMES,
    X_ENVOY_RETRY_ON,
    X_ENVOY_RETRY_GRPC_ON,
    X_ENVOY_MAX_RETRIES,
    X_ENVOY_ALT_STAT_NAME,
    X_ENVOY_TIMEOUT,
    X_ENVOY_PER_TRY_TIMEOUT,
    X_ENVOY_TIMEOUT_ALT_RESPONSE,
    X_ENVOY_EXPECTED_TIMEOUT,
    X_ENVOY_FORCE_TRACE,
    HeaderName::from_static("x-envoy-ip-tags"),
    X_ENVOY_HEDGE,
];

/// What a client may not say to the first proxy that it meets.
pub(super) const NOT_FROM_THE_EDGE: [HeaderName; 4] = [
    X_ENVOY_DECORATOR_OPERATION,
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    X_ENVOY_ORIGINAL_PATH,
];
