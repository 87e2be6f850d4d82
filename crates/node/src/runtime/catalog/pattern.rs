//! Image references and the patterns they are matched with.

/// The parts of `[REGISTRY/]NAME[:TAG][@DIGEST]`.
pub(super) struct Reference<'a> {
    /// With the registry.
    full: &'a str,
    /// Without the registry, and without the `library/` that Docker's registry has.
    name: &'a str,
    tag: &'a str,
}

impl Reference<'_> {
    pub(super) fn parse(text: &str) -> Reference<'_> {
        let text = text.split_once('@').map_or(text, |(text, _)| text);
        let last = text.rfind('/').map_or(0, |slash| slash + 1);
        let (full, tag) = match text.get(last..).and_then(|t| t.rfind(':')) {
            Some(colon) => (text.get(..last + colon), text.get(last + colon + 1..)),
            None => (Some(text), Some("latest")),
        };
        let full = full.unwrap_or_default();
        let name = match full.split_once('/') {
            Some((first, rest)) if is_registry(first) => rest,
            _ => full,
        };
        let name = name.strip_prefix("library/").unwrap_or(name);
        Reference { full, name, tag: tag.unwrap_or_default() }
    }

    pub(super) fn matches(&self, pattern: &str, tag: Option<&str>) -> bool {
        (glob(pattern, self.name) || glob(pattern, self.full)) && tag.is_none_or(|tag| glob(tag, self.tag))
    }
}

/// As Docker tells a registry from the first part of a name.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

/// `*` stands for any characters but `/`, `?` for one.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut p, mut t) = (pattern.chars(), text.chars());
    match (p.next(), t.next()) {
        (None, None) => true,
        (Some('*'), first) => glob(p.as_str(), text) || first.is_some_and(|c| c != '/' && glob(pattern, t.as_str())),
        (Some('?'), Some(c)) if c != '/' => glob(p.as_str(), t.as_str()),
        (Some(a), Some(b)) if a == b => glob(p.as_str(), t.as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_tags_and_digests_are_told_apart() {
        let matches = |image: &str, pattern: &str, tag| Reference::parse(image).matches(pattern, tag);
        assert!(matches("localhost:5000/a/b:1", "a/b", Some("1")));
        assert!(matches("a", "a", Some("latest")) && !matches("a:2", "a", Some("1*")));
        assert!(matches("ghcr.io/org/app-v1@sha256:0", "org/app-*", None));
        assert!(!matches("org/app/sub", "org/*", None) && !matches("org/app", "app", None));
        assert!(matches("quay.io/org/app", "quay.io/org/a?p", None));
        assert!(!matches("docker.io/org/app", "quay.io/org/app", None));
    }
}
