//! What is said of hosts with wildcards, found without looking at everything.

use std::collections::BTreeMap;

use api::istio::Hostname;

/// Things by host. Hosts that stand for some of the same names are near one another when they are written from the end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HostIndex<T> {
    by_end: BTreeMap<String, (Hostname, Vec<T>)>,
}

impl<T> Default for HostIndex<T> {
    fn default() -> HostIndex<T> {
        HostIndex { by_end: BTreeMap::new() }
    }
}

impl<T> HostIndex<T> {
    /// Adds a thing to a host.
    pub(crate) fn insert(&mut self, host: &Hostname, thing: T) {
        let known = self.by_end.entry(reversed(host.as_str()));
        known.or_insert_with(|| (host.clone(), Vec::new())).1.push(thing);
    }

    /// What is said of names that `host` stands for, with the narrower of both hosts.
    pub(crate) fn meeting(&self, host: &Hostname) -> Vec<(Hostname, &T)> {
        let mut met = Vec::new();
        match host.as_str().strip_prefix('*') {
            None => met.extend(self.by_end.get(&reversed(host.as_str())).map(|(_, things)| (host, things))),
            Some(rest) => {
                let start = reversed(rest);
                let below = self.by_end.range(start.clone()..).take_while(|(key, _)| key.starts_with(&start));
                met.extend(below.map(|(_, (known, things))| (known, things)));
            }
        }
        met.extend(wider(host).filter_map(|key| self.by_end.get(&key)).map(|(_, things)| (host, things)));
        met.into_iter()
            .flat_map(|(narrower, things)| things.iter().map(move |thing| (narrower.clone(), thing)))
            .collect()
    }
}

/// The wildcards that stand for more than `host`, written from the end.
fn wider(host: &Hostname) -> impl Iterator<Item = String> {
    let name = host.as_str();
    let labels = name.char_indices().filter(|(at, c)| *c == '.' && !(*at == 1 && host.is_wildcard()));
    let suffixes = labels.map(|(at, _)| format!("{}*", reversed(&name[at..])));
    suffixes.chain((name != "*").then(|| "*".to_owned()))
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_meet_in_the_narrower() {
        let mut index = HostIndex::default();
        for host in ["a.b", "*.b", "c.b", "*", "x.a.b", "*.a.b", "b", "a.bb"] {
            index.insert(&Hostname::new(host), host);
        }
        let of = |host: &str| {
            let host = Hostname::new(host);
            let mut met: Vec<String> =
                index.meeting(&host).into_iter().map(|(both, said)| format!("{both}<{said}")).collect();
            met.sort();
            met.join(" ")
        };
        assert_eq!(of("a.b"), "a.b<* a.b<*.b a.b<a.b");
        assert_eq!(of("*.a.b"), "*.a.b<* *.a.b<*.a.b *.a.b<*.b x.a.b<x.a.b");
        assert_eq!(of("*.b"), "*.a.b<*.a.b *.b<* *.b<*.b a.b<a.b c.b<c.b x.a.b<x.a.b");
        assert_eq!(of("*").split(' ').count(), 8);
        assert_eq!(of("y"), "y<*");
    }
}
