//! The real binary, driven by real clients.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod analysis;
mod bookinfo;
mod cli;
mod client_py;
mod client_rs;
mod crash;
mod demo;
mod faults;
mod kubectl;
mod mesh;
mod network;
mod pods;
mod readme;
mod sidecar;
mod walkthrough;

use std::path::Path;
use std::sync::Arc;

use testkit::{Account, Federation, Session, Shared};

/// The federation that most tests share, once for each account that the tests are run as.
static CURRENT: Shared = Shared::new();
static ORDINARY: Shared = Shared::new();

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_isthmus"))
}

/// Two clusters, run by whoever runs the tests; `None`, and a reason printed, where they cannot be.
fn current_user() -> Option<Arc<Federation>> {
    testkit::namespaces().then(|| CURRENT.get(|| Federation::up(binary(), Account::current(), &["c1", "c2"])))
}

/// Two clusters, run by an ordinary user; `None`, and a reason printed, where they cannot be.
fn ordinary_user() -> Option<Arc<Federation>> {
    let Some(account) = Account::ordinary() else {
        testkit::skip("the tests do not run as root, so the current user is an ordinary one");
        return None;
    };
    testkit::namespaces().then(|| ORDINARY.get(|| Federation::up(binary(), account, &["c1", "c2"])))
}

/// Runs `scenario` in a namespace of its own in c1, if there are a kubectl and a federation.
fn play(federation: fn() -> Option<Arc<Federation>>, scenario: fn(&Session<'_>)) {
    if !testkit::kubectl() {
        return;
    }
    if let Some(federation) = federation() {
        scenario(&federation.session("c1"));
    }
}

/// Makes each scenario two tests: as whoever runs the tests, and as an ordinary user.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        mod as_current_user {
            $(#[test] fn $name() { crate::play(crate::current_user, super::$name); })+
        }
        mod as_ordinary_user {
            $(#[test] fn $name() { crate::play(crate::ordinary_user, super::$name); })+
        }
    };
}
use scenarios;

/// Somebody who may do little, where the tests can be somebody else.
fn least_user() -> Option<Arc<Federation>> {
    if Account::ordinary().is_some() { ordinary_user() } else { current_user() }
}

/// Makes each scenario one test: what is said to an API server alone is answered the same whoever runs it.
macro_rules! of_the_api {
    ($($name:ident),+ $(,)?) => {
        mod of_the_api {
            $(#[test] fn $name() { crate::play(crate::least_user, super::$name); })+
        }
    };
}
use of_the_api;
