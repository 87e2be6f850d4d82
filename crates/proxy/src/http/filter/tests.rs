//! Filters as listeners have them.

use envoy::TypeUrl;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request};

use crate::Snapshot;
use crate::config::Terminal;
use crate::config::http::HttpFilter;
use crate::tests::{accept, refuse};

/// A listener with an HTTP filter; `kind` is the end of its type.
fn listener(kind: &str, config: &str) -> String {
    let typed = |kind: &str, rest: &str| {
        format!(
            "{{name: {kind}, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.{kind}{rest}}}}}"
        )
    };
    let filters = [typed(&format!("http.{kind}"), config), typed("http.router.v3.Router", "")].join(", ");
    let manager = typed(
        "network.http_connection_manager.v3.HttpConnectionManager",
        &format!(", stat_prefix: x, route_config: {{name: r}}, http_filters: [{filters}]"),
    );
    format!(
        "name: l\naddress: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}\nfilter_chains: [{{filters: \
         [{manager}]}}]\n"
    )
}

/// The filter that a listener with this configuration has.
pub(crate) fn filter(kind: &str, config: &str) -> HttpFilter {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &listener(kind, config));
    let Terminal::Http(manager) = &snapshot.listener("l").unwrap().chains[0].terminal else { panic!("{config}") };
    manager.filters[0].filter.clone()
}

/// Why a listener with this filter is refused.
pub(crate) fn refused(kind: &str, config: &str) -> String {
    let rejected = refuse(TypeUrl::Listener, &listener(kind, config)).to_string();
    let at = "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.";
    rejected.strip_prefix(at).unwrap_or(&rejected).to_owned()
}

/// The head of a request.
pub(crate) fn head(method: Method, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        request = request.header(name, HeaderValue::from_str(value).unwrap());
    }
    request.body(()).unwrap().into_parts().0
}
