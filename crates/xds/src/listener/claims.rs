//! Which chain takes a connection where several could.

use std::collections::{BTreeMap, BTreeSet};

use envoy::envoy::config::core::v3::CidrRange;
use envoy::envoy::config::listener::v3::FilterChainMatch;

use crate::ObjectRef;

/// What the chains of a listener match, each with who was first.
#[derive(Default)]
pub(crate) struct Claims {
    taken: BTreeMap<Claim, ObjectRef>,
}

/// Ranges of addresses, a server name, a transport protocol and application protocols.
type Claim = (String, String, String, Vec<String>);

impl Claims {
    /// What of a condition no earlier chain matches, since Envoy refuses a listener where two chains match the same, and
    /// to whom the rest belongs.
    pub(crate) fn claim(
        &mut self,
        condition: FilterChainMatch,
        owner: &ObjectRef,
    ) -> (Option<FilterChainMatch>, Option<ObjectRef>) {
        let from = texts(&condition.source_prefix_ranges);
        let to = texts(&condition.prefix_ranges);
        let ranges: Vec<String> =
            to.iter().flat_map(|to| from.iter().map(move |from| format!("{to} {from}"))).collect();
        let names = match condition.server_names.as_slice() {
            [] => vec![String::new()],
            names => names.to_vec(),
        };
        let (mut free, mut first) = (BTreeSet::new(), None);
        for name in names {
            let spoken = (&condition.transport_protocol, &condition.application_protocols);
            let key = |range: &String| (range.clone(), name.clone(), spoken.0.clone(), spoken.1.clone());
            let keys: Vec<_> = ranges.iter().map(key).collect();
            match keys.iter().find_map(|key| self.taken.get(key)) {
                Some(other) => first = first.or_else(|| Some(other.clone())),
                None => {
                    self.taken.extend(keys.into_iter().map(|key| (key, owner.clone())));
                    free.insert(name);
                }
            }
        }
        let server_names = free.iter().filter(|name| !name.is_empty()).cloned().collect();
        let condition = (!free.is_empty()).then_some(FilterChainMatch { server_names, ..condition });
        (condition, first)
    }
}

/// Ranges as text; none is any.
fn texts(ranges: &[CidrRange]) -> Vec<String> {
    match ranges {
        [] => vec![String::new()],
        ranges => ranges.iter().map(|r| format!("{}/{:?}", r.address_prefix, r.prefix_len)).collect(),
    }
}
