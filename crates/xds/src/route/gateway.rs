//! Tables of gateways.

use std::collections::BTreeMap;

use api::istio::Hostname;
use envoy::envoy::config::route::v3::route_match::PathSpecifier;
use envoy::envoy::config::route::v3::virtual_host::TlsRequirementType;
use envoy::envoy::config::route::v3::{Route, VirtualHost};

use super::Routes;
use crate::Table;
use crate::destination::Destinations;
use crate::gateway::Opened;

/// What holds for a host.
#[derive(Default)]
struct Host {
    routes: Vec<Route>,
    /// Whether requests in plaintext are sent to HTTPS.
    redirects: bool,
}

/// The table of the servers at one port, or of one server where TLS ends. Requests of a host that nobody has routes for
/// are answered with 404.
pub(crate) fn of_servers(destinations: Destinations<'_>, name: String, port: u16, servers: &[&Opened<'_>]) -> Table {
    let of_any = Routes { destinations, gateway: None, port };
    of_any.table(name, |found| {
        let mut hosts = BTreeMap::<&Hostname, Host>::new();
        for opened in servers {
            let routes = Routes { destinations, gateway: Some(&opened.gateway), port: opened.number() };
            for ((host, _), route) in &opened.bound {
                let written = routes.written(route, found);
                if !written.is_empty() {
                    let known = hosts.entry(host).or_default();
                    known.routes.extend(written);
                    // What a server sends to HTTPS is every host of its own, be it narrower.
                    known.redirects |= opened.redirects();
                }
            }
            for server in opened.hosts.iter().filter(|_| opened.redirects()) {
                hosts.entry(&server.host).or_default().redirects = true;
            }
        }
        virtual_hosts(port, hosts)
    })
}

fn virtual_hosts(port: u16, hosts: BTreeMap<&Hostname, Host>) -> Vec<VirtualHost> {
    if hosts.is_empty() {
        let nothing = super::virtual_host(format!("blackhole:{port}"), Vec::new());
        return vec![VirtualHost { domains: vec!["*".to_owned()], ..nothing }];
    }
    let one = |(host, Host { mut routes, redirects }): (&Hostname, Host)| {
        // What one virtual service says of everything must not hide what the others say.
        routes.sort_by_key(takes_everything);
        let requirement = if redirects { TlsRequirementType::All } else { TlsRequirementType::None };
        VirtualHost {
            domains: vec![host.to_string()],
            require_tls: requirement.into(),
            ..super::virtual_host(super::of_service(host, port), routes)
        }
    };
    hosts.into_iter().map(one).collect()
}

fn takes_everything(route: &Route) -> bool {
    route.r#match.as_ref().is_some_and(|requests| {
        let anywhere = matches!(&requests.path_specifier, Some(PathSpecifier::Prefix(prefix)) if prefix == "/");
        anywhere && requests.headers.is_empty() && requests.query_parameters.is_empty()
    })
}
