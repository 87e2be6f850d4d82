//! The README's first five minutes, as they are written.

use testkit::{Account, Federation};

use crate::walkthrough::{Edition, Reader};

const EDITION: Edition = Edition {
    // The binary is the one under test.
    substitutions: &[("$ alias isthmus=$PWD/target/release/isthmus\n", "")],
    ..Edition::PLAIN
};

#[test]
fn the_first_five_minutes_print_what_they_say() {
    if !testkit::kubectl() || !testkit::namespaces() || !testkit::program("nc") {
        return;
    }
    let readme = std::fs::read_to_string("README.md").unwrap();
    let federation = Federation::prepare(crate::binary(), Account::current());
    Reader::new(&federation, "bash").follow("README.md", &readme, &EDITION);
}
