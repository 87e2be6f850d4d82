//! Patches to route tables, their virtual hosts and routes.

use api::istio::envoy_filter::{
    ApplyTo, Operation, RouteActionMatch, RouteConfigurationMatch, RouteMatch, VirtualHostMatch,
};
use envoy::envoy::config::route::v3::route::Action;
use envoy::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;

use super::sequence::{Anchor, Sequence};
use super::{Finding, Patch, Served, Target, listener, message};

const TABLE: &str = "envoy.config.route.v3.RouteConfiguration";
const HOST: &str = "envoy.config.route.v3.VirtualHost";
const ROUTE: &str = "envoy.config.route.v3.Route";

pub(super) fn apply(patch: &Patch, target: &mut Target<'_>) -> Result<Vec<Finding>, String> {
    let (served, resources) = (&target.doors.served, &mut *target.resources);
    let place = patch.place.route_configuration.clone().unwrap_or_default();
    for proxy in resources.listeners.values_mut() {
        for chain in proxy.filter_chains.iter_mut().chain(&mut proxy.default_filter_chain) {
            for filter in chain.filters.iter_mut().filter(|filter| filter.name == listener::HCM) {
                listener::with_manager(filter, |manager| match &mut manager.route_specifier {
                    Some(RouteSpecifier::RouteConfig(table)) => of_table(patch, &place, None, table),
                    _ => Ok(()),
                })?;
            }
        }
    }
    resources.routes.iter_mut().try_for_each(|(name, table)| of_table(patch, &place, served.get(name), table))?;
    Ok(Vec::new())
}

/// Whether a patch is for a table, behind which are these servers of a gateway, if it is a gateway's.
fn is_selected(place: &RouteConfigurationMatch, served: Option<&Served>, table: &RouteConfiguration) -> bool {
    let RouteConfigurationMatch { port_number, port_name, gateway, vhost: _, name } = place;
    let last = || table.name.rsplit([':', '|']).find(|part| !part.is_empty()).and_then(|part| part.parse::<u16>().ok());
    let (numbered, of_gateway) = match served {
        // The gateways that could be meant are no sidecars.
        None => (last() == Some(*port_number), gateway.is_empty()),
        Some(served) => {
            let named = port_name.is_empty() || served.names.contains(port_name);
            let own = gateway.is_empty() || served.gateways.iter().any(|g| g.to_string() == *gateway);
            (served.ports.contains(port_number), own && named)
        }
    };
    (name.is_empty() || *name == table.name) && (*port_number == 0 || numbered) && of_gateway
}

fn of_table(
    patch: &Patch,
    place: &RouteConfigurationMatch,
    served: Option<&Served>,
    table: &mut RouteConfiguration,
) -> Result<(), String> {
    if !is_selected(place, served, table) {
        return Ok(());
    }
    let vhost = &place.vhost;
    match (patch.what, patch.operation, &patch.value) {
        (ApplyTo::RouteConfiguration, Operation::Merge, Some(value)) => listener::merge(TABLE, table, value),
        (ApplyTo::RouteConfiguration, operation, _) => {
            Err(format!("{operation:?} is not for route tables: the patch has no effect"))
        }
        (ApplyTo::VirtualHost, Operation::Add, Some(value)) => {
            table.virtual_hosts.push(message::typed(value)?);
            Ok(())
        }
        (ApplyTo::VirtualHost, Operation::Remove, _) => {
            table.virtual_hosts.retain(|host| !is_host(vhost.as_ref(), host));
            Ok(())
        }
        _ => {
            let mut own = table.virtual_hosts.iter_mut().filter(|host| is_host(vhost.as_ref(), host));
            own.try_for_each(|host| of_host(patch, vhost.as_ref(), host))
        }
    }
}

fn is_host(place: Option<&VirtualHostMatch>, host: &VirtualHost) -> bool {
    let Some(VirtualHostMatch { name, domain_name, route: _ }) = place else { return true };
    (name.is_empty() || *name == host.name) && (domain_name.is_empty() || host.domains.contains(domain_name))
}

fn of_host(patch: &Patch, place: Option<&VirtualHostMatch>, host: &mut VirtualHost) -> Result<(), String> {
    match (patch.what, patch.operation, &patch.value) {
        (ApplyTo::VirtualHost, Operation::Merge, Some(value)) => return listener::merge(HOST, host, value),
        (ApplyTo::VirtualHost, Operation::Replace, Some(value)) => {
            *host = message::typed(value)?;
            return Ok(());
        }
        (ApplyTo::VirtualHost, operation, _) => {
            return Err(format!("{operation:?} is not for virtual hosts: the patch has no effect"));
        }
        _ => {}
    }
    let wanted = place.and_then(|place| place.route.clone()).unwrap_or_default();
    match (patch.operation, &patch.value) {
        (Operation::Merge, Some(value)) => {
            let mut own = host.routes.iter_mut().filter(|route| is_route(&wanted, route));
            own.try_for_each(|route| listener::merge(ROUTE, route, value))
        }
        (Operation::Remove, _) => {
            host.routes.retain(|route| !is_route(&wanted, route));
            Ok(())
        }
        (operation, Some(value)) => {
            let route: Route = message::typed(value)?;
            let anchor = if wanted.name.is_empty() { Anchor::None } else { Anchor::Named(&wanted.name) };
            Sequence { items: &mut host.routes, name: |r| &r.name, is_last: |_| false }.put(operation, anchor, &route);
            Ok(())
        }
        (operation, None) => Err(format!("{operation:?} needs a value: the patch has no effect")),
    }
}

fn is_route(place: &RouteMatch, route: &Route) -> bool {
    let RouteMatch { name, action } = place;
    let does = match action {
        RouteActionMatch::Any => true,
        RouteActionMatch::Route => matches!(route.action, Some(Action::Route(_))),
        RouteActionMatch::Redirect => matches!(route.action, Some(Action::Redirect(_))),
        RouteActionMatch::DirectResponse => matches!(route.action, Some(Action::DirectResponse(_))),
    };
    does && (name.is_empty() || *name == route.name)
}
