//! Route tables: which virtual host takes a request.

use std::sync::Arc;

use envoy::envoy::config::route::v3;

use super::action::Action;
use super::filter::Overrides;
use super::header::HeaderMutations;
use super::host_index::{HostIndex, without_port};
use super::mirror::Mirror;
use super::virtual_host::VirtualHost;
use crate::config::field::{Checked, Path, Rejected, fields};
use crate::config::metadata::Metadata;

/// The largest body of a direct response if the table does not say, in bytes (Envoy 1.40).
const BODY_LIMIT: u32 = 4096;

/// A route table.
#[derive(Debug, Clone)]
pub struct RouteTable {
    /// Its name; empty only inside a connection manager.
    pub name: Arc<str>,
    /// Its virtual hosts.
    pub hosts: Box<[Arc<VirtualHost>]>,
    /// What changes in requests.
    pub request_headers: HeaderMutations,
    /// What changes in responses.
    pub response_headers: HeaderMutations,
    /// Whether headers are changed by the table first and the route last; otherwise the other way round.
    pub most_specific_wins: bool,
    /// Whether the port of an authority is left out of account.
    pub ignore_port: bool,
    /// Where copies go of requests of which neither route nor virtual host says it.
    pub mirrors: Box<[Mirror]>,
    /// What filters do otherwise.
    pub overrides: Overrides,
    /// Opaque facts.
    pub metadata: Metadata,
    /// Finds the virtual host of an authority.
    index: HostIndex,
}

impl RouteTable {
    /// The virtual host that takes an authority. A request without an authority is taken by none but a lone `*`.
    pub fn host(&self, authority: &str) -> Option<&Arc<VirtualHost>> {
        let authority = if self.ignore_port { without_port(authority) } else { authority };
        self.index.find(authority).and_then(|position| self.hosts.get(position))
    }

    /// Every cluster that requests may go to, as far as the table says.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        let routes = self.hosts.iter().flat_map(|host| &host.routes);
        let forwarded = routes.filter_map(|route| match &route.action {
            Action::Forward(action) => Some(action.clusters()),
            Action::Redirect(_) | Action::Respond(_) => None,
        });
        let mirrors = self.hosts.iter().flat_map(|host| &host.mirrors).chain(&self.mirrors);
        forwarded.flatten().chain(mirrors.map(|mirror| &mirror.cluster))
    }

    pub(super) fn from_message(at: &Path<'_>, message: v3::RouteConfiguration) -> Checked<RouteTable> {
        fields!(at, message => v3::RouteConfiguration { name, virtual_hosts, response_headers_to_add,
                response_headers_to_remove, request_headers_to_add, request_headers_to_remove,
                most_specific_header_mutations_wins, validate_clusters, max_direct_response_body_size_bytes,
                request_mirror_policies, ignore_port_in_host_matching, typed_per_filter_config, metadata }
            refuse { vhds, internal_only_headers, cluster_specifier_plugins, vhost_header,
                ignore_path_parameters_in_path_matching, route_specifiers });
        at.field("validate_clusters").off(validate_clusters)?;
        let limit = max_direct_response_body_size_bytes.unwrap_or(BODY_LIMIT);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let hosts_at = at.field("virtual_hosts");
        let hosts = virtual_hosts.into_iter().enumerate();
        let hosts = hosts.map(|(i, h)| VirtualHost::from_message(&hosts_at.index(i), h, limit).map(Arc::new));
        let hosts: Box<[Arc<VirtualHost>]> = hosts.collect::<Checked<_>>()?;
        let index = HostIndex::new(&hosts).map_err(|clash| {
            let domain = hosts_at.index(clash.host);
            domain.field("domains").index(clash.domain).reject("is a domain of this table already")
        })?;
        Ok(RouteTable {
            index,
            name: name.into(),
            hosts,
            request_headers: HeaderMutations::of_requests(at, request_headers_to_add, request_headers_to_remove)?,
            response_headers: HeaderMutations::of_responses(at, response_headers_to_add, response_headers_to_remove)?,
            most_specific_wins: most_specific_header_mutations_wins,
            ignore_port: ignore_port_in_host_matching,
            mirrors: Mirror::from_messages(&at.field("request_mirror_policies"), request_mirror_policies)?,
            overrides: Overrides::from_messages(&at.field("typed_per_filter_config"), typed_per_filter_config)?,
            metadata: Metadata::from_message(metadata),
        })
    }
}

impl TryFrom<v3::RouteConfiguration> for RouteTable {
    type Error = Rejected;

    fn try_from(message: v3::RouteConfiguration) -> Checked<RouteTable> {
        let at = &Path::ROOT;
        at.field("name").named(&message.name)?;
        RouteTable::from_message(at, message)
    }
}
