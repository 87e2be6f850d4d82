//! What a route does with a request.

use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::core::v3::RoutingPriority;
use envoy::envoy::config::route::v3;
use envoy::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, InternalRedirectAction, MaxStreamDuration,
};
use envoy::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy::envoy::config::route::v3::weighted_cluster::cluster_weight;
use http::{HeaderName, StatusCode};

use super::field::header_name;
use super::filter::Overrides;
use super::hash_policy::HashPolicy;
use super::header::HeaderMutations;
use super::mirror::Mirror;
use super::redirect::Redirect;
use super::regex_rewrite::RegexRewrite;
use super::retry::{self, RetryPolicy};
use super::upgrade::Upgrades;
use crate::config::data_source::bytes;
use crate::config::field::{Checked, Path, fields};
use crate::config::weighted::{Unweighable, Weighted};

/// How long upstream may take to answer if the route does not say (Envoy 1.40).
const TIMEOUT: Duration = Duration::from_secs(15);

/// What a route does with a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// It goes on to a cluster.
    Forward(Box<RouteAction>),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered at once.
    Respond(DirectResponse),
}

/// An answer that is always the same.
#[derive(Debug, Clone)]
pub struct DirectResponse {
    /// The status.
    pub status: StatusCode,
    /// The body; may be empty.
    pub body: Arc<[u8]>,
}

/// How a request goes on to a cluster.
#[derive(Debug, Clone)]
pub struct RouteAction {
    /// To which.
    pub cluster: ClusterSource,
    /// The status of the response if there is no such cluster.
    pub not_found: StatusCode,
    /// What becomes of the path.
    pub path: PathRewrite,
    /// What becomes of the authority.
    pub host: HostRewrite,
    /// Whether the authority that was rewritten is kept in `x-forwarded-host`.
    pub append_forwarded_host: bool,
    /// How long it may take.
    pub timeouts: RouteTimeouts,
    /// When it is sent again; `None` leaves that to the virtual host.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Where copies go; if there are none, the virtual host says, or else the table.
    pub mirrors: Box<[Mirror]>,
    /// What chooses its endpoint, where the load balancer hashes.
    pub hash_policies: Box<[HashPolicy]>,
    /// What it may change to, beside what the connection manager says.
    pub upgrades: Upgrades,
}

/// How long requests of a route may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// From the end of the request to the end of the response; `None` is for ever.
    pub response: Option<Duration>,
    /// How long a stream may be silent: unset is as the connection manager says, zero is for ever.
    pub idle: Option<Duration>,
    /// How long a stream may live: unset is as the connection manager says, zero is for ever.
    pub max_stream: Option<Duration>,
    /// The longest `grpc-timeout` that is heeded instead of `response`: unset does not heed it, zero is no limit.
    pub grpc_max: Option<Duration>,
    /// What is taken off `grpc-timeout`.
    pub grpc_offset: Option<Duration>,
}

/// How the cluster of a request is found.
#[derive(Debug, Clone)]
pub enum ClusterSource {
    /// It is always this one.
    Single(Arc<str>),
    /// A header names it.
    Header(HeaderName),
    /// It is one of several, by weight.
    Weighted(Weighted<Destination>),
}

/// One of several clusters of a route.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its name.
    pub cluster: Arc<str>,
    /// What changes in requests to it.
    pub request_headers: HeaderMutations,
    /// What changes in responses of it.
    pub response_headers: HeaderMutations,
    /// What the authority becomes instead of what the route says.
    pub host: Option<Box<str>>,
    /// What filters do otherwise.
    pub overrides: Overrides,
}

/// What becomes of a path.
#[derive(Debug, Clone)]
pub enum PathRewrite {
    /// It stays.
    Keep,
    /// What the route matched of it is replaced.
    Prefix(Box<str>),
    /// Every match of an expression in it is replaced; the query is left alone.
    Regex(RegexRewrite),
}

/// What becomes of an authority.
#[derive(Debug, Clone)]
pub enum HostRewrite {
    /// It stays.
    Keep,
    /// It becomes this.
    Literal(Box<str>),
    /// It becomes the name of the endpoint, in clusters whose endpoints have names.
    Endpoint,
    /// It becomes the value of a header, if there is one.
    Header(HeaderName),
    /// It becomes the path with every match of an expression replaced.
    Path(RegexRewrite),
}

