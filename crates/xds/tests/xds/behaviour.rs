//! What becomes of requests in a world of objects: with our proxy and with a real Envoy, both fed with what [`xds::build`]
//! makes of it.
//!
//! Cases are in the folder of this file's name: objects in YAML, then requests (`? GET http://HOST:PORT/PATH [NAME: VALUE, …]`)
//! and under each what comes of it (`= STATUS BODY {HEADERS} | FLAGS DETAILS`). A server answers 200 with its name and
//! the request's method, path, authority and headers. `?+` sends a request and waits for nothing, `?*` asks several
//! times and tells all that has come of it. Where our proxy does
//! otherwise, `ours=` says so, and `why:` gives the reason.

mod case;
mod client;
mod plane;
mod server;

use std::collections::BTreeSet;

use case::Case;
use plane::{EnvoyPlane, OurPlane, Plane};
use server::Servers;

const FILES: [(&str, &str); 6] = [
    ("routes", include_str!("behaviour/routes.txt")),
    ("precedence", include_str!("behaviour/precedence.txt")),
    ("names", include_str!("behaviour/names.txt")),
    ("responses", include_str!("behaviour/responses.txt")),
    ("regex", include_str!("behaviour/regex.txt")),
    ("tls", include_str!("behaviour/tls.txt")),
];

/// How often is several times: enough for each of a few endpoints to have its turn.
const SEVERAL: usize = 6;

/// Plays the cases of a file, and tells all that went otherwise than `expected` has it.
fn check(file: &str, ours: bool) {
    let (_, text) = FILES.into_iter().find(|(name, _)| *name == file).unwrap();
    if !ours && testkit::envoy().is_none() {
        return;
    }
    let servers = Servers::start();
    let mut wrong = Vec::new();
    for case in case::read(text) {
        let resources = servers.resources(&case.objects);
        let plane: Box<dyn Plane> =
            if ours { Box::new(OurPlane::start(&resources)) } else { Box::new(EnvoyPlane::start(&resources)) };
        wrong.extend(play(&case, &*plane, &servers, ours));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The requests of a case that went otherwise.
fn play(case: &Case, plane: &dyn Plane, servers: &Servers, ours: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut held = Vec::new();
    for ask in &case.asks {
        if ask.held {
            held.push(client::begin(plane.table(&ask.port), ask));
            servers.wait_for_one_more();
            continue;
        }
        let expected = ask.ours.as_ref().filter(|_| ours).unwrap_or(&ask.envoys);
        let times = if ask.many { SEVERAL } else { 1 };
        let answers: BTreeSet<String> =
            (0..times).map(|_| servers.nameless(&client::ask(plane, ask, servers))).collect();
        let found = answers.into_iter().collect::<Vec<_>>().join(" or ");
        if found != *expected {
            wrong.push(format!("## {}\n? {}\n= {found}\ninstead of\n= {expected}\n", case.name, ask.line));
        }
    }
    wrong
}

macro_rules! suites {
    ($($file:ident),+) => {
        mod by_our_proxy {
            $(#[test] fn $file() { super::check(stringify!($file), true); })+
        }
        mod by_a_real_envoy {
            $(#[test] fn $file() { super::check(stringify!($file), false); })+
        }
    };
}
suites!(routes, precedence, names, responses, regex, tls);

#[test]
fn every_difference_has_a_reason() {
    for (file, text) in FILES {
        for ask in case::read(text).iter().flat_map(|case| &case.asks) {
            assert_eq!(ask.ours.is_some(), ask.why.is_some(), "{file}: {}", ask.line);
            assert!(ask.ours.as_ref() != Some(&ask.envoys), "{file}: {} differs in nothing", ask.line);
        }
    }
}
