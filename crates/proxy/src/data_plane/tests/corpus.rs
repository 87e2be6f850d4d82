//! Requests as bytes, from good to vicious, and what becomes of each: of ours as of a real Envoy with the same
//! configuration. The cases are in `testdata/corpus`; its README says how they are written.

mod answers;
mod case;
mod frames;
mod lines;
mod script;
mod subject;
mod upstream;

use std::net::SocketAddr;
use std::time::Duration;

use testkit::RealEnvoy;

use super::{LIMIT, Plane, connect};
use case::{Case, Outcome, Wire};
use subject::LISTENERS;
use upstream::Upstreams;

/// For how long nothing has to come where nothing is expected to.
const SILENCE: Duration = Duration::from_millis(900);

const FILES: [(&str, &str); 8] = [
    ("framing", include_str!("../../../testdata/corpus/framing.txt")),
    ("heads", include_str!("../../../testdata/corpus/heads.txt")),
    ("targets", include_str!("../../../testdata/corpus/targets.txt")),
    ("paths", include_str!("../../../testdata/corpus/paths.txt")),
    ("upgrades", include_str!("../../../testdata/corpus/upgrades.txt")),
    ("http2", include_str!("../../../testdata/corpus/http2.txt")),
    ("streams", include_str!("../../../testdata/corpus/streams.txt")),
    ("fields", include_str!("../../../testdata/corpus/fields.txt")),
];

/// Where RFC 9113 and RFC 7541 say what one must do with what comes.
const SECTIONS: [(&str, &[&str]); 2] = [
    (
        "9113",
        &[
            "3.4", "4.1", "4.2", "4.3", "5.1", "5.1.1", "5.1.2", "5.4.1", "5.4.2", "5.5", "6.1", "6.2", "6.3", "6.4",
            "6.5", "6.5.2", "6.5.3", "6.6", "6.7", "6.8", "6.9", "6.9.1", "6.9.2", "6.10", "7", "8.1", "8.1.1",
            "8.2.1", "8.2.2", "8.2.3", "8.3", "8.3.1", "8.4", "8.5",
        ],
    ),
    ("7541", &["2.3.2", "2.3.3", "4.2", "4.3", "4.4", "5.1", "5.2", "6.1", "6.2.1", "6.2.2", "6.2.3", "6.3"]),
];

fn cases() -> Vec<Case> {
    FILES.iter().flat_map(|(file, text)| case::read(file, text)).collect()
}

/// Every case, and what servers answer, too.
fn all_cases() -> Vec<Case> {
    cases().into_iter().chain(answers::cases()).collect()
}

/// What becomes of a case at a proxy whose listener is at `address`.
fn play(case: &Case, expected: &Outcome, address: SocketAddr, upstreams: &Upstreams) -> Outcome {
    upstreams.forget();
    let stream = connect(address);
    let patience = if expected.waits() || expected.answers.is_empty() { SILENCE } else { LIMIT };
    stream.set_read_timeout(Some(patience)).unwrap();
    let answers = match &case.wire {
        Wire::Lines(bytes) => lines::ask(stream, bytes, case.probed),
        Wire::Frames(frames) => frames::ask(stream, frames),
    };
    Outcome { answers: answers.join(", "), seen: upstreams.seen() }
}

/// Plays every case, and tells all that went otherwise than `expected` has it.
fn check(expected: impl Fn(&Case) -> &Outcome, address: impl Fn(&str) -> SocketAddr, upstreams: &Upstreams) {
    let mut wrong = Vec::new();
    for case in cases() {
        let expected = expected(&case);
        let found = play(&case, expected, address(&case.listener), upstreams);
        if found != *expected {
            wrong.push(format!("{}: {}\nexpected:\n{expected}found:\n{found}", case.file, case.name));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_request_of_the_corpus_becomes_what_its_case_says() {
    let upstreams = Upstreams::start();
    let mut plane = Plane::start();
    for (name, address) in upstreams.addresses() {
        plane.cluster(name, &[address], "");
    }
    for (name, options) in LISTENERS {
        plane.listener(&subject::listener(name, options));
    }
    let unbound = plane.install();
    assert!(unbound.is_empty(), "{unbound:?}");
    let addresses = plane.plane.addresses();
    check(Case::ours, |name| addresses[name], &upstreams);
}

#[test]
fn a_real_envoy_makes_of_the_corpus_what_its_cases_say() {
    let upstreams = Upstreams::start();
    let bootstrap = subject::bootstrap(&upstreams);
    let Some(envoy) = RealEnvoy::start(&bootstrap, LISTENERS.len()) else { return };
    check(|case| &case.envoys, |name| envoy.listener(name), &upstreams);
}

#[test]
fn the_corpus_is_large_and_every_difference_has_a_reason() {
    let cases = all_cases();
    assert!(cases.len() >= 150, "{}", cases.len());
    let mut names: Vec<_> = cases.iter().map(|case| (case.file, &case.name)).collect();
    names.sort();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "two cases have one name");
    for case in &cases {
        assert_eq!(case.ours.is_some(), case.why.is_some(), "{}: {}", case.file, case.name);
        assert!(case.ours.as_ref() != Some(&case.envoys), "{}: {} differs in nothing", case.file, case.name);
    }
}

#[test]
fn every_section_on_what_a_peer_may_send_has_a_case() {
    let cases = all_cases();
    let has = |section: &str| cases.iter().any(|case| case.rfc.as_deref() == Some(section));
    let all =
        SECTIONS.iter().flat_map(|(rfc, sections)| sections.iter().map(move |section| format!("{rfc} {section}")));
    let missing: Vec<String> = all.filter(|section| !has(section)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
