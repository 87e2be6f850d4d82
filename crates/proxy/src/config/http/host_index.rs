//! Which virtual host takes an authority.
//!
//! The order is Envoy's: an equal domain, the longest suffix, the longest prefix, `*`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::virtual_host::{Domain, VirtualHost};

/// Finds the virtual host of an authority.
#[derive(Debug, Clone, Default)]
pub(super) struct HostIndex {
    exact: HashMap<Box<str>, usize>,
    suffixes: Wildcards,
    prefixes: Wildcards,
    any: Option<usize>,
}

/// Domains with a wildcard by the length of what remains without it, the longest first.
type Wildcards = Vec<(usize, HashMap<Box<str>, usize>)>;

/// A domain that two virtual hosts have, or one has twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clash {
    pub(super) host: usize,
    pub(super) domain: usize,
}

impl HostIndex {
    pub(super) fn new(hosts: &[Arc<VirtualHost>]) -> Result<HostIndex, Clash> {
        let mut index = HostIndex::default();
        for (host, virtual_host) in hosts.iter().enumerate() {
            for (domain, name) in virtual_host.domains.iter().enumerate() {
                let taken = match name {
                    Domain::Exact(name) => index.exact.insert(name.clone(), host),
                    Domain::Suffix(suffix) => of_length(&mut index.suffixes, suffix.len()).insert(suffix.clone(), host),
                    Domain::Prefix(prefix) => of_length(&mut index.prefixes, prefix.len()).insert(prefix.clone(), host),
                    Domain::Any => index.any.replace(host),
                };
                if taken.is_some() {
                    return Err(Clash { host, domain });
                }
            }
        }
        Ok(index)
    }

    /// The position of the virtual host that takes `authority`.
    pub(super) fn find(&self, authority: &str) -> Option<usize> {
        let authority = lower_case(authority);
        self.exact.get(&*authority).copied().or_else(|| self.wildcard(&authority)).or(self.any)
    }

    fn wildcard(&self, authority: &str) -> Option<usize> {
        // A wildcard stands for at least one character.
        let shorter = |(length, _): &&(usize, _)| *length < authority.len();
        let suffix = |length: usize| authority.get(authority.len() - length..);
        let suffixes = self.suffixes.iter().filter(shorter);
        let mut suffixes = suffixes.filter_map(|(length, domains)| domains.get(suffix(*length)?));
        let prefixes = self.prefixes.iter().filter(shorter);
        let mut prefixes = prefixes.filter_map(|(length, domains)| domains.get(authority.get(..*length)?));
        suffixes.next().or_else(|| prefixes.next()).copied()
    }
}

fn of_length(wildcards: &mut Wildcards, length: usize) -> &mut HashMap<Box<str>, usize> {
    let at = match wildcards.binary_search_by(|(other, _)| length.cmp(other)) {
        Ok(at) => at,
        Err(at) => {
            wildcards.insert(at, (length, HashMap::new()));
            at
        }
    };
    &mut wildcards[at].1
}

/// Nearly every authority is in lower case already.
fn lower_case(authority: &str) -> Cow<'_, str> {
    if authority.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(authority.to_ascii_lowercase())
    } else {
        Cow::Borrowed(authority)
    }
}

/// An authority without its port.
pub(super) fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if authority.rfind(']').is_none_or(|bracket| bracket < colon) => {
            authority.get(..colon).unwrap_or(authority)
        }
        _ => authority,
    }
}
