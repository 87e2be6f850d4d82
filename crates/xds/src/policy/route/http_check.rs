//! What in routes for requests has no effect, whoever the caller is. The words are Istio's where it has some.

use api::istio::{
    Abort, Delay, Fault, HeaderOperations, Headers, HttpMatch, HttpRoute, Percent, Retries, Rewrite, StringMatch,
};

use super::Http;
use crate::route::{headers, retry};
use crate::{Code, Diagnostic, ObjectRef, re2, wire};

/// Finds what is wrong with a route.
pub(super) fn check(http: &Http, found: &mut Vec<Diagnostic>) {
    let mut check = Check { object: &http.object, field: &http.field, found };
    check.route(&http.route);
}

struct Check<'a> {
    object: &'a ObjectRef,
    field: &'a str,
    found: &'a mut Vec<Diagnostic>,
}

impl Check<'_> {
    fn error(&mut self, field: &str, message: impl Into<String>) {
        self.found.push(self.object.error(self.at(field), Code::InvalidValue, message));
    }

    fn warning(&mut self, field: &str, code: Code, message: impl Into<String>) {
        self.found.push(self.object.warning(self.at(field), code, message));
    }

    fn at(&self, field: &str) -> String {
        if field.is_empty() { self.field.to_owned() } else { format!("{}.{field}", self.field) }
    }

    fn route(&mut self, route: &HttpRoute) {
        self.kinds(route);
        self.weights(route);
        for (i, condition) in route.matches.iter().enumerate() {
            self.condition(&format!("match[{i}]"), condition);
        }
        if let Some(rewrite) = &route.rewrite {
            self.rewrite(rewrite);
        }
        if let Some(redirect) = &route.redirect
            && redirect.redirect_code != 0
            && !(300..400).contains(&redirect.redirect_code)
        {
            let message = format!("{} is not a valid redirect code, must be 3xx; 301 is used", redirect.redirect_code);
            self.error("redirect.redirectCode", message);
        }
        if let Some(fault) = &route.fault {
            self.fault(fault);
        }
        if let Some(retries) = &route.retries {
            self.retries(retries);
        }
        if route.timeout.is_some_and(|t| !t.0.is_zero() && !wire::is_some_time(&t)) {
            self.error("timeout", "must be at least 1ms, or 0s for none; the route has no timeout");
        }
        if let Some(changes) = &route.headers {
            self.headers("headers", changes);
        }
        for (i, destination) in route.route.iter().enumerate() {
            if let Some(changes) = &destination.headers {
                self.headers(&format!("route[{i}].headers"), changes);
            }
        }
        if let Some(cors) = &route.cors_policy {
            for (i, origin) in cors.allow_origins.iter().enumerate() {
                self.pattern(&format!("corsPolicy.allowOrigins[{i}]"), origin, false);
            }
        }
    }

    /// What a route may be beside what else.
    fn kinds(&mut self, route: &HttpRoute) {
        let kinds = [
            (!route.route.is_empty(), "route"),
            (route.redirect.is_some(), "redirect"),
            (route.direct_response.is_some(), "direct_response"),
        ];
        let present: Vec<&str> = kinds.into_iter().filter(|(present, _)| *present).map(|(_, name)| name).collect();
        match present.as_slice() {
            [] => self.error("", "HTTP route, redirect or direct_response is required; the route has no effect"),
            [_] => {}
            [first, second, ..] => {
                self.error("", format!("HTTP route cannot contain both {first} and {second}; the last has an effect"));
            }
        }
        let answers = if route.redirect.is_some() { "redirect" } else { "direct_response" };
        if route.redirect.is_some() || route.direct_response.is_some() {
            for (_, other) in [(route.fault.is_some(), "fault"), (route.rewrite.is_some(), "rewrite")]
                .into_iter()
                .filter(|(present, _)| *present)
            {
                self.error(other, format!("HTTP route cannot contain both {answers} and {other}"));
            }
        }
        if route.mirror.is_some() && !route.mirrors.is_empty() {
            self.error("mirrors", "HTTP route cannot contain both mirror and mirrors; mirrors has no effect");
        }
    }

    fn weights(&mut self, route: &HttpRoute) {
        if route.route.len() > 1 && route.route.iter().all(|d| d.weight == 0) {
            self.error("route", "total destination weight = 0; the route has no effect");
        }
        for (i, _) in route.route.iter().enumerate().filter(|(_, d)| d.destination.host.is_empty()) {
            self.error(&format!("route[{i}].destination"), "destination is required; calls that go there fail");
        }
    }

    fn condition(&mut self, field: &str, condition: &HttpMatch) {
        let texts = [
            ("uri", &condition.uri),
            ("scheme", &condition.scheme),
            ("method", &condition.method),
            ("authority", &condition.authority),
        ];
        for (name, pattern) in texts {
            if let Some(pattern) = pattern {
                self.pattern(&format!("{field}.{name}"), pattern, name == "uri");
            }
        }
        let maps = [
            ("headers", &condition.headers),
            ("withoutHeaders", &condition.without_headers),
            ("queryParams", &condition.query_params),
        ];
        for (map, patterns) in maps {
            for (name, pattern) in patterns {
                let at = format!("{field}.{map}.{name}");
                if map != "queryParams" && name.starts_with('@') {
                    let message = "claims of tokens decide routes at gateways alone; the condition never holds";
                    self.warning(&at, Code::NotSupported, message);
                } else if map != "queryParams" && !headers::is_name(name) {
                    self.error(&at, format!("{name:?} is not a header; the condition never holds"));
                }
                self.pattern(&at, pattern, false);
            }
        }
    }

    fn pattern(&mut self, field: &str, pattern: &StringMatch, empty: bool) {
        match pattern {
            StringMatch::Prefix(text) if text.is_empty() && !empty => {
                self.warning(field, Code::InvalidValue, "the prefix is empty, and matches everything");
            }
            StringMatch::Regex(text) => {
                if text != "*"
                    && let Err(reason) = re2::check(text)
                {
                    self.error(&format!("{field}.regex"), format!("{reason}; the condition never holds"));
                }
            }
            StringMatch::Present | StringMatch::Exact(_) | StringMatch::Prefix(_) => {}
        }
    }

    fn rewrite(&mut self, rewrite: &Rewrite) {
        let Rewrite { uri, authority, uri_regex_rewrite } = rewrite;
        if uri.is_empty() && authority.is_empty() && uri_regex_rewrite.is_none() {
            self.error("rewrite", "rewrite must specify at least one of URI, UriRegexRewrite, or authority");
        }
        let Some(expression) = uri_regex_rewrite else { return };
        if !uri.is_empty() {
            self.error("rewrite", "rewrite may only contain one of URI or UriRegexRewrite; the latter has no effect");
        }
        if let Err(reason) = re2::check(&expression.pattern) {
            self.error("rewrite.uriRegexRewrite.match", format!("{reason}; the path is not rewritten"));
        }
    }

    fn fault(&mut self, fault: &Fault) {
        let Fault { delay, abort } = fault;
        if delay.is_none() && abort.is_none() {
            self.error("fault", "HTTP fault injection must have an abort and/or a delay");
        }
        if let Some(Delay { percentage, percent, fixed_delay, exponential_delay }) = delay {
            self.share("fault.delay", percentage.as_ref(), *percent);
            if exponential_delay.is_some() {
                self.warning("fault.delay.exponentialDelay", Code::NotSupported, "has no effect, here as in Istio");
            }
            if !fixed_delay.as_ref().is_some_and(wire::is_some_time) {
                self.error("fault.delay.fixedDelay", "must be at least 1ms; nothing is delayed");
            }
        }
        let Some(Abort { percentage, percent, http_status, grpc_status, http2_error }) = abort else { return };
        self.share("fault.abort", percentage.as_ref(), *percent);
        if http2_error.is_some() {
            self.warning("fault.abort.http2Error", Code::NotSupported, "has no effect, here as in Istio");
        }
        match (http_status, grpc_status) {
            (Some(status), _) if !(200..600).contains(status) => {
                let message = format!("HTTP status {status} is not in range 200-599; nothing is refused");
                self.error("fault.abort.httpStatus", message);
            }
            (Some(_), _) => {}
            (None, Some(status)) if crate::route::grpc_status(status).is_none() => {
                let message = format!("gRPC status {status:?} is not supported; nothing is refused");
                self.error("fault.abort.grpcStatus", message);
            }
            (None, Some(_)) => {}
            (None, None) => self.error("fault.abort", "needs httpStatus or grpcStatus; nothing is refused"),
        }
    }

    fn share(&mut self, field: &str, percentage: Option<&Percent>, percent: u32) {
        match percentage {
            Some(Percent { value }) if !(0.0..=100.0).contains(value) => {
                self.error(&format!("{field}.percentage"), format!("percentage {value} is not in range 0..100"));
            }
            Some(_) => {}
            None if percent > 100 => {
                self.error(&format!("{field}.percent"), format!("percentage {percent} is not in range 0..100"));
            }
            None if percent == 0 => {
                let message = "is not given, which is 0: no request is meant";
                self.warning(&format!("{field}.percentage"), Code::NothingSelected, message);
            }
            None => {}
        }
    }

    fn retries(&mut self, retries: &Retries) {
        let Retries { attempts, per_try_timeout, retry_on, retry_remote_localities, .. } = retries;
        let Retries { retry_ignore_previous_hosts, backoff, .. } = retries;
        let others = per_try_timeout.is_some() || !retry_on.is_empty() || backoff.is_some();
        if *attempts == 0 && (others || retry_ignore_previous_hosts.is_some()) {
            self.warning("retries.attempts", Code::InvalidValue, "is 0: nothing is tried again, whatever else is said");
        }
        for word in retry::unknown(retry_on) {
            self.error("retries.retryOn", format!("{word:?} is not a valid retryOn policy, and has no effect"));
        }
        if *retry_remote_localities == Some(true) {
            let message = "has no effect: endpoints in other places are tried when near ones fail";
            self.warning("retries.retryRemoteLocalities", Code::NotSupported, message);
        }
        let short = |time: &Option<api::istio::Duration>| time.as_ref().is_some_and(|t| !wire::is_some_time(t));
        if short(per_try_timeout) && per_try_timeout.is_some_and(|t| !t.0.is_zero()) {
            self.error("retries.perTryTimeout", "must be at least 1ms; there is none");
        }
        if short(backoff) {
            self.error("retries.backoff", "must be at least 1ms; the default holds");
        }
    }

    fn headers(&mut self, field: &str, changes: &Headers) {
        let Headers { request, response } = changes;
        for (direction, operations) in [("request", request), ("response", response)] {
            let Some(HeaderOperations { set, add, remove }) = operations else { continue };
            for (map, name) in set.keys().map(|n| ("set", n)).chain(add.keys().map(|n| ("add", n))) {
                let host = headers::is_host(name);
                if host && (direction == "response" || map == "add") {
                    self.error(
                        &format!("{field}.{direction}.{map}"),
                        format!("invalid header {name:?}: cannot set Host header"),
                    );
                } else if !host && !headers::is_name(name) {
                    let message = format!("invalid header {name:?}, which has no effect");
                    self.error(&format!("{field}.{direction}.{map}"), message);
                }
            }
            for (map, name, value) in
                set.iter().map(|(n, v)| ("set", n, v)).chain(add.iter().map(|(n, v)| ("add", n, v)))
            {
                if headers::template(value).is_err() {
                    let message =
                        format!("the value of {name:?} has a command that proxies do not know, and is not set");
                    self.error(&format!("{field}.{direction}.{map}"), message);
                }
            }
            for name in remove {
                if headers::is_host(name) || !headers::is_name(name) {
                    let message = format!("invalid header {name:?}: it cannot be removed");
                    self.error(&format!("{field}.{direction}.remove"), message);
                }
            }
        }
    }
}
