//! What becomes of requests in a world of objects: with our proxy and with a real Envoy, both fed with what [`xds::build`]
//! makes of it.
//!
//! Cases are in the folder of this file's name: objects in YAML, then requests
//! (`? GET http://HOST:PORT/PATH [NAME: VALUE, …]`, and in mutual TLS `as NAMESPACE/ACCOUNT offering PROTOCOL,…`; `as nobody`
//! is TLS without a certificate) and under each what comes of it (`= STATUS BODY {HEADERS} | FLAGS DETAILS`; what is not
//! logged has no `|`). A server answers 200 with its name and the request's method, path, authority and headers. `?+` sends
//! a request and waits for nothing, `?*` asks several times and tells all that has come of it. Where our proxy does
//! otherwise, `ours=` says so, and `why:` gives the reason.

mod case;
mod client;
mod listeners;
mod plane;
mod server;

use std::collections::BTreeSet;

use case::Case;
use listeners::Side;
use plane::{EnvoyPlane, Log, OurPlane, Plane};
use server::Servers;
use xds::Resources;

const FILES: [(&str, Side); 12] = [
    ("routes", Side::Client),
    ("precedence", Side::Client),
    ("names", Side::Client),
    ("responses", Side::Client),
    ("regex", Side::Client),
    ("tls", Side::Client),
    ("peers", Side::Server),
    ("authorization", Side::Server),
    ("tokens", Side::Server),
    ("roles", Side::Server),
    ("patches", Side::Server),
    ("gateways", Side::Gateway),
];

/// How often is several times: enough for each of a few endpoints to have its turn.
const SEVERAL: usize = 6;

fn cases(file: &str) -> Vec<Case> {
    let path = format!("{}/tests/xds/behaviour/{file}.txt", env!("CARGO_MANIFEST_DIR"));
    case::read(&std::fs::read_to_string(path).unwrap())
}

/// Plays the cases of a file, and tells all that went otherwise than `expected` has it.
fn check(file: &str, ours: bool) {
    let (_, side) = FILES.into_iter().find(|(name, _)| *name == file).unwrap();
    if !ours && testkit::envoy().is_none() {
        return;
    }
    let servers = Servers::start();
    let mut wrong = Vec::new();
    for case in cases(file) {
        let log = Log::new();
        let resources = servers.resources(side, &case.objects, &log.path());
        let called = case.asks.iter().map(|ask| ask.port.as_str()).collect();
        let listeners = side.listeners(&resources, servers.network(), &called);
        let clusters = side.clusters(&resources, servers.network());
        let resources = Resources { clusters, ..resources };
        let plane: Box<dyn Plane> = if ours {
            Box::new(OurPlane::start(&resources, listeners, log))
        } else {
            Box::new(EnvoyPlane::start(&resources, listeners, log))
        };
        wrong.extend(play(&case, &*plane, &servers, ours));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The requests of a case that went otherwise.
fn play(case: &Case, plane: &dyn Plane, servers: &Servers, ours: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut held = Vec::new();
    let mut read = 0;
    for ask in &case.asks {
        if ask.held {
            held.push(client::begin(plane.table(&ask.port).unwrap(), ask).unwrap());
            servers.wait_for_one_more();
            continue;
        }
        let expected = ask.ours.as_ref().filter(|_| ours).unwrap_or(&ask.envoys);
        let times = if ask.many { SEVERAL } else { 1 };
        let answers: BTreeSet<String> =
            (0..times).map(|_| servers.nameless(&client::ask(plane, ask, servers, &mut read))).collect();
        let found = answers.into_iter().collect::<Vec<_>>().join(" or ");
        if found != *expected {
            wrong.push(format!("## {}\n? {}\n= {found}\ninstead of\n= {expected}\n", case.name, ask.line));
        }
    }
    let unread: Vec<String> = plane.log().split_off(read);
    if !unread.is_empty() {
        wrong.push(format!("## {}\nlogs {unread:?}, too", case.name));
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
suites!(routes, precedence, names, responses, regex, tls, peers, authorization, tokens, roles, patches, gateways);

#[test]
fn every_difference_has_a_reason() {
    for (file, _) in FILES {
        for ask in cases(file).iter().flat_map(|case| &case.asks) {
            assert_eq!(ask.ours.is_some(), ask.why.is_some(), "{file}: {}", ask.line);
            assert!(ask.ours.as_ref() != Some(&ask.envoys), "{file}: {} differs in nothing", ask.line);
        }
    }
}