impl RouteAction {
    /// Every cluster that requests may go to, as far as the route says.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        let (single, weighted) = match &self.cluster {
            ClusterSource::Single(name) => (Some(name), None),
            ClusterSource::Header(_) => (None, None),
            ClusterSource::Weighted(weighted) => (None, Some(weighted)),
        };
        let weighted = weighted.into_iter().flat_map(Weighted::iter);
        let mirrors = self.mirrors.iter().map(|m| &m.cluster);
        single.into_iter().chain(weighted.map(|(d, _)| &d.cluster)).chain(mirrors)
    }

    pub(super) fn from_message(at: &Path<'_>, message: v3::RouteAction) -> Checked<RouteAction> {
        let mut message = message;
        let timeouts = RouteTimeouts::take(at, &mut message)?;
        // No limits on rates are here for `include_vh_rate_limits` to speak of.
        fields!(at, message => v3::RouteAction { cluster_not_found_response_code, prefix_rewrite, regex_rewrite,
                append_x_forwarded_host, retry_policy, request_mirror_policies, priority, hash_policy,
                upgrade_configs, internal_redirect_action, cluster_specifier, host_rewrite_specifier }
            refuse { metadata_match, path_rewrite_policy, path_rewrite, timeout, idle_timeout, flush_timeout,
                early_data_policy, retry_policy_typed_config, rate_limits, cors, max_grpc_timeout,
                grpc_timeout_offset, internal_redirect_policy, max_internal_redirects, hedge_policy,
                max_stream_duration }
            ignore { include_vh_rate_limits });
        let priority_at = at.field("priority");
        if priority_at.enumeration::<RoutingPriority>(priority)? == RoutingPriority::High {
            return Err(priority_at.reject("only DEFAULT is supported"));
        }
        let internal_at = at.field("internal_redirect_action");
        let internal: InternalRedirectAction = internal_at.enumeration(internal_redirect_action)?;
        if internal != InternalRedirectAction::PassThroughInternalRedirect {
            return Err(internal_at.reject("is not supported"));
        }
        let retry = retry_policy.map(|r| RetryPolicy::from_message(&at.field("retry_policy"), r).map(Arc::new));
        let code = at.field("cluster_not_found_response_code").enumeration(cluster_not_found_response_code)?;
        Ok(RouteAction {
            cluster: cluster_source(at, at.field("cluster").required(cluster_specifier)?)?,
            not_found: match code {
                ClusterNotFoundResponseCode::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
                ClusterNotFoundResponseCode::NotFound => StatusCode::NOT_FOUND,
                ClusterNotFoundResponseCode::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
            },
            path: match (prefix_rewrite.as_str(), regex_rewrite) {
                ("", None) => PathRewrite::Keep,
                ("", Some(regex)) => PathRewrite::Regex(RegexRewrite::from_message(&at.field("regex_rewrite"), regex)?),
                (_, None) => PathRewrite::Prefix(prefix_rewrite.into()),
                (_, Some(_)) => {
                    return Err(at.field("regex_rewrite").reject("does not go together with prefix_rewrite"));
                }
            },
            host: host_rewrite(at, host_rewrite_specifier)?,
            append_forwarded_host: append_x_forwarded_host,
            timeouts,
            retry: retry.transpose()?,
            mirrors: Mirror::from_messages(&at.field("request_mirror_policies"), request_mirror_policies)?,
            hash_policies: HashPolicy::from_messages(&at.field("hash_policy"), hash_policy)?,
            upgrades: Upgrades::of_route(&at.field("upgrade_configs"), upgrade_configs)?,
        })
    }
}

impl RouteTimeouts {
    /// Takes every field that is a time.
    fn take(at: &Path<'_>, message: &mut v3::RouteAction) -> Checked<RouteTimeouts> {
        let duration = |name: &str, value| at.field(name).duration(value);
        let grpc_max = duration("max_grpc_timeout", message.max_grpc_timeout.take())?;
        let grpc_offset = duration("grpc_timeout_offset", message.grpc_timeout_offset.take())?;
        let stream_at = at.field("max_stream_duration");
        let stream = message.max_stream_duration.take().unwrap_or_default();
        let MaxStreamDuration { max_stream_duration, grpc_timeout_header_max, grpc_timeout_header_offset } = stream;
        let of_stream = |name: &str, value| stream_at.field(name).duration(value);
        Ok(RouteTimeouts {
            response: at.field("timeout").timeout(message.timeout.take(), Some(TIMEOUT))?,
            idle: duration("idle_timeout", message.idle_timeout.take())?,
            max_stream: of_stream("max_stream_duration", max_stream_duration)?,
            grpc_max: of_stream("grpc_timeout_header_max", grpc_timeout_header_max)?.or(grpc_max),
            grpc_offset: of_stream("grpc_timeout_header_offset", grpc_timeout_header_offset)?.or(grpc_offset),
        })
    }
}

