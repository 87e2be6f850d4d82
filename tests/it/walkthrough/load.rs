//! Federated clusters under load: what a walkthrough has set up so far, and then more traffic than somebody can type.

use std::time::Duration;

use testkit::until;

use super::Reader;

const LIMIT: Duration = Duration::from_secs(60);
/// Within which what was applied has to be in force.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Five standard deviations of a thousand fair draws.
const UNEVEN: usize = 80;
/// In front of what `sleep` of c1 runs.
const SLEEP: &str = "kubectl --context c1 exec deploy/sleep -c sleep --";
const GATEWAYS: &str = "kubectl --context c2 -n istio-private-gateways";

impl Reader {
    fn sh(&mut self, script: &str) -> String {
        self.terminal.enter(script).ok()
    }

    fn prints(&mut self, script: &str, expected: &str) {
        until(&format!("{expected:?} from {script:?}"), LIMIT, || {
            (self.terminal.enter(script).stdout() == expected).then_some(())
        });
    }

    /// Has `sleep` of c1 run `request` again and again until [`Reader::answers`] is called, with what it prints in
    /// `FILE.txt`; goes on when it has begun.
    fn load(&mut self, file: &str, request: &str) {
        self.sh(&format!(
            "{SLEEP} sh -c \"rm -f /tmp/stop; until [ -e /tmp/stop ]; do {request}; done\" >{file}.txt 2>&1 &"
        ));
        until("ten answers", LIMIT, || {
            self.sh(&format!("wc -l <{file}.txt")).trim().parse::<usize>().is_ok_and(|lines| lines > 10).then_some(())
        });
    }

    /// Ends all load; each kind of answer that there was.
    fn answers(&mut self, file: &str) -> String {
        self.sh(&format!("{SLEEP} touch /tmp/stop; wait; sort -u {file}.txt"))
    }

    /// Applies a file in c2, and sees when the answers that [`Reader::load`] dates begin to be `code`.
    fn comes_at_once(&mut self, file: &str, log: &str, code: &str) {
        let applied: u128 =
            self.sh(&format!("kubectl --context c2 apply -f {file} >/dev/null && date +%s%N")).parse().unwrap();
        let begun = until(&format!("{code} after {file}"), LIMIT, || {
            let lines = self.sh(&format!("cat {log}.txt"));
            let dated = lines.lines().rev().filter_map(|line| line.split_once(' '));
            let latest = dated.take_while(|(answer, _)| *answer == code);
            latest.last()?.1.parse::<u128>().ok()
        });
        let latency = Duration::from_nanos(u64::try_from(begun.saturating_sub(applied)).unwrap());
        println!("{code} begins {latency:?} after {file}");
        assert!(latency < AT_ONCE, "{code} begins {latency:?} after {file}");
    }
}

/// What `curl` tells of an answer is its status. A request that met a gateway's end may be late: what is sent to a pod
/// that was killed is lost without a word, and a connection to it is given up after ten seconds only.
fn status(options: &str) -> String {
    format!("curl -s -m 60 -o /dev/null -w '%{{http_code}}\\n' {options}")
}

pub(super) fn requests_are_split_evenly(reader: &mut Reader) {
    let ask = format!("{SLEEP} curl -s 'http://reviews:9080/reviews/0?[1-1000]'");
    let count = format!("{ask} | sed 's/}}{{\"id\"/}}\\n{{\"id\"/g' | grep -c black");
    let black: usize = reader.sh(&count).parse().unwrap();
    assert!(black.abs_diff(500) < UNEVEN, "{black} of 1000 requests went to c2");
}

pub(super) fn connections_are_split_evenly(reader: &mut Reader) {
    let printed = reader.sh(&format!("{SLEEP} sh -c 'for i in $(seq 1000); do echo $i | nc -w 5 echo 9001; done'"));
    let of = |version: &str| printed.lines().filter(|line| line.starts_with(version)).count();
    let (one, two) = (of("one "), of("two "));
    assert!(one + two == 1000 && one.abs_diff(500) < UNEVEN, "{one} connections went to c2, {two} to c3");
}

pub(super) fn an_exposure_that_comes_and_goes_disturbs_nothing_else(reader: &mut Reader) {
    reader.load("reviews", &status("'http://reviews:9080/reviews/0?[1-100]'"));
    reader.load("ratings", &format!("{} | tr '\\n' ' '; date +%s%N", status("http://ratings:9080/ratings/0")));
    for _ in 0..5 {
        reader.comes_at_once("samples/federation/http/c2-withdraw-ratings.yaml", "ratings", "404");
        reader.comes_at_once("samples/federation/http/c2-expose-ratings.yaml", "ratings", "200");
    }
    assert_eq!(reader.answers("reviews"), "200");
}

/// A gateway of two pods, and then one of a single pod: while there is none, callers are refused, try again, and wait
/// a little longer each time.
pub(super) fn no_request_fails_when_a_remote_gateway_is_killed(reader: &mut Reader) {
    let retries = r#"[{"op": "add", "path": "/spec/http/0/retries", "value":
        {"attempts": 20, "perTryTimeout": "5s", "retryOn": "connect-failure,refused-stream,reset,503"}}]"#;
    let binding = "kubectl --context c1 -n istio-private-gateways patch virtualservice bound-reviews --type json";
    reader.sh(&format!("{binding} -p '{retries}'"));
    let ready = format!(
        "{GATEWAYS} get deployment istio-private-ingressgateway -o jsonpath='{{.status.readyReplicas}} {{.status.replicas}}'"
    );
    for replicas in [2, 1] {
        let all = format!("{replicas} {replicas}");
        reader.sh(&format!("{GATEWAYS} scale deployment istio-private-ingressgateway --replicas={replicas}"));
        reader.prints(&ready, &all);
        reader.load("reviews", &status("-H end-user:jason 'http://reviews:9080/reviews/0?[1-100]'"));
        for _ in 0..3 {
            let pods =
                format!("{GATEWAYS} get pod -l istio=private-ingressgateway --sort-by=.metadata.creationTimestamp");
            let first = reader.sh(&format!("{pods} -o name | sed -n 1p"));
            reader.sh(&format!("{GATEWAYS} delete {first} --grace-period=0 --force"));
            reader.prints(&ready, &all);
        }
        assert_eq!(reader.answers("reviews"), "200", "a gateway of {replicas}");
    }
    reader.sh("kubectl --context c1 apply -f samples/federation/http/c1-bind-reviews.yaml");
}
