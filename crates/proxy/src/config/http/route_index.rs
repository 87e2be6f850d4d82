//! Which routes may take a path.
//!
//! Routes are tried in their order, and the first that matches takes the request. Most match by an equal path or by a
//! prefix, and these are not looked at unless the path says so: equal paths are found by hash, prefixes in a sorted list
//! where each knows the longest other that it begins with. The rest is always looked at. What is found is still tried
//! in the order of the routes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::route::Route;
use super::route_match::PathMatch;

/// Finds the routes that may take a path.
#[derive(Debug, Clone, Default)]
pub(super) struct RouteIndex {
    exact: HashMap<Box<str>, Vec<u32>>,
    /// Sorted by prefix.
    prefixes: Box<[Prefix]>,
    rest: Box<[u32]>,
}

#[derive(Debug, Clone)]
struct Prefix {
    text: Box<str>,
    /// The longest other prefix that this one begins with.
    shorter: Option<usize>,
    routes: Vec<u32>,
}

impl RouteIndex {
    pub(super) fn new(routes: &[Arc<Route>]) -> RouteIndex {
        let mut exact: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        let mut prefixes: BTreeMap<Box<str>, Vec<u32>> = BTreeMap::new();
        let mut rest = Vec::new();
        for (position, route) in (0_u32..).zip(routes) {
            match &route.matches.path {
                PathMatch::Exact { path, ignore_case: false } => exact.entry(path.clone()).or_default().push(position),
                PathMatch::Prefix { prefix, ignore_case: false }
                | PathMatch::Segments { prefix, ignore_case: false } => {
                    prefixes.entry(prefix.clone()).or_default().push(position);
                }
                PathMatch::Exact { .. }
                | PathMatch::Prefix { .. }
                | PathMatch::Segments { .. }
                | PathMatch::Regex(_)
                | PathMatch::Connect => rest.push(position),
            }
        }
        RouteIndex { exact, prefixes: linked(prefixes), rest: rest.into() }
    }

    /// The positions of the routes that may take `path`, in their order.
    pub(super) fn candidates<'i>(&'i self, path: &str) -> Candidates<'i> {
        Candidates {
            index: self,
            exact: self.exact.get(path).map_or(&[], Vec::as_slice),
            longest: self.longest_prefix(path),
            next: 0,
        }
    }

    /// The position of the longest prefix of `path`.
    fn longest_prefix(&self, path: &str) -> Option<usize> {
        // Whatever is a prefix of the path is one of the last text that does not come after the path, too.
        let after = self.prefixes.partition_point(|prefix| *prefix.text <= *path);
        let mut at = after.checked_sub(1);
        while let Some(prefix) = at.and_then(|position| self.prefixes.get(position)) {
            if path.starts_with(&*prefix.text) {
                return at;
            }
            at = prefix.shorter;
        }
        None
    }
}

fn linked(prefixes: BTreeMap<Box<str>, Vec<u32>>) -> Box<[Prefix]> {
    let mut linked: Vec<Prefix> = Vec::with_capacity(prefixes.len());
    for (text, routes) in prefixes {
        let mut shorter = linked.len().checked_sub(1);
        while let Some(other) = shorter.and_then(|position| linked.get(position)) {
            if text.starts_with(&*other.text) {
                break;
            }
            shorter = other.shorter;
        }
        linked.push(Prefix { text, shorter, routes });
    }
    linked.into()
}

/// The positions of routes that may take a path, in their order.
#[derive(Debug, Clone)]
pub(super) struct Candidates<'i> {
    index: &'i RouteIndex,
    exact: &'i [u32],
    longest: Option<usize>,
    /// Everything before this position has been given.
    next: u32,
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let first = |positions: &[u32]| positions.get(positions.partition_point(|p| *p < self.next)).copied();
        let mut least = [first(self.exact), first(&self.index.rest)].into_iter().flatten().min();
        let mut at = self.longest;
        while let Some(prefix) = at.and_then(|position| self.index.prefixes.get(position)) {
            least = least.into_iter().chain(first(&prefix.routes)).min();
            at = prefix.shorter;
        }
        let position = least?;
        self.next = position + 1;
        usize::try_from(position).ok()
    }
}