impl DirectResponse {
    /// `limit` is the largest body, in bytes.
    pub(super) fn from_message(
        at: &Path<'_>,
        message: v3::DirectResponseAction,
        limit: usize,
    ) -> Checked<DirectResponse> {
        fields!(at, message => v3::DirectResponseAction { status, body } refuse { body_format });
        let body_at = at.field("body");
        let body = body.map(|b| bytes(&body_at, b)).transpose()?.unwrap_or_default();
        if body.len() > limit {
            return Err(body_at.reject(format_args!("is larger than {limit} bytes")));
        }
        if !(200..600).contains(&status) {
            return Err(at.field("status").reject("must be from 200 to 599"));
        }
        Ok(DirectResponse { status: retry::status(&at.field("status"), status)?, body: body.into() })
    }
}

fn cluster_source(at: &Path<'_>, message: ClusterSpecifier) -> Checked<ClusterSource> {
    match message {
        ClusterSpecifier::Cluster(name) => Ok(ClusterSource::Single(at.field("cluster").named(&name)?.into())),
        ClusterSpecifier::ClusterHeader(name) => {
            header_name(&at.field("cluster_header"), &name).map(ClusterSource::Header)
        }
        ClusterSpecifier::WeightedClusters(weighted) => {
            weighted_clusters(&at.field("weighted_clusters"), weighted).map(ClusterSource::Weighted)
        }
        ClusterSpecifier::ClusterSpecifierPlugin(_) => {
            Err(at.field("cluster_specifier_plugin").reject("is not supported"))
        }
        ClusterSpecifier::InlineClusterSpecifierPlugin(_) => {
            Err(at.field("inline_cluster_specifier_plugin").reject("is not supported"))
        }
    }
}

fn weighted_clusters(at: &Path<'_>, message: v3::WeightedCluster) -> Checked<Weighted<Destination>> {
    // There is no runtime that would say other weights.
    fields!(at, message => v3::WeightedCluster { clusters, total_weight } refuse { random_value_specifier }
        ignore { runtime_key_prefix });
    let at_total = at.field("total_weight");
    let at = at.field("clusters");
    let clusters = clusters.into_iter().enumerate().map(|(i, cluster)| destination(&at.index(i), cluster));
    let weighted = Weighted::new(clusters.collect::<Checked<Vec<_>>>()?).map_err(|e| match e {
        Unweighable::Nothing => at.reject("the weights must add up to more than zero"),
        Unweighable::TooMuch(i) => at.index(i).field("weight").reject("the weights add up to too much"),
    })?;
    let total: u32 = weighted.iter().map(|(_, weight)| weight).sum();
    match total_weight {
        Some(other) if other != total => Err(at_total.reject(format_args!("the weights add up to {total}"))),
        _ => Ok(weighted),
    }
}

fn destination(at: &Path<'_>, message: ClusterWeight) -> Checked<(Destination, u32)> {
    fields!(at, message => ClusterWeight { name, weight, request_headers_to_add, request_headers_to_remove,
            response_headers_to_add, response_headers_to_remove, typed_per_filter_config, host_rewrite_specifier }
        refuse { cluster_header, metadata_match });
    let destination = Destination {
        cluster: at.field("name").named(&name)?.into(),
        request_headers: HeaderMutations::of_requests(at, request_headers_to_add, request_headers_to_remove)?,
        response_headers: HeaderMutations::of_responses(at, response_headers_to_add, response_headers_to_remove)?,
        host: host_rewrite_specifier.map(|cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host)| host.into()),
        overrides: Overrides::from_messages(&at.field("typed_per_filter_config"), typed_per_filter_config)?,
    };
    Ok((destination, weight.unwrap_or(0)))
}

fn host_rewrite(at: &Path<'_>, message: Option<HostRewriteSpecifier>) -> Checked<HostRewrite> {
    Ok(match message {
        None => HostRewrite::Keep,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) if host.is_empty() => HostRewrite::Keep,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => HostRewrite::Literal(host.into()),
        Some(HostRewriteSpecifier::AutoHostRewrite(true)) => HostRewrite::Endpoint,
        Some(HostRewriteSpecifier::AutoHostRewrite(false)) => HostRewrite::Keep,
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
            HostRewrite::Header(header_name(&at.field("host_rewrite_header"), &name)?)
        }
        Some(HostRewriteSpecifier::HostRewritePathRegex(regex)) => {
            HostRewrite::Path(RegexRewrite::from_message(&at.field("host_rewrite_path_regex"), regex)?)
        }
        Some(HostRewriteSpecifier::HostRewrite(_)) => {
            return Err(at.field("host_rewrite").reject("is not supported"));
        }
    })
}
