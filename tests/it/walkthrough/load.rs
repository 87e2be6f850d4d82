//! Federated clusters under load: what our walkthroughs set up, and then more traffic than somebody can type.

use std::time::Duration;

use testkit::{Account, Federation, until};

use super::ours::FEDERATION;
use super::{Reader, prepare};

/// Clusters that have been federated by a document, and somebody in front of them.
struct Federated {
    reader: Reader,
    // Taken down when nobody is in front of it any more.
    federation: Federation,
}

impl Federated {
    /// Follows `docs/FILE` to the heading `end`.
    fn by(file: &str, end: &str) -> Option<Federated> {
        let federation = prepare(Some(Account::current()))?;
        let mut reader = Reader::new(&federation, "bash");
        let document = std::fs::read_to_string(format!("docs/{file}")).unwrap();
        let (document, _) = document.split_once(end).expect("the document has the heading");
        reader.follow(file, document, &FEDERATION);
        Some(Federated { reader, federation })
    }

    fn sh(&mut self, script: &str) -> String {
        self.reader.terminal.enter(script).ok()
    }

    fn prints(&mut self, script: &str, expected: &str) {
        until(&format!("{expected:?} from {script:?}"), Duration::from_secs(60), || {
            (self.reader.terminal.enter(script).stdout() == expected).then_some(())
        });
    }

    /// Has `sleep` of c1 send requests until [`Federated::answers`] is called; goes on when it has begun.
    fn load(&mut self, curl: &str) {
        self.sh(&format!(
            "kubectl --context c1 exec deploy/sleep -c sleep -- sh -c \"rm -f /tmp/stop
             until [ -e /tmp/stop ]; do curl -s -m 20 -o /dev/null -w '%{{http_code}}\\n' {curl}; done\" >load.txt 2>&1 &"
        ));
        let file = self.federation.kubeconfig().with_file_name("load.txt");
        until("fifty answers", Duration::from_secs(60), || {
            (std::fs::read_to_string(&file).ok()?.lines().count() > 50).then_some(())
        });
    }

    /// Ends the load; each kind of answer that there was.
    fn answers(&mut self) -> String {
        self.sh("kubectl --context c1 exec deploy/sleep -c sleep -- touch /tmp/stop; wait; sort -u load.txt")
    }
}

/// Five standard deviations of a thousand fair draws.
const UNEVEN: usize = 80;

#[test]
fn a_thousand_requests_are_split_evenly_between_two_clusters() {
    let Some(mut f) = Federated::by("federation-http.md", "## Services that one cluster has") else { return };
    let ask = "kubectl --context c1 exec deploy/sleep -c sleep -- curl -s 'http://reviews:9080/reviews/0?[1-1000]'";
    let count = |what: &str| format!("{ask} | sed 's/}}{{\"id\"/}}\\n{{\"id\"/g' | grep -c '{what}'");
    let black: usize = f.sh(&count("black")).parse().unwrap();
    assert!(black.abs_diff(500) < UNEVEN, "{black} of 1000 requests went to c2");
}

#[test]
fn a_thousand_connections_are_split_evenly_between_two_clusters() {
    let Some(mut f) = Federated::by("federation-tcp.md", "## Who may connect, within c3") else { return };
    let ask = "for i in $(seq 1000); do echo $i | nc -w 5 echo 9001; done";
    let printed = f.sh(&format!("kubectl --context c1 exec deploy/sleep -c sleep -- sh -c '{ask}'"));
    let of = |version: &str| printed.lines().filter(|line| line.starts_with(version)).count();
    let (one, two) = (of("one "), of("two "));
    assert!(one + two == 1000 && one.abs_diff(500) < UNEVEN, "{one} connections went to c2, {two} to c3");
}

#[test]
fn an_exposure_that_comes_and_goes_disturbs_nothing_else() {
    let Some(mut f) = Federated::by("federation-http.md", "## Who may call, within c2") else { return };
    f.load("'http://reviews:9080/reviews/0?[1-100]'");
    let ratings = "kubectl --context c1 exec deploy/sleep -c sleep -- \
         curl -s -o /dev/null -w '%{http_code}' http://ratings:9080/ratings/0";
    for _ in 0..5 {
        f.sh("kubectl --context c2 apply -f samples/federation/http/c2-withdraw-ratings.yaml");
        f.prints(ratings, "404");
        f.sh("kubectl --context c2 apply -f samples/federation/http/c2-expose-ratings.yaml");
        f.prints(ratings, "200");
    }
    assert_eq!(f.answers(), "200");
}

#[test]
fn no_request_fails_when_a_remote_gateway_is_killed_and_comes_back() {
    let Some(mut f) = Federated::by("federation-http.md", "Half of all requests:") else { return };
    let c2 = "kubectl --context c2 -n istio-private-gateways";
    f.sh(&format!("{c2} scale deployment istio-private-ingressgateway --replicas=2"));
    let ready = format!("{c2} get deployment istio-private-ingressgateway -o jsonpath='{{.status.readyReplicas}}'");
    f.prints(&ready, "2");
    let retries = r#"[{"op": "add", "path": "/spec/http/0/retries", "value":
        {"attempts": 10, "perTryTimeout": "5s", "retryOn": "connect-failure,refused-stream,reset,503"}}]"#;
    f.sh(&format!(
        "kubectl --context c1 -n istio-private-gateways patch virtualservice bound-reviews --type json -p '{retries}'"
    ));
    f.load("-H end-user:jason 'http://reviews:9080/reviews/0?[1-100]'");
    for _ in 0..3 {
        let first = f.sh(&format!(
            "{c2} get pod -l istio=private-ingressgateway --sort-by=.metadata.creationTimestamp -o name | sed -n 1p"
        ));
        f.sh(&format!("{c2} delete {first} --grace-period=0 --force"));
        f.prints(&ready, "2");
    }
    assert_eq!(f.answers(), "200");
}
