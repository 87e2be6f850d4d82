//! Routes for requests, with those of delegates in their places.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::NamespacedName;
use api::istio::{Destination, HttpMatch, HttpRoute, Object, StringMatch, VirtualService};

use crate::mesh::Visibility;
use crate::{Code, Diagnostic, ObjectRef};

/// A route for requests, with where it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Http {
    /// The virtual service, which may be a delegate.
    pub(crate) object: ObjectRef,
    /// Its field, for example `spec.http[0]`.
    pub(crate) field: String,
    pub(crate) route: HttpRoute,
}

impl Http {
    /// Every destination of requests and of copies.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let HttpRoute { route, mirror, mirrors, .. } = &self.route;
        let mirrors = mirrors.iter().map(|m| &m.destination);
        route.iter().map(|r| &r.destination).chain(mirror).chain(mirrors)
    }
}

/// Virtual services without hosts, to which others delegate.
pub(super) struct Delegates<'a> {
    by_name: BTreeMap<NamespacedName, (&'a Object<VirtualService>, Visibility)>,
}

impl<'a> Delegates<'a> {
    pub(super) fn new(objects: &'a [Arc<Object<VirtualService>>], default: &[String]) -> Delegates<'a> {
        let delegates = objects.iter().filter(|o| o.spec.hosts.is_empty());
        let by_name = delegates.map(|object| {
            let visibility = Visibility::new(&object.spec.export_to, default, &object.metadata.namespace);
            (object.name(), (object.as_ref(), visibility))
        });
        Delegates { by_name: by_name.collect() }
    }

    /// The routes of an object, those of its delegates included.
    pub(super) fn routes(&self, object: &Object<VirtualService>, found: &mut Vec<Diagnostic>) -> Vec<Http> {
        let name = ObjectRef::of(object);
        let mut routes = Vec::new();
        for (i, route) in object.spec.http.iter().enumerate() {
            let field = format!("spec.http[{i}]");
            match &route.delegate {
                None => routes.push(Http { object: name.clone(), field, route: route.clone() }),
                Some(delegate) => {
                    let namespace = match delegate.namespace.as_str() {
                        "" => object.metadata.namespace.as_str(),
                        namespace => namespace,
                    };
                    let wanted = NamespacedName::new(namespace, delegate.name.as_str());
                    let field = format!("{field}.delegate");
                    let known = self.by_name.get(&wanted);
                    match known.filter(|(_, v)| v.includes(&object.metadata.namespace)) {
                        Some((delegate, _)) => routes.extend(delegated(route, delegate, &name, &field, found)),
                        None => {
                            let message = format!("there is no virtual service {wanted} without hosts to delegate to");
                            found.push(name.error(field, Code::ReferenceNotFound, message));
                        }
                    }
                }
            }
        }
        routes
    }
}

fn delegated(
    root: &HttpRoute,
    delegate: &Object<VirtualService>,
    by: &ObjectRef,
    field: &str,
    found: &mut Vec<Diagnostic>,
) -> Vec<Http> {
    if !root.route.is_empty() || root.redirect.is_some() {
        let message = "a route that delegates has no destinations and no redirect of its own; they have no effect";
        found.push(by.error(field, Code::InvalidValue, message));
    }
    let mut routes = Vec::new();
    for (i, route) in delegate.spec.http.iter().enumerate() {
        let own = format!("spec.http[{i}]");
        if route.delegate.is_some() {
            let message = "a delegate cannot delegate further; the route has no effect";
            found.push(ObjectRef::of(delegate).error(format!("{own}.delegate"), Code::InvalidValue, message));
            continue;
        }
        match merge(root, route) {
            Some(route) => routes.push(Http { object: ObjectRef::of(delegate), field: own, route }),
            None => {
                let message = format!("has no effect for {by}: its conditions and those there cannot both hold");
                let found_here = ObjectRef::of(delegate).warning(format!("{own}.match"), Code::Conflict, message);
                found.push(found_here);
            }
        }
    }
    routes
}

/// A delegate's route with what the delegating route says and it does not; `None` if no request can match both.
fn merge(root: &HttpRoute, own: &HttpRoute) -> Option<HttpRoute> {
    let matches = match (root.matches.as_slice(), own.matches.as_slice()) {
        ([], own) => own.to_vec(),
        (root, []) => root.to_vec(),
        (roots, owns) => {
            let pairs = roots.iter().flat_map(|root| owns.iter().map(move |own| (root, own)));
            let both: Vec<_> = pairs.filter_map(|(root, own)| merge_conditions(root, own)).collect();
            if both.is_empty() {
                return None;
            }
            both
        }
    };
    let or = |own: &Option<_>, root: &Option<_>| own.clone().or_else(|| root.clone());
    Some(HttpRoute {
        name: joined(&root.name, &own.name),
        matches,
        rewrite: own.rewrite.clone().or_else(|| root.rewrite.clone()),
        direct_response: own.direct_response.clone().or_else(|| root.direct_response.clone()),
        timeout: own.timeout.or(root.timeout),
        retries: own.retries.clone().or_else(|| root.retries.clone()),
        fault: own.fault.clone().or_else(|| root.fault.clone()),
        mirror: own.mirror.clone().or_else(|| root.mirror.clone()),
        mirror_percentage: own.mirror_percentage.or(root.mirror_percentage),
        mirror_percent: own.mirror_percent.or(root.mirror_percent),
        mirrors: if own.mirrors.is_empty() { root.mirrors.clone() } else { own.mirrors.clone() },
        cors_policy: own.cors_policy.clone().or_else(|| root.cors_policy.clone()),
        headers: or(&own.headers, &root.headers),
        route: own.route.clone(),
        redirect: own.redirect.clone(),
        delegate: None,
    })
}

/// Both conditions in one.
fn merge_conditions(root: &HttpMatch, own: &HttpMatch) -> Option<HttpMatch> {
    let texts = [
        (&root.uri, &own.uri),
        (&root.scheme, &own.scheme),
        (&root.method, &own.method),
        (&root.authority, &own.authority),
    ];
    let shared = |a: &BTreeMap<String, StringMatch>, b: &BTreeMap<String, StringMatch>| {
        a.iter().all(|(name, pattern)| b.get(name).is_none_or(|own| agree(pattern, own)))
    };
    let agreed = texts.into_iter().all(|(root, own)| match (root, own) {
        (Some(root), Some(own)) => agree(root, own),
        _ => true,
    });
    let ports = root.port.is_none() || own.port.is_none() || root.port == own.port;
    let namespaces = root.source_namespace.is_empty()
        || own.source_namespace.is_empty()
        || root.source_namespace == own.source_namespace;
    let labels = root.source_labels.iter().all(|(k, v)| own.source_labels.get(k).is_none_or(|own| own == v));
    let maps = shared(&root.headers, &own.headers)
        && shared(&root.query_params, &own.query_params)
        && shared(&root.without_headers, &own.without_headers);
    if root.ignore_uri_case != own.ignore_uri_case || !(agreed && ports && namespaces && labels && maps) {
        return None;
    }
    let or = |own: &Option<StringMatch>, root: &Option<StringMatch>| own.clone().or_else(|| root.clone());
    let both = |root: &BTreeMap<String, StringMatch>, own: &BTreeMap<String, StringMatch>| {
        root.iter().chain(own).map(|(name, pattern)| (name.clone(), pattern.clone())).collect()
    };
    let first = |own: &str, root: &str| if own.is_empty() { root.to_owned() } else { own.to_owned() };
    Some(HttpMatch {
        name: joined(&root.name, &own.name),
        uri: or(&own.uri, &root.uri),
        scheme: or(&own.scheme, &root.scheme),
        method: or(&own.method, &root.method),
        authority: or(&own.authority, &root.authority),
        headers: both(&root.headers, &own.headers),
        without_headers: both(&root.without_headers, &own.without_headers),
        query_params: both(&root.query_params, &own.query_params),
        ignore_uri_case: own.ignore_uri_case,
        port: own.port.or(root.port),
        source_labels: root
            .source_labels
            .iter()
            .chain(&own.source_labels)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        gateways: root.gateways.clone(),
        source_namespace: first(&own.source_namespace, &root.source_namespace),
        stat_prefix: first(&own.stat_prefix, &root.stat_prefix),
    })
}

/// Whether the narrower pattern of a delegate lies within that of the route that delegates.
fn agree(root: &StringMatch, own: &StringMatch) -> bool {
    match (root, own) {
        (StringMatch::Present, _) | (_, StringMatch::Present) => true,
        (StringMatch::Exact(root), StringMatch::Exact(own)) => root == own,
        (StringMatch::Prefix(root), StringMatch::Exact(own) | StringMatch::Prefix(own)) => own.starts_with(root),
        (StringMatch::Exact(_), StringMatch::Prefix(_)) => false,
        (StringMatch::Regex(_), _) | (_, StringMatch::Regex(_)) => false,
    }
}

fn joined(root: &str, own: &str) -> String {
    match (root, own) {
        ("", name) | (name, "") => name.to_owned(),
        (root, own) => format!("{root}-{own}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delegates_condition_lies_within_the_delegating_one() {
        let exact = |text: &str| StringMatch::Exact(text.to_owned());
        let prefix = |text: &str| StringMatch::Prefix(text.to_owned());
        let regex = |text: &str| StringMatch::Regex(text.to_owned());
        assert!(agree(&prefix("/a"), &prefix("/a/b")) && agree(&prefix("/a"), &exact("/a/b")));
        assert!(!agree(&prefix("/a/b"), &prefix("/a")) && !agree(&exact("/a"), &prefix("/a")));
        assert!(!agree(&regex("/a"), &exact("/a")) && agree(&exact("a"), &exact("a")));
    }
}
