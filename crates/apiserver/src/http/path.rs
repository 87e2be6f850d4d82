//! The path grammar of the Kubernetes API.

use std::borrow::Cow;

use api::GroupResource;

/// A path under `/api/v1` or `/apis/{group}/{version}`, taken apart. What it names need not exist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ResourcePath {
    pub(super) group: String,
    pub(super) version: String,
    /// Empty for cluster-scoped resources and for lists over all namespaces.
    pub(super) namespace: String,
    /// The plural.
    pub(super) resource: String,
    /// Empty for collections.
    pub(super) name: String,
    /// `status`, `scale`, `exec`, …; with further segments, which none but `proxy` can have.
    pub(super) subresource: String,
    /// What is behind `proxy`, which is a path of its own.
    pub(super) beyond: String,
}

impl ResourcePath {
    pub(super) fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.group, &self.resource)
    }
}

/// Takes a path apart; `None` for one that names no resource (`/version`, `/apis/apps/v1`) or is not valid UTF-8.
pub(super) fn parse(path: &str) -> Option<ResourcePath> {
    let mut segments = path.trim_matches('/').split('/');
    let group = match segments.next()? {
        "api" => String::new(),
        "apis" => decode(segments.next()?)?,
        _ => return None,
    };
    let version = decode(segments.next()?)?;
    let rest: Vec<String> = segments.map(decode).collect::<Option<_>>()?;
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let (namespace, rest) = match rest.as_slice() {
        // Namespaces are resources themselves, with these two subresources.
        ["namespaces", _, "status" | "finalize", ..] | ["namespaces"] | ["namespaces", _] => ("", rest.as_slice()),
        ["namespaces", namespace, rest @ ..] => (*namespace, rest),
        rest => ("", rest),
    };
    let (resource, rest) = rest.split_first()?;
    let (name, rest) = rest.split_first().unwrap_or((&"", &[]));
    if resource.is_empty() || (name.is_empty() && !rest.is_empty()) {
        return None;
    }
    let (subresource, beyond) = match rest {
        ["proxy", beyond @ ..] => ("proxy".to_owned(), beyond.join("/")),
        rest => (rest.join("/"), String::new()),
    };
    Some(ResourcePath {
        group,
        version,
        namespace: namespace.to_owned(),
        resource: (*resource).to_owned(),
        name: (*name).to_owned(),
        subresource,
        beyond,
    })
}

fn decode(segment: &str) -> Option<String> {
    percent_encoding::percent_decode_str(segment).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_resources() {
        for (path, expected) in [
            ("/api/v1/pods", ["", "v1", "", "pods", "", ""]),
            ("/api/v1/namespaces/a/pods/b/exec", ["", "v1", "a", "pods", "b", "exec"]),
            ("/api/v1/namespaces", ["", "v1", "", "namespaces", "", ""]),
            ("/api/v1/namespaces/a", ["", "v1", "", "namespaces", "a", ""]),
            ("/api/v1/namespaces/a/finalize", ["", "v1", "", "namespaces", "a", "finalize"]),
            ("/api/v1/namespaces/a/pods", ["", "v1", "a", "pods", "", ""]),
            ("/apis/apps/v1/namespaces/a/deployments/b/scale", ["apps", "v1", "a", "deployments", "b", "scale"]),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Ax",
                ["rbac.authorization.k8s.io", "v1", "", "clusterroles", "system:x", ""],
            ),
            ("/api/v1/pods/a/exec/b", ["", "v1", "", "pods", "a", "exec/b"]),
        ] {
            let found = parse(path).unwrap();
            let ResourcePath { group, version, namespace, resource, name, subresource, beyond } = &found;
            assert_eq!([group, version, namespace, resource, name, subresource], expected, "{path}");
            assert_eq!(beyond, "");
        }
        let behind = parse("/api/v1/namespaces/n/services/http:s:80/proxy/a/b").unwrap();
        assert_eq!([&*behind.name, &*behind.subresource, &*behind.beyond], ["http:s:80", "proxy", "a/b"]);
    }

    #[test]
    fn other_paths_name_none() {
        for path in
            ["/", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version", "/api/v1/%ff", "/api/v1/pods//x"]
        {
            assert_eq!(parse(path), None, "{path}");
        }
    }
}
