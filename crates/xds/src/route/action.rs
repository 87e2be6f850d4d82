//! What a route does with requests.

use api::istio::{
    Body, ConsistentHash, DerivePort, DirectResponse, Hostname, HttpDestination, HttpRoute, Percent, Redirect, Rewrite,
};
use envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};
use envoy::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HashPolicy, HostRewriteSpecifier, RequestMirrorPolicy,
};
use envoy::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};
use envoy::envoy::config::route::v3::{DirectResponseAction, RedirectAction, RouteAction, WeightedCluster};
use envoy::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};

use super::fault::{all, fraction, runtime};
use super::headers::{self, Changes};
use super::{Routes, retry};
use crate::policy::Http;
use crate::{Resources, re2, wire};

/// The sum of the weights of a route has 32 bits.
fn most(count: usize) -> u32 {
    u32::MAX / u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

/// A destination to which requests go.
struct Share<'a> {
    cluster: String,
    destination: &'a HttpDestination,
}

/// To the destinations of a route; `None` if it has none with a weight. What a single destination changes in headers
/// is the route's to change.
pub(super) fn forward(
    routes: &Routes<'_>,
    http: &Http,
    changes: &mut Changes,
    resources: &mut Resources,
) -> Option<RouteAction> {
    let route = &http.route;
    let weighted = route.route.iter().enumerate().filter(|(_, d)| route.route.len() == 1 || d.weight > 0);
    let mut hashes = Vec::new();
    let mut shares = Vec::new();
    for (i, destination) in weighted {
        let field = format!("{}.route[{i}].destination", http.field);
        let to = routes.destinations;
        let name = to.cluster(&http.object, &field, &destination.destination, routes.port, resources);
        let balancer = to.policy(&name).load_balancer;
        hashes.extend(balancer.and_then(|b| b.consistent_hash).as_ref().and_then(hash_policy));
        shares.push(Share { cluster: name.to_string(), destination });
    }
    // What several destinations hash alike is hashed once.
    let mut hash_policy = Vec::new();
    hashes.into_iter().for_each(|policy| {
        if !hash_policy.contains(&policy) {
            hash_policy.push(policy);
        }
    });
    let cluster_specifier = match shares.as_slice() {
        [] => return None,
        [only] => {
            changes.extend(only.destination.headers.as_ref());
            ClusterSpecifier::Cluster(only.cluster.clone())
        }
        several => ClusterSpecifier::WeightedClusters(weights(several)),
    };
    let mut action = RouteAction {
        cluster_specifier: Some(cluster_specifier),
        // Envoy's own is 15 seconds; Istio has none.
        timeout: Some(route.timeout.map(wire::duration).unwrap_or_default()),
        retry_policy: retry::policy(route.retries.as_ref(), routes.config()),
        request_mirror_policies: mirrors(routes, http, resources),
        hash_policy,
        ..RouteAction::default()
    };
    if let Some(rewrite) = &route.rewrite {
        rewritten(rewrite, &mut action);
    }
    if let Some(authority) = changes.authority.take() {
        action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(authority));
    }
    Some(action)
}

/// To one cluster, as routes do that nobody has written.
pub(super) fn default(routes: &Routes<'_>, cluster: String, hash: Option<&ConsistentHash>) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        timeout: Some(prost_types::Duration::default()),
        retry_policy: retry::policy(None, routes.config()),
        hash_policy: hash.and_then(hash_policy).into_iter().collect(),
        ..RouteAction::default()
    }
}

fn weights(shares: &[Share<'_>]) -> WeightedCluster {
    let most = most(shares.len());
    let one = |share: &Share<'_>| {
        let mut changes = Changes::default();
        changes.extend(share.destination.headers.as_ref());
        ClusterWeight {
            name: share.cluster.clone(),
            weight: Some(share.destination.weight.min(most)),
            request_headers_to_add: changes.request_add,
            request_headers_to_remove: changes.request_remove,
            response_headers_to_add: changes.response_add,
            response_headers_to_remove: changes.response_remove,
            host_rewrite_specifier: changes.authority.map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
            ..ClusterWeight::default()
        }
    };
    WeightedCluster { clusters: shares.iter().map(one).collect(), ..WeightedCluster::default() }
}

fn rewritten(rewrite: &Rewrite, action: &mut RouteAction) {
    let Rewrite { uri, authority, uri_regex_rewrite } = rewrite;
    let expression = uri_regex_rewrite.as_ref().filter(|r| re2::check(&r.pattern).is_ok());
    if let Some(expression) = expression {
        action.regex_rewrite = Some(RegexMatchAndSubstitute {
            pattern: Some(RegexMatcher { regex: expression.pattern.clone(), ..RegexMatcher::default() }),
            substitution: expression.rewrite.clone(),
        });
    } else {
        action.prefix_rewrite.clone_from(uri);
    }
    if !authority.is_empty() {
        action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(authority.clone()));
    }
}

