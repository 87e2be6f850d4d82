//! Envoy's statistics, by subject.

use super::{Counter, Gauge, Kind, Stats};

/// Declares a set of statistics; each name is Envoy's, as it follows the name of the subject.
macro_rules! stats {
    ($(#[$about:meta])* $type:ident { $($(#[$doc:meta])* $field:ident: $kind:ident $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        pub struct $type {
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl Stats for $type {
            fn visit(&self, tell: &mut dyn FnMut(&'static str, Kind, u64)) {
                $(tell($name, Kind::$kind, self.$field.get());)*
            }
        }
    };
}

pub(super) use stats;

stats! {
    /// Of a listener, after `listener.<address>.`.
    ListenerStats {
        /// Connections that were accepted.
        cx_total: Counter "downstream_cx_total",
        /// Connections that have ended.
        cx_destroy: Counter "downstream_cx_destroy",
        /// Connections that are open.
        cx_active: Gauge "downstream_cx_active",
        /// Connections that are with the listener filters.
        pre_cx_active: Gauge "downstream_pre_cx_active",
        /// Connections with which the listener filters took too long.
        pre_cx_timeout: Counter "downstream_pre_cx_timeout",
        /// Connections that no chain took.
        no_filter_chain_match: Counter "no_filter_chain_match",
        /// Handshakes that succeeded.
        ssl_handshake: Counter "ssl.handshake",
        /// Handshakes that failed for a reason other than the peer's certificate.
        ssl_connection_error: Counter "ssl.connection_error",
        /// Handshakes without the certificate that was required.
        ssl_fail_verify_no_cert: Counter "ssl.fail_verify_no_cert",
        /// Handshakes with a certificate from nobody who is trusted.
        ssl_fail_verify_error: Counter "ssl.fail_verify_error",
        /// Handshakes with a certificate without the demanded name.
        ssl_fail_verify_san: Counter "ssl.fail_verify_san",
        /// TLS handshakes with a certificate that is none of those demanded by hash.
        ssl_fail_verify_cert_hash: Counter "ssl.fail_verify_cert_hash",
        /// Connections that began with a ClientHello.
        tls_found: Counter "tls_inspector.tls_found",
        /// Connections that did not.
        tls_not_found: Counter "tls_inspector.tls_not_found",
        /// ClientHellos that were too long.
        client_hello_too_large: Counter "tls_inspector.client_hello_too_large",
        /// ClientHellos with application protocols.
        alpn_found: Counter "tls_inspector.alpn_found",
        /// ClientHellos with a server name.
        sni_found: Counter "tls_inspector.sni_found",
    }
}

stats! {
    /// Of a cluster, after `cluster.<name>.`.
    ClusterStats {
        /// Connections that were begun.
        cx_total: Counter "upstream_cx_total",
        /// Connections that are open.
        cx_active: Gauge "upstream_cx_active",
        /// Connections that speak HTTP/1.1.
        cx_http1_total: Counter "upstream_cx_http1_total",
        /// Connections that speak HTTP/2.
        cx_http2_total: Counter "upstream_cx_http2_total",
        /// Connections that have ended.
        cx_destroy: Counter "upstream_cx_destroy",
        /// Connections that the endpoint ended.
        cx_destroy_remote: Counter "upstream_cx_destroy_remote",
        /// Connections that this proxy ended.
        cx_destroy_local: Counter "upstream_cx_destroy_local",
        /// Connections that did not come about.
        cx_connect_fail: Counter "upstream_cx_connect_fail",
        /// Connections that took too long to come about.
        cx_connect_timeout: Counter "upstream_cx_connect_timeout",
        /// Downstream connections for which all attempts were used up.
        cx_connect_attempts_exceeded: Counter "upstream_cx_connect_attempts_exceeded",
        /// Connections that a circuit breaker refused.
        cx_overflow: Counter "upstream_cx_overflow",
        /// Downstream connections for which no endpoint was there.
        cx_none_healthy: Counter "upstream_cx_none_healthy",
        /// Connections that were silent for too long.
        cx_idle_timeout: Counter "upstream_cx_idle_timeout",
        /// Bytes from endpoints.
        rx_bytes: Counter "upstream_cx_rx_bytes_total",
        /// Bytes to endpoints.
        tx_bytes: Counter "upstream_cx_tx_bytes_total",
        /// Requests.
        rq_total: Counter "upstream_rq_total",
        /// Questions for the health of endpoints.
        health_check_attempt: Counter "health_check.attempt",
        /// Those that were answered well.
        health_check_success: Counter "health_check.success",
        /// Those that were not.
        health_check_failure: Counter "health_check.failure",
        /// Those of them that were not answered at all.
        health_check_network_failure: Counter "health_check.network_failure",
        /// Requests that are under way.
        rq_active: Gauge "upstream_rq_active",
        /// Requests that were answered.
        rq_completed: Counter "upstream_rq_completed",
        /// Answers with a status of 1xx.
        rq_1xx: Counter "upstream_rq_1xx",
        /// Answers with a status of 2xx.
        rq_2xx: Counter "upstream_rq_2xx",
        /// Answers with a status of 3xx.
        rq_3xx: Counter "upstream_rq_3xx",
        /// Answers with a status of 4xx.
        rq_4xx: Counter "upstream_rq_4xx",
        /// Answers with a status of 5xx.
        rq_5xx: Counter "upstream_rq_5xx",
        /// Requests that took too long.
        rq_timeout: Counter "upstream_rq_timeout",
        /// Attempts that took too long.
        rq_per_try_timeout: Counter "upstream_rq_per_try_timeout",
        /// Requests that upstream broke off.
        rq_rx_reset: Counter "upstream_rq_rx_reset",
        /// Attempts after the first.
        rq_retry: Counter "upstream_rq_retry",
        /// Requests that succeeded after another attempt.
        rq_retry_success: Counter "upstream_rq_retry_success",
        /// Attempts that a circuit breaker refused.
        rq_retry_overflow: Counter "upstream_rq_retry_overflow",
        /// Requests that would have needed more attempts than they may have.
        rq_retry_limit_exceeded: Counter "upstream_rq_retry_limit_exceeded",
        /// Connections that wait for an upstream connection.
        pending_active: Gauge "upstream_rq_pending_active",
        /// Connections that had to wait for an upstream connection.
        pending_total: Counter "upstream_rq_pending_total",
        /// Connections that waited for an upstream connection that did not come about.
        pending_failure_eject: Counter "upstream_rq_pending_failure_eject",
        /// Connections that could not wait because too many did.
        pending_overflow: Counter "upstream_rq_pending_overflow",
        /// Times that health was disregarded because too few endpoints were healthy.
        lb_healthy_panic: Counter "lb_healthy_panic",
        /// Handshakes that succeeded.
        ssl_handshake: Counter "ssl.handshake",
        /// Handshakes that failed for a reason other than the endpoint's certificate.
        ssl_connection_error: Counter "ssl.connection_error",
        /// Handshakes with a certificate from nobody who is trusted.
        ssl_fail_verify_error: Counter "ssl.fail_verify_error",
        /// Handshakes with a certificate without the demanded name.
        ssl_fail_verify_san: Counter "ssl.fail_verify_san",
        /// TLS handshakes with a certificate that is none of those demanded by hash.
        ssl_fail_verify_cert_hash: Counter "ssl.fail_verify_cert_hash",
    }
}

impl ClusterStats {
    /// Counts an answer by its status.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        self.rq_completed.inc();
        match status.as_u16() {
            100..200 => self.rq_1xx.inc(),
            200..300 => self.rq_2xx.inc(),
            300..400 => self.rq_3xx.inc(),
            400..500 => self.rq_4xx.inc(),
            _ => self.rq_5xx.inc(),
        }
    }
}

stats! {
    /// Of the outlier detection of a cluster, after `cluster.<name>.`.
    OutlierStats {
        /// Endpoints that are out of rotation.
        ejections_active: Gauge "outlier_detection.ejections_active",
        /// Outliers that stayed because too many endpoints were out already.
        ejections_overflow: Counter "outlier_detection.ejections_overflow",
        /// Times that an endpoint was taken out of rotation.
        ejections_enforced_total: Counter "outlier_detection.ejections_enforced_total",
        /// Outliers of two kinds that could go, by an old name.
        ejections_total: Counter "outlier_detection.ejections_total",
        /// Endpoints with too many failures in a row, by an old name.
        ejections_consecutive_5xx: Counter "outlier_detection.ejections_consecutive_5xx",
        /// Endpoints that do worse than the others, by an old name.
        ejections_success_rate: Counter "outlier_detection.ejections_success_rate",
        /// Endpoints with too many failures in a row.
        detected_consecutive_5xx: Counter "outlier_detection.ejections_detected_consecutive_5xx",
        /// Those that went for it.
        enforced_consecutive_5xx: Counter "outlier_detection.ejections_enforced_consecutive_5xx",
        /// Endpoints with too many failures of a gateway in a row.
        detected_consecutive_gateway_failure: Counter "outlier_detection.ejections_detected_consecutive_gateway_failure",
        /// Those that went for it.
        enforced_consecutive_gateway_failure: Counter "outlier_detection.ejections_enforced_consecutive_gateway_failure",
        /// Endpoints with too many failures to connect in a row.
        detected_consecutive_local_origin_failure: Counter "outlier_detection.ejections_detected_consecutive_local_origin_failure",
        /// Those that went for it.
        enforced_consecutive_local_origin_failure: Counter "outlier_detection.ejections_enforced_consecutive_local_origin_failure",
        /// Endpoints that do worse than the others.
        detected_success_rate: Counter "outlier_detection.ejections_detected_success_rate",
        /// Those that went for it.
        enforced_success_rate: Counter "outlier_detection.ejections_enforced_success_rate",
        /// Endpoints that are worse to connect to than the others.
        detected_local_origin_success_rate: Counter "outlier_detection.ejections_detected_local_origin_success_rate",
        /// Those that went for it.
        enforced_local_origin_success_rate: Counter "outlier_detection.ejections_enforced_local_origin_success_rate",
        /// Endpoints that fail too large a part.
        detected_failure_percentage: Counter "outlier_detection.ejections_detected_failure_percentage",
        /// Those that went for it.
        enforced_failure_percentage: Counter "outlier_detection.ejections_enforced_failure_percentage",
        /// Endpoints that fail to connect too large a part.
        detected_local_origin_failure_percentage: Counter "outlier_detection.ejections_detected_local_origin_failure_percentage",
        /// Those that went for it.
        enforced_local_origin_failure_percentage: Counter "outlier_detection.ejections_enforced_local_origin_failure_percentage",
    }
}

stats! {
    /// Of TCP proxies, after `tcp.<prefix>.`.
    TcpStats {
        /// Connections.
        cx_total: Counter "downstream_cx_total",
        /// Connections whose cluster does not exist.
        cx_no_route: Counter "downstream_cx_no_route",
        /// Bytes from downstream.
        rx_bytes: Counter "downstream_cx_rx_bytes_total",
        /// Bytes to downstream.
        tx_bytes: Counter "downstream_cx_tx_bytes_total",
        /// Connections that were silent for too long.
        idle_timeout: Counter "idle_timeout",
        /// Connections that lived for too long.
        max_duration: Counter "max_downstream_connection_duration",
        /// Times that downstream was not read because upstream was slow.
        rx_paused: Counter "downstream_flow_control_paused_reading_total",
        /// Times that it was read again.
        rx_resumed: Counter "downstream_flow_control_resumed_reading_total",
    }
}

stats! {
    /// Of connections that speak HTTP, after `http.<prefix>.`.
    HttpStats {
        /// Connections.
        cx_total: Counter "downstream_cx_total",
        /// Connections that are open.
        cx_active: Gauge "downstream_cx_active",
        /// Connections that speak HTTP/1.1.
        cx_http1_total: Counter "downstream_cx_http1_total",
        /// Connections that speak HTTP/1.1 and are open.
        cx_http1_active: Gauge "downstream_cx_http1_active",
        /// Connections that speak HTTP/2.
        cx_http2_total: Counter "downstream_cx_http2_total",
        /// Connections that speak HTTP/2 and are open.
        cx_http2_active: Gauge "downstream_cx_http2_active",
        /// Connections that were upgraded.
        cx_upgrades_total: Counter "downstream_cx_upgrades_total",
        /// Connections that were upgraded and are open.
        cx_upgrades_active: Gauge "downstream_cx_upgrades_active",
        /// Connections with TLS.
        cx_ssl_total: Counter "downstream_cx_ssl_total",
        /// Connections with TLS that are open.
        cx_ssl_active: Gauge "downstream_cx_ssl_active",
        /// Connections that have ended.
        cx_destroy: Counter "downstream_cx_destroy",
        /// Connections on which the protocol was broken.
        cx_protocol_error: Counter "downstream_cx_protocol_error",
        /// Connections on which most requests were broken off at once.
        rq_too_many_premature_resets: Counter "downstream_rq_too_many_premature_resets",
        /// Connections that keep no buffers, since nothing has been asked on them for a while (Envoy does not count these).
        cx_resting: Gauge "downstream_cx_resting",
        /// Connections that were silent for too long.
        cx_idle_timeout: Counter "downstream_cx_idle_timeout",
        /// Connections that lived for too long.
        cx_max_duration_reached: Counter "downstream_cx_max_duration_reached",
        /// Connections that had as many requests as they may.
        cx_max_requests_reached: Counter "downstream_cx_max_requests_reached",
        /// Bytes from downstream.
        cx_rx_bytes: Counter "downstream_cx_rx_bytes_total",
        /// Bytes to downstream.
        cx_tx_bytes: Counter "downstream_cx_tx_bytes_total",
        /// Requests.
        rq_total: Counter "downstream_rq_total",
        /// Requests with HTTP/1.1.
        rq_http1_total: Counter "downstream_rq_http1_total",
        /// Requests with HTTP/2.
        rq_http2_total: Counter "downstream_rq_http2_total",
        /// Requests that are under way.
        rq_active: Gauge "downstream_rq_active",
        /// Answers of the proxy itself.
        rq_direct_response: Counter "rq_direct_response",
        /// Answers with a status of 1xx.
        rq_1xx: Counter "downstream_rq_1xx",
        /// Answers with a status of 2xx.
        rq_2xx: Counter "downstream_rq_2xx",
        /// Answers with a status of 3xx.
        rq_3xx: Counter "downstream_rq_3xx",
        /// Answers with a status of 4xx.
        rq_4xx: Counter "downstream_rq_4xx",
        /// Answers with a status of 5xx.
        rq_5xx: Counter "downstream_rq_5xx",
        /// Requests that were answered.
        rq_completed: Counter "downstream_rq_completed",
        /// Requests that downstream gave up.
        rq_rx_reset: Counter "downstream_rq_rx_reset",
        /// Requests that this proxy reset.
        rq_tx_reset: Counter "downstream_rq_tx_reset",
        /// Requests that were silent for too long.
        rq_idle_timeout: Counter "downstream_rq_idle_timeout",
        /// Requests that were not there whole in time.
        rq_timeout: Counter "downstream_rq_timeout",
        /// Requests whose head was not there in time.
        rq_header_timeout: Counter "downstream_rq_header_timeout",
        /// Requests that took longer than they may.
        rq_max_duration_reached: Counter "downstream_rq_max_duration_reached",
        /// Requests whose path was normalized by a redirect.
        rq_redirected_normalized: Counter "downstream_rq_redirected_with_normalized_path",
        /// Requests that do not match any route.
        no_route: Counter "no_route",
        /// Requests whose cluster does not exist.
        no_cluster: Counter "no_cluster",
        /// Requests that were redirected.
        rq_redirect: Counter "rq_redirect",
        /// Requests that were sent on.
        rq_total_routed: Counter "rq_total",
    }
}

stats! {
    /// Of filters that inject faults, after `http.<prefix>.`.
    FaultStats {
        /// Requests that were delayed.
        delays_injected: Counter "fault.delays_injected",
        /// Requests that were aborted.
        aborts_injected: Counter "fault.aborts_injected",
        /// Requests that were spared because enough others suffered.
        faults_overflow: Counter "fault.faults_overflow",
        /// Requests that suffer.
        active_faults: Gauge "fault.active_faults",
    }
}

stats! {
    /// Of filters that answer for calls from other origins, after `http.<prefix>.`.
    CorsStats {
        /// Requests of origins that may call.
        origin_valid: Counter "cors.origin_valid",
        /// Requests of origins that may not.
        origin_invalid: Counter "cors.origin_invalid",
    }
}

stats! {
    /// Of filters that authenticate requests by tokens, after `http.<prefix>.jwt_authn.`.
    JwtAuthnStats {
        /// Requests that had what they must have.
        allowed: Counter "allowed",
        /// Requests that had not.
        denied: Counter "denied",
        /// CORS preflights that were not looked at.
        cors_preflight_bypassed: Counter "cors_preflight_bypassed",
        /// Times that keys were fetched.
        jwks_fetch_success: Counter "jwks_fetch_success",
        /// Times that they could not be.
        jwks_fetch_failed: Counter "jwks_fetch_failed",
    }
}

stats! {
    /// Of filters that ask somebody else, after `http.<prefix>.ext_authz.`.
    ExtAuthzStats {
        /// Requests that were allowed.
        ok: Counter "ok",
        /// Requests that were denied.
        denied: Counter "denied",
        /// Requests about which nothing was answered.
        error: Counter "error",
        /// Those of them that went on all the same.
        failure_mode_allowed: Counter "failure_mode_allowed",
        /// Requests about which nobody was asked, by configuration of the filter.
        disabled: Counter "disabled",
    }
}

stats! {
    /// Of RBAC filters, after `<prefix>rbac.`.
    RbacStats {
        /// Connections that were allowed.
        allowed: Counter "allowed",
        /// Connections that were denied.
        denied: Counter "denied",
        /// Connections that the shadow rules would have allowed.
        shadow_allowed: Counter "shadow_allowed",
        /// Connections that the shadow rules would have denied.
        shadow_denied: Counter "shadow_denied",
    }
}
