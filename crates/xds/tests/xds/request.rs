//! Where requests go.

use envoy::envoy::config::route::v3::route::Action;
use envoy::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy::envoy::config::route::v3::route_match::PathSpecifier;
use envoy::envoy::config::route::v3::{RouteAction, RouteConfiguration, VirtualHost};
use xds::Resources;

use crate::world::{assert_found, chains, found, told, world};

/// A service of `foo` (or elsewhere) with the port 80 of HTTP.
fn service(name: &str, namespace: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}, creationTimestamp: \
         '2026-11-02T00:00:00Z'}}\nspec: {{clusterIP: 10.96.1.{}, selector: {{app: {name}}}, ports: [{{name: http, port: 80}}]}}\n{rest}",
        name.len()
    )
}

fn routes(name: &str, rest: &str) -> String {
    routes_of(name, "foo", rest)
}

fn routes_of(name: &str, namespace: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}, \
         creationTimestamp: '2026-11-{:02}T00:00:00Z'}}\nspec: {{{rest}}}\n",
        name.len()
    )
}

fn rule(name: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: foo}}\nspec: \
         {{{rest}}}\n"
    )
}

/// The virtual host that takes requests for a host at a port, as the most specific domain says.
#[track_caller]
fn host<'r>(resources: &'r Resources, table: &str, authority: &str) -> &'r VirtualHost {
    let table: &RouteConfiguration = &resources.routes[table];
    let length = |domain: &str| match domain.strip_prefix('*') {
        Some(suffix) => authority.ends_with(suffix).then_some(suffix.len()),
        None => (domain == authority).then_some(usize::MAX),
    };
    table.virtual_hosts.iter().max_by_key(|host| host.domains.iter().filter_map(|d| length(d)).max()).unwrap()
}

/// The routes of a virtual host, a line each: the path, and where it goes.
fn lines(host: &VirtualHost) -> Vec<String> {
    let line = |route: &envoy::envoy::config::route::v3::Route| {
        let path = match route.r#match.as_ref().unwrap().path_specifier.as_ref().unwrap() {
            PathSpecifier::Prefix(path) => format!("{path}*"),
            PathSpecifier::Path(path) => path.clone(),
            PathSpecifier::SafeRegex(regex) => format!("~{}", regex.regex),
            other => panic!("{other:?}"),
        };
        let to = match route.action.as_ref().unwrap() {
            Action::Route(action) => clusters(action),
            Action::Redirect(redirect) => format!("redirect {}", redirect.host_redirect),
            Action::DirectResponse(response) => response.status.to_string(),
            other => panic!("{other:?}"),
        };
        format!("{path} {to}")
    };
    host.routes.iter().map(line).collect()
}