fn mirrors(routes: &Routes<'_>, http: &Http, resources: &mut Resources) -> Vec<RequestMirrorPolicy> {
    let HttpRoute { mirror, mirrors, mirror_percent, mirror_percentage, .. } = &http.route;
    let old = mirror_percent.map(|percent| Percent { value: f64::from(percent) });
    let one = mirror.iter().map(|m| (m, mirror_percentage.or(old), "mirror".to_owned()));
    let several = mirrors.iter().enumerate();
    let several = several.map(|(i, m)| (&m.destination, m.percentage, format!("mirrors[{i}].destination")));
    let all_of: Vec<_> = if mirror.is_some() { one.collect() } else { several.collect() };
    let copied = all_of.into_iter().filter(|(_, share, _)| share.is_none_or(|share| share.value > 0.0));
    let policy = |(destination, share, field): (_, Option<Percent>, String)| {
        let field = format!("{}.{field}", http.field);
        let name = routes.destinations.cluster(&http.object, &field, destination, routes.port, resources);
        RequestMirrorPolicy {
            cluster: name.to_string(),
            runtime_fraction: Some(runtime(share.as_ref().map_or_else(all, fraction))),
            trace_sampled: Some(false),
            ..RequestMirrorPolicy::default()
        }
    };
    copied.map(policy).collect()
}

/// What of a request is hashed.
fn hash_policy(hash: &ConsistentHash) -> Option<HashPolicy> {
    let specifier = if !hash.http_header_name.is_empty() {
        headers::is_name(&hash.http_header_name).then(|| {
            PolicySpecifier::Header(Header { header_name: hash.http_header_name.clone(), ..Header::default() })
        })?
    } else if let Some(cookie) = hash.http_cookie.as_ref().filter(|cookie| !cookie.name.is_empty()) {
        let attribute =
            |a: &api::istio::CookieAttribute| CookieAttribute { name: a.name.clone(), value: a.value.clone() };
        PolicySpecifier::Cookie(Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.map(wire::duration),
            path: cookie.path.clone(),
            attributes: cookie.attributes.iter().map(attribute).collect(),
        })
    } else if hash.use_source_ip {
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })
    } else if !hash.http_query_parameter_name.is_empty() {
        PolicySpecifier::QueryParameter(QueryParameter { name: hash.http_query_parameter_name.clone() })
    } else {
        return None;
    };
    Some(HashPolicy { policy_specifier: Some(specifier), ..HashPolicy::default() })
}

/// Elsewhere.
pub(super) fn redirect(redirect: &Redirect, port: u16) -> RedirectAction {
    let Redirect { uri, prefix_rewrite, authority, port: other, derive_port, scheme, redirect_code } = redirect;
    // Envoy cannot take the port of the request, which here is known.
    let derived = derive_port.filter(|d| *d == DerivePort::FromRequestPort).map(|_| u32::from(port));
    let path = match (uri.as_str(), prefix_rewrite.as_str()) {
        ("", "") => None,
        ("", prefix) => Some(PathRewriteSpecifier::PrefixRewrite(prefix.to_owned())),
        (path, _) => Some(PathRewriteSpecifier::PathRedirect(path.to_owned())),
    };
    let code = match redirect_code {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    RedirectAction {
        host_redirect: authority.clone(),
        port_redirect: other.or(derived).unwrap_or_default(),
        response_code: code.into(),
        scheme_rewrite_specifier: (!scheme.is_empty())
            .then(|| SchemeRewriteSpecifier::SchemeRedirect(scheme.to_ascii_lowercase())),
        path_rewrite_specifier: path,
        ..RedirectAction::default()
    }
}

/// An answer at once.
pub(super) fn respond(response: &DirectResponse) -> DirectResponseAction {
    let specifier = response.body.as_ref().and_then(|body| match body {
        Body::String(text) => Some(Specifier::InlineString(text.clone())),
        Body::Bytes(text) => super::base64(text).map(Specifier::InlineBytes),
    });
    let body = specifier.map(|specifier| DataSource { specifier: Some(specifier), ..DataSource::default() });
    DirectResponseAction { status: response.status, body, ..DirectResponseAction::default() }
}

/// The cluster of a service's port, and what its rule hashes.
pub(super) fn to_service(routes: &Routes<'_>, host: &Hostname) -> RouteAction {
    let name = api::istio::ClusterName::outbound(routes.port, "", host.as_str());
    let balancer = routes.destinations.policy(&name).load_balancer;
    default(routes, name.to_string(), balancer.and_then(|b| b.consistent_hash).as_ref())
}
