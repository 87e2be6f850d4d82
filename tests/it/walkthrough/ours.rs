//! The project's own walkthroughs, on both data planes, with load where they have set up what it is about.

use testkit::Account;

use super::{Amendment, Aside, Change, Edition, Errand, Reader, choice, load, prepare};

const THREE_CLUSTERS: &[(&str, &str)] = &[("isthmus up c1 c2 c3 --detach", "isthmus up c1 c2 c3 --detach $DATA_PLANE")];

const GATEWAYS: Aside = Aside {
    phrase: "Now [set up the private gateways](private-gateways.md).",
    errand: Errand::Follow("docs/private-gateways.md"),
};

const FEDERATION_HTTP: Edition = Edition {
    substitutions: THREE_CLUSTERS,
    asides: &[
        GATEWAYS,
        check("Half of all requests:", load::no_request_fails_when_a_remote_gateway_is_killed),
        check("## Services that one cluster has and the other has not", load::requests_are_split_evenly),
        check("## Who may call, within c2", load::an_exposure_that_comes_and_goes_disturbs_nothing_else),
    ],
    ..Edition::PLAIN
};

const FEDERATION_TCP: Edition = Edition {
    substitutions: THREE_CLUSTERS,
    asides: &[GATEWAYS, check("## Who may connect, within c3", load::connections_are_split_evenly)],
    ..Edition::PLAIN
};

const fn check(phrase: &'static str, check: fn(&mut Reader)) -> Aside {
    Aside { phrase, errand: Errand::Check(check) }
}

const ONE_CLUSTER: Edition =
    Edition { substitutions: &[("isthmus up c1 --detach", "isthmus up c1 --detach $DATA_PLANE")], ..Edition::PLAIN };

const AUTHORIZATION: Edition = Edition {
    // The second of two calls, which is denied.
    amendments: &[Amendment {
        at: "the workload's as well: kubectl exec deploy/sleep -c sleep -n foo -- sh -c \"echo 'port 9002'",
        change: Change::Prints(""),
    }],
    ..ONE_CLUSTER
};

fn follow(file: &str, edition: &Edition, data_plane: &str) {
    let Some(federation) = prepare(Some(Account::current())) else { return };
    let Some(choice) = choice(data_plane) else { return };
    let mut reader = Reader::new(&federation, "bash");
    reader.terminal.enter(&format!("DATA_PLANE='{choice}'")).ok();
    reader.follow(file, &std::fs::read_to_string(file).unwrap(), edition);
}

/// Makes a document two tests, one for each data plane.
macro_rules! walkthroughs {
    ($($name:ident: $file:literal as $edition:ident),+ $(,)?) => {
        mod native {
            $(#[test] fn $name() { super::follow($file, &super::$edition, "native"); })+
        }
        mod envoy {
            $(#[test] fn $name() { super::follow($file, &super::$edition, "envoy"); })+
        }
    };
}

walkthroughs! {
    bookinfo_is_as_we_say: "docs/bookinfo.md" as ONE_CLUSTER,
    trouble_is_found_as_we_say: "docs/troubleshooting.md" as ONE_CLUSTER,
    authorization_of_connections_is_as_we_say: "docs/authorization-tcp.md" as AUTHORIZATION,
    federation_over_http_is_as_we_say_and_carries_load: "docs/federation-http.md" as FEDERATION_HTTP,
    federation_of_tcp_services_is_as_we_say_and_carries_load: "docs/federation-tcp.md" as FEDERATION_TCP,
}