fn clusters(action: &RouteAction) -> String {
    let short = |name: &str| name.replace(".foo.svc.cluster.local", "").replace("outbound|", "");
    match action.cluster_specifier.as_ref().unwrap() {
        ClusterSpecifier::Cluster(name) => short(name),
        ClusterSpecifier::WeightedClusters(weighted) => {
            let one = |w: &envoy::envoy::config::route::v3::weighted_cluster::ClusterWeight| {
                format!("{}={}", short(&w.name), w.weight.unwrap())
            };
            weighted.clusters.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        other => panic!("{other:?}"),
    }
}

/// Where requests for `web` at port 80 go, in a world with more.
fn web(more: &str) -> Vec<String> {
    lines(host(&told("sleep", &format!("{}{more}", service("web", "foo", ""))), "80", "web"))
}

#[test]
fn requests_are_routed_by_host_at_any_address() {
    let resources = told("sleep", &service("web", "foo", &service("other", "bar", "")));
    let expected = [
        "80: raw_buffer alpn=http/1.0,http/1.1,h2c http_connection_manager(fault cors router)",
        "default PassthroughFilterChain: tcp_proxy",
    ];
    assert_eq!(chains(&resources, "0.0.0.0_80"), expected);
    assert!(!resources.listeners.contains_key("10.96.1.3_80"));
    for name in
        ["web", "web.foo", "web.foo.svc", "web.foo.svc.cluster.local", "web.foo.svc.cluster.local.", "10.96.1.3"]
    {
        assert_eq!(lines(host(&resources, "80", name)), ["/* 80||web"], "{name}");
    }
    assert_eq!(lines(host(&resources, "80", "other.bar")), ["/* 80||other.bar.svc.cluster.local"]);
    assert_eq!(host(&resources, "80", "other").name, "allow_any", "a name alone is of the caller's namespace");
    assert_eq!(lines(host(&resources, "80", "example.com")), ["/* PassthroughCluster"]);
}

#[test]
fn unknown_hosts_are_answered_where_only_known_ones_may_be_called() {
    let config = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: \
        'outboundTrafficPolicy: {mode: REGISTRY_ONLY}'\n";
    let resources = told("sleep", &format!("{}{config}", service("web", "foo", "")));
    let other = host(&resources, "80", "example.com");
    assert_eq!((other.name.as_str(), lines(other)), ("block_all", vec!["/* 502".to_owned()]));
}

#[test]
fn a_port_of_which_nothing_is_said_has_both_chains_and_a_table_of_its_own() {
    let objects = service("web", "foo", "").replace("name: http, ", "");
    let resources = told("sleep", &objects);
    let expected = [
        "web.foo.svc.cluster.local:80: raw_buffer alpn=http/1.0,http/1.1 \
         http_connection_manager(set_filter_state fault cors router)",
        "web.foo.svc.cluster.local:80-h2c: raw_buffer alpn=h2c http_connection_manager(set_filter_state fault cors router)",
        "outbound|80||web.foo.svc.cluster.local: tcp_proxy",
    ];
    let chains: Vec<String> = chains(&resources, "10.96.1.3_80").iter().map(|c| c.replace("http/1.1-", "")).collect();
    assert_eq!(chains, expected);
    let table = "web.foo.svc.cluster.local:80";
    assert_eq!(lines(host(&resources, table, "whoever")), ["/* 80||web"], "the address has said who is meant");
    assert!(!resources.routes.contains_key("80"));
}

#[test]
fn routes_are_tried_in_order_until_one_takes_everything() {
    let written = routes(
        "v",
        "hosts: [web], http: [{match: [{uri: {exact: /a}}, {uri: {prefix: /b}}, {uri: {regex: '/c.*'}}], route: [{destination: \
         {host: web, subset: s}}]}, {match: [{uri: {prefix: /r}}], redirect: {authority: x}}, {match: [{uri: {prefix: /d}}], \
         directResponse: {status: 418}}, {route: [{destination: {host: web}}]}, {match: [{uri: {prefix: /never}}], route: \
         [{destination: {host: web}}]}]",
    );
    let subset = rule("d", "host: web, subsets: [{name: s}]");
    let expected = ["/a 80|s|web", "/b* 80|s|web", "~/c.* 80|s|web", "/r* redirect x", "/d* 418", "/* 80||web"];
    assert_eq!(web(&format!("{subset}{written}")), expected);
    let objects = format!("{}{subset}{written}", service("web", "foo", ""));
    assert_found("sleep", &objects, "Warning [Unreachable] (VirtualService foo/v) spec.http[4]");
}

#[test]
fn conditions_on_callers_and_ports_are_decided_beforehand() {
    let to = |conditions: &str| {
        web(&routes(
            "v",
            &format!(
                "hosts: [web], http: [{{match: [{conditions}], route: [{{destination: {{host: web, port: {{number: 80}}}}}}]}}]"
            ),
        ))
    };
    let taken = ["/x* 80||web"];
    assert_eq!(
        to("{uri: {prefix: /x}, sourceLabels: {app: sleep}, sourceNamespace: foo, port: 80, gateways: [mesh]}"),
        taken
    );
    for other in ["sourceLabels: {app: x}", "sourceNamespace: bar", "port: 81", "gateways: [g]"] {
        // Without any route of its own a service has the default one.
        assert_eq!(to(&format!("{{uri: {{prefix: /x}}, {other}}}")), ["/* 80||web"], "{other}");
    }
}

#[test]
fn the_oldest_virtual_service_has_a_host_and_an_exact_one_before_wildcards() {
    let answer = |name: &str, host: &str, status: u16| {
        routes(name, &format!("hosts: ['{host}'], http: [{{directResponse: {{status: {status}}}}}]"))
    };
    let both = format!("{}{}", answer("bb", "web", 202), answer("a", "web", 201));
    assert_eq!(web(&both), ["/* 201"]);
    let objects = format!("{}{both}", service("web", "foo", ""));
    assert_found("sleep", &objects, "Warning [Conflict] (VirtualService foo/bb) spec.hosts[0]");
    let wide = answer("a", "*.foo.svc.cluster.local", 203);
    assert_eq!(web(&wide), ["/* 203"]);
    let wider = answer("a", "*.cluster.local", 204);
    assert_eq!(web(&format!("{wide}{}", wider.replace("name: a", "name: b"))), ["/* 203"]);
    assert_eq!(web(&format!("{wide}{}", answer("bb", "web", 205))), ["/* 205"]);
    let hidden = answer("a", "web", 206).replace("spec: {", "spec: {exportTo: [bar], ");
    assert_eq!(web(&hidden), ["/* 80||web"]);
}

#[test]
fn an_external_name_is_a_service_or_in_newer_versions_an_alias() {
    let external = "---\napiVersion: v1\nkind: Service\nmetadata: {name: ext, namespace: foo}\nspec: {type: ExternalName, \
        externalName: web.foo.svc.cluster.local, ports: [{name: http, port: 80}]}\n";
    let objects = format!("{}{external}", service("web", "foo", ""));
    let resources = told("sleep", &objects);
    assert_eq!(lines(host(&resources, "80", "ext")), ["/* 80||ext"]);
    let version = |text: &str| {
        let config =
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: ";
        format!("{config}'compatibility: \"{text}\"'}}\n")
    };
    let routed = routes("v", "hosts: [other], http: [{route: [{destination: {host: ext, port: {number: 80}}}]}]");
    let resources = told("sleep", &format!("{objects}{routed}{}", version("1.21")));
    assert_eq!(lines(host(&resources, "80", "ext")), ["/* 80||web"]);
    assert_eq!(lines(host(&resources, "80", "other.foo.svc.cluster.local")), ["/* 80||web"]);
    assert!(!resources.clusters.contains_key("outbound|80||ext.foo.svc.cluster.local"));
    assert_found("sleep", &version("x"), "no version of Istio");
}

#[test]
fn routes_may_be_for_hosts_that_no_service_has() {
    let written = routes(
        "v",
        "hosts: [a.example, '*.b.example'], http: [{route: [{destination: {host: web, port: {number: 80}}}]}]",
    );
    let resources = told("sleep", &format!("{}{written}", service("web", "foo", "")));
    for name in ["a.example", "x.b.example"] {
        assert_eq!(lines(host(&resources, "80", name)), ["/* 80||web"], "{name}");
    }
}

#[test]
fn destinations_have_weights_ports_and_subsets() {
    let to = |route: &str| web(&routes("v", &format!("hosts: [web], http: [{{route: [{route}]}}]")));
    let destination = |host: &str, rest: &str| format!("{{destination: {{host: {host}}}{rest}}}");
    assert_eq!(to(&destination("web", "")), ["/* 80||web"]);
    assert_eq!(to(&destination("tcp-echo", "")), ["/* 80||tcp-echo"], "of several ports the one that was called");
    let split = [
        destination("web", ", weight: 75"),
        destination("x", ", weight: 0"),
        destination("tcp-echo.foo.svc.cluster.local", ", weight: 25"),
    ];
    assert_eq!(to(&split.join(", ")), ["/* 80||web=75 80||tcp-echo=25"]);
    let none = [destination("web", ""), destination("x", "")].join(", ");
    assert_eq!(to(&none), ["/* 80||web"]);
    let objects =
        format!("{}{}", service("web", "foo", ""), routes("v", &format!("hosts: [web], http: [{{route: [{none}]}}]")));
    assert_found("sleep", &objects, "total destination weight = 0");
    let missing = routes("v", "hosts: [web], http: [{route: [{destination: {host: web, subset: v9}}]}]");
    let objects = format!("{}{missing}", service("web", "foo", ""));
    let expected = "Error [ReferenceNotFound] (VirtualService foo/v) spec.http[0].route[0].destination: there is no outbound|80|v9|web";
    assert_found("sleep", &objects, expected);
}

#[test]
fn delegates_have_routes_within_those_that_delegate() {
    let root = routes(
        "r",
        "hosts: [web], http: [{name: r, match: [{uri: {prefix: /a}}], timeout: 5s, delegate: {name: d, namespace: bar}}, \
         {directResponse: {status: 404}}]",
    );
    let own = routes_of(
        "d",
        "bar",
        "http: [{name: d, match: [{uri: {prefix: /a/b}}], directResponse: {status: 201}}, {match: [{uri: {prefix: /z}}], \
         directResponse: {status: 202}}, {route: [{destination: {host: web.foo.svc.cluster.local, port: {number: 80}}}]}]",
    );
    let both = format!("{root}{own}");
    assert_eq!(web(&both), ["/a/b* 201", "/a* 80||web", "/* 404"]);
    let resources = told("sleep", &format!("{}{both}", service("web", "foo", "")));
    let routes = &host(&resources, "80", "web").routes;
    assert_eq!(routes[0].name, "r-d");
    let Some(Action::Route(action)) = &routes[1].action else { panic!("{:?}", routes[1]) };
    assert_eq!(action.timeout.unwrap().seconds, 5, "what a delegate does not say is as the other says");
    assert_found("sleep", &format!("{}{root}", service("web", "foo", "")), "there is no virtual service bar/d");
}

#[test]
fn retries_and_timeouts_are_istios_unless_said() {
    let action = |rest: &str| {
        let written = routes("v", &format!("hosts: [web], http: [{{route: [{{destination: {{host: web}}}}]{rest}}}]"));
        let resources = told("sleep", &format!("{}{written}", service("web", "foo", "")));
        match host(&resources, "80", "web").routes[0].action.clone() {
            Some(Action::Route(action)) => action,
            other => panic!("{other:?}"),
        }
    };
    let default = action("");
    let retry = default.retry_policy.unwrap();
    assert_eq!(retry.retry_on, "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes");
    assert_eq!((retry.num_retries, retry.retriable_status_codes.as_slice()), (Some(2), &[503][..]));
    assert_eq!((retry.retry_host_predicate.len(), retry.host_selection_retry_max_attempts), (1, 5));
    assert_eq!(default.timeout.unwrap(), prost_types::Duration::default());
    let said = action(", timeout: 500ms, retries: {attempts: 1, retryOn: '5xx,404', retryIgnorePreviousHosts: false}");
    let retry = said.retry_policy.unwrap();
    assert_eq!((retry.retry_on.as_str(), retry.num_retries), ("5xx,retriable-status-codes", Some(1)));
    assert!(retry.retry_host_predicate.is_empty());
    assert_eq!(said.timeout.unwrap().nanos, 500_000_000);
    assert_eq!(action(", retries: {attempts: 0}").retry_policy, None);
}

#[test]
fn what_has_no_effect_is_said_in_istios_words() {
    let said = |http: &str, expected: &str| {
        let objects = format!("{}{}", service("web", "foo", ""), routes("v", &format!("hosts: [web], http: [{http}]")));
        assert_found("sleep", &objects, expected);
    };
    let to = "route: [{destination: {host: web}}]";
    said("{}", "spec.http[0]: HTTP route, redirect or direct_response is required");
    said(&format!("{{{to}, redirect: {{}}}}"), "HTTP route cannot contain both route and redirect");
    said("{redirect: {redirectCode: 200}}", "200 is not a valid redirect code, must be 3xx");
    said(&format!("{{{to}, fault: {{}}}}"), "HTTP fault injection must have an abort and/or a delay");
    said(
        &format!("{{{to}, fault: {{abort: {{httpStatus: 600, percent: 1}}}}}}"),
        "HTTP status 600 is not in range 200-599",
    );
    said(&format!("{{{to}, fault: {{abort: {{httpStatus: 500}}}}}}"), "is not given, which is 0");
    said(
        &format!("{{{to}, mirror: {{host: web}}, mirrors: [{{destination: {{host: web}}}}]}}"),
        "cannot contain both mirror and mirrors",
    );
    said(&format!("{{{to}, rewrite: {{}}}}"), "rewrite must specify at least one of");
    said(
        &format!("{{{to}, retries: {{attempts: 1, retryOn: sometimes}}}}"),
        "\"sometimes\" is not a valid retryOn policy",
    );
    said(
        &format!("{{{to}, headers: {{response: {{set: {{Host: x}}}}}}}}"),
        "invalid header \"Host\": cannot set Host header",
    );
    said(&format!("{{match: [{{uri: {{regex: '('}}}}], {to}}}"), "spec.http[0].match[0].uri.regex: invalid regex");
    said(&format!("{{match: [{{headers: {{'a b': {{exact: x}}}}}}], {to}}}"), "\"a b\" is not a header");
    said(&format!("{{match: [{{port: 81}}], {to}}}"), "no service of these hosts has the port 81");
    let both = found("sleep", &service("web", "foo", &routes("v", &format!("hosts: [web], http: [{{{to}}}]"))));
    assert!(both.iter().all(|f| !f.contains("VirtualService")), "{both:#?}");
}

#[test]
fn callers_are_told_apart_by_the_labels_that_routes_name() {
    let by_label =
        routes("v", "hosts: [web], http: [{match: [{sourceLabels: {app: sleep}}], directResponse: {status: 200}}]");
    let mesh = world(&format!("{}{by_label}", service("web", "foo", "")));
    assert!(mesh.outbound_class(&crate::world::node("sleep")) != mesh.outbound_class(&crate::world::node("tcp-echo")));
}
