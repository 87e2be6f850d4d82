//! The indexes find what a walk through the whole list finds.

use super::{parts, plain, routes, table};
use crate::config::http::Domain;

const PATHS: [&str; 12] = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/b", "/b/a", "/A/B", "/a/b/c/d", "/c"];

/// A route that matches by something drawn.
fn drawn(random: &mut fastrand::Rng, name: usize) -> String {
    let path = PATHS[random.usize(..PATHS.len())];
    let matches = match random.u8(..8) {
        0 | 1 => format!("path: '{path}'"),
        2..=4 => format!("prefix: '{path}'"),
        5 if path.len() > 1 => format!("path_separated_prefix: '{}'", path.trim_end_matches('/')),
        6 => format!("safe_regex: {{regex: '{path}.*'}}"),
        _ => format!("prefix: '{path}', case_sensitive: false"),
    };
    let header = match random.u8(..3) {
        0 => ", headers: [{name: x, string_match: {exact: '1'}}]",
        1 => ", headers: [{name: x, string_match: {exact: '2'}}]",
        _ => "",
    };
    format!("{{name: r{name}, match: {{{matches}{header}}}, route: {{cluster: c}}}}")
}

#[test]
fn the_route_is_the_one_that_a_walk_through_all_of_them_finds() {
    let mut random = fastrand::Rng::with_seed(4);
    for _ in 0..200 {
        let list: Vec<String> = (0..random.usize(1..30)).map(|name| drawn(&mut random, name)).collect();
        let table = routes(&list.join(", "));
        let host = &table.hosts[0];
        for path in PATHS.into_iter().chain(["/abcd", "/a/bc", "/d", "/a//b"]) {
            for x in ["1", "2", "3"] {
                let parts = parts(&format!("GET http://h{path}\nx: {x}"));
                let request = plain(&parts);
                let walked = host.routes.iter().find(|route| route.matches.holds(&request)).map(|r| &r.name);
                assert_eq!(host.route(&request).map(|r| &r.name), walked, "{path} {x}\n{}", list.join("\n"));
            }
        }
    }
}

/// Whether a domain takes an authority, and how well: an equal one, then the longest suffix, then the longest prefix.
fn rank(domain: &Domain, authority: &str) -> Option<(u8, usize)> {
    match domain {
        Domain::Exact(name) => (**name == *authority).then_some((3, 0)),
        Domain::Suffix(end) => (authority.len() > end.len() && authority.ends_with(&**end)).then_some((2, end.len())),
        Domain::Prefix(start) => {
            (authority.len() > start.len() && authority.starts_with(&**start)).then_some((1, start.len()))
        }
        Domain::Any => Some((0, 0)),
    }
}

#[test]
fn the_virtual_host_is_the_one_that_a_walk_through_all_of_them_finds() {
    let mut random = fastrand::Rng::with_seed(5);
    let names = ["a", "a.b", "b.a.b", "c.a.b", "a.b.c", "ab", ".a.b", "b"];
    for _ in 0..200 {
        let mut domains: Vec<String> = Vec::new();
        for _ in 0..random.usize(1..8) {
            let name = names[random.usize(..names.len())];
            let domain = match random.u8(..4) {
                0 => name.to_owned(),
                1 => format!("*{name}"),
                2 => format!("{name}*"),
                _ => "*".to_owned(),
            };
            if !domains.contains(&domain) {
                domains.push(domain);
            }
        }
        let hosts: Vec<String> = domains.iter().map(|d| format!("{{name: '{d}', domains: ['{d}']}}")).collect();
        let table = table(&format!("virtual_hosts: [{}]", hosts.join(", ")));
        for authority in names.into_iter().chain(["x.a.b", "a.b.x", "aab", "abb"]) {
            let walked = table.hosts.iter().filter_map(|host| Some((rank(&host.domains[0], authority)?, &host.name)));
            let walked = walked.max().map(|(_, name)| name);
            assert_eq!(table.host(authority).map(|host| &host.name), walked, "{authority} {domains:?}");
        }
    }
}
