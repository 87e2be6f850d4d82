//! The project's own walkthroughs, on both data planes.

use testkit::Account;

use super::{Aside, Edition, Errand, Reader, choice, prepare};

pub(super) const FEDERATION: Edition = Edition {
    substitutions: &[("isthmus up c1 c2 c3 --detach", "isthmus up c1 c2 c3 --detach $DATA_PLANE")],
    asides: &[Aside {
        phrase: "Now [set up the private gateways](private-gateways.md).",
        errand: Errand::Follow("docs/private-gateways.md"),
    }],
    ..Edition::PLAIN
};

fn follow(file: &str, data_plane: &str) {
    let Some(federation) = prepare(Some(Account::current())) else { return };
    let Some(choice) = choice(data_plane) else { return };
    let mut reader = Reader::new(&federation, "bash");
    reader.terminal.enter(&format!("DATA_PLANE='{choice}'")).ok();
    reader.follow(file, &std::fs::read_to_string(file).unwrap(), &FEDERATION);
}

#[test]
fn federation_over_http_is_as_we_say() {
    follow("docs/federation-http.md", "native");
}

#[test]
fn federation_over_http_with_envoy_is_as_we_say() {
    follow("docs/federation-http.md", "envoy");
}

#[test]
fn federation_of_tcp_services_is_as_we_say() {
    follow("docs/federation-tcp.md", "native");
}

#[test]
fn federation_of_tcp_services_with_envoy_is_as_we_say() {
    follow("docs/federation-tcp.md", "envoy");
}
