//! The demo's steps: each says what one of the clusters does, sends traffic, and looks what comes of it.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::cluster::{Cluster, Place, until};
use super::report::Report;
use super::stage::{self, GATEWAYS, Stage};
use crate::data_plane::DataPlane;
use crate::federation::Home;
use crate::up;

/// A manifest of the samples.
macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("../../samples/federation/", $name, ".yaml"))
    };
}

const SLEEP: Place = Place { namespace: "default", label: "app=sleep", container: "sleep" };
const CALLER: Place = Place { namespace: "default", label: "app=caller", container: "caller" };
const RATINGS: Place = Place { namespace: "bookinfo", label: "app=ratings", container: "ratings" };
const REVIEWS: Place = Place { namespace: "bookinfo", label: "app=reviews", container: "istio-proxy" };
const INGRESS: Place = Place { namespace: GATEWAYS, label: "istio=private-ingressgateway", container: "istio-proxy" };

/// How often a look is taken whether somebody wants the demo to end.
const GLANCE: Duration = Duration::from_millis(50);
/// What is asked of a service whose answer's status is all that counts.
const STATUS: &str = "curl -s -o /dev/null -m 5 -w '%{http_code}'";

/// Tells the whole story. After a step without which the others make no sense, it ends.
pub(super) async fn tell(home: &Home, data_plane: Option<DataPlane>, report: &mut Report) {
    if report.step("three clusters serve", clusters(home, data_plane)).await.is_none() {
        return;
    }
    let Some(stage) = report.step("bookinfo, echo and private gateways run", stage::set(home)).await else { return };
    let stage = &stage;
    report.step("nothing is exposed unless its owner says so", nothing_is_exposed(stage)).await;
    report.step("c2 exposes reviews v2", expose_reviews(stage)).await;
    report.step("c1 binds it, for jason alone", canary(stage)).await;
    report.step("half of c1's requests go to c2", split(stage)).await;
    report.step("c2 exposes ratings, which c1 has not", ratings(stage)).await;
    report.step("c2 and c3 share c1's connections to echo", echo(stage)).await;
    report.step("c2 cancels the exposure of ratings", cancel(stage)).await;
    report.step("c2 gives it back", give_back(stage)).await;
    report.step("denied within c2: ratings may not call reviews", denied_within(stage)).await;
    report.step("denied at c2's boundary: c1 may not see ratings", denied_at_boundary(stage)).await;
    report.step("denied at c3's boundary: only c4 gets a hello", denied_connection(stage)).await;
    report.step("c2's gateway is killed, and c2 heals", heal(stage)).await;
}

/// Waits for a signal that asks this command to end. They are blocked, so that they can be waited for again later.
pub(super) async fn interruption() -> i32 {
    let mut signals = SigSet::empty();
    up::INTERRUPTIONS.iter().for_each(|signal| signals.add(*signal));
    let Ok(file) = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC) else {
        return std::future::pending().await;
    };
    loop {
        if let Ok(Some(signal)) = file.read_signal() {
            return i32::try_from(signal.ssi_signo).unwrap_or_default();
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// What a step has seen.
type Seen = anyhow::Result<(String, ())>;

fn seen(what: impl Into<String>) -> Seen {
    Ok((what.into(), ()))
}

async fn clusters(home: &Home, data_plane: Option<DataPlane>) -> Seen {
    let names = ["c1", "c2", "c3"].map(str::to_owned);
    let home = home.clone();
    tokio::task::spawn_blocking(move || up::start(&home, &names, data_plane)).await??;
    seen("each with an authority of its own")
}

/// A call of c2's ingress gateway from outside of every mesh.
fn call_as(stage: &Stage, who: &str, path: &str) -> String {
    let to = "--resolve c2.example.com:15443:C2_ADDRESS https://c2.example.com:15443";
    let as_whom = format!("--cert /certificates/{who}.crt --key /certificates/{who}.key");
    // Its certificate names no host, so there is none to check; what it is checked against is the gateways' own authority.
    stage.addressed(&format!("{STATUS} -k {as_whom} {to}{path}"))
}

async fn nothing_is_exposed(stage: &Stage) -> Seen {
    let script = call_as(stage, "c1", "/reviews/v2/reviews/0") + "; echo \" $?\"";
    let refused = |printed: &str| (printed == "000 7").then_some(());
    stage.c1.until(&CALLER, &script, refused).await?;
    seen("c2's ingress gateway refuses connections")
}

async fn expose_reviews(stage: &Stage) -> Seen {
    stage.c2.apply(sample!("http/c2-expose-reviews"), "", GATEWAYS).await?;
    let exposed = call_as(stage, "c1", "/reviews/v2/reviews/0");
    stage.c1.until(&CALLER, &exposed, is("200")).await?;
    let other = stage.c1.run(&CALLER, &call_as(stage, "c1", "/reviews/v3/reviews/0")).await?;
    ensure!(other == "404", "v3 answers {other}, and was not exposed");
    seen("v2 answers 200, v3 404")
}

async fn canary(stage: &Stage) -> Seen {
    stage.c1.apply(&stage.addressed(sample!("c1-remotes")), "", GATEWAYS).await?;
    stage.c1.apply(sample!("http/c1-bind-reviews"), "", GATEWAYS).await?;
    stage.c1.apply(sample!("http/c1-canary"), "", "default").await?;
    let ask = "curl -s -m 5 http://reviews:9080/reviews/0";
    let black = |printed: &str| printed.contains(BLACK).then_some(());
    stage.c1.until(&SLEEP, &format!("{ask} -H end-user:jason"), black).await?;
    let plain = |printed: &str| (printed.contains("Reviewer1") && !printed.contains("rating")).then_some(());
    stage.c1.until(&SLEEP, ask, plain).await?;
    seen("jason sees black stars from c2, the others none from c1")
}

/// What access logs say of whatever a policy denies; the rule follows.
const DENIED: &str = "rbac_access_denied_matched_policy[";
const BLACK: &str = r#""color": "black""#;

async fn split(stage: &Stage) -> Seen {
    const REQUESTS: usize = 200;
    stage.c1.apply(sample!("http/c1-split"), "", "default").await?;
    let ask = format!("curl -s -m 20 'http://reviews:9080/reviews/0?[1-{REQUESTS}]'");
    let (there, here) = stage
        .c1
        .until(&SLEEP, &ask, |printed| {
            let there = printed.matches(&format!("{BLACK}}}}},")).count();
            let all = printed.matches("Reviewer1").count();
            // Beyond five standard deviations, the split would not be even.
            (all == REQUESTS && there.abs_diff(REQUESTS / 2) < 36).then_some((there, all - there))
        })
        .await?;
    seen(format!("{REQUESTS} requests: {here} in c1, {there} in c2"))
}

async fn ratings(stage: &Stage) -> Seen {
    stage.c2.apply(sample!("http/c2-expose-ratings"), "", GATEWAYS).await?;
    stage.c1.apply(sample!("http/c1-bind-ratings"), "", GATEWAYS).await?;
    let stars = |printed: &str| (printed == r#"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#).then_some(());
    stage.c1.until(&SLEEP, "curl -s -m 5 http://ratings:9080/ratings/0", stars).await?;
    seen("c1's ratings answers with c2's stars")
}

async fn echo(stage: &Stage) -> Seen {
    const CONNECTIONS: usize = 60;
    tokio::try_join!(
        stage.c2.apply(sample!("tcp/c2-expose-echo"), "", GATEWAYS),
        stage.c3.apply(sample!("tcp/c3-expose-echoes"), "", GATEWAYS),
        async {
            stage.c1.apply(sample!("tcp/c1-bind-echo"), "", "default").await?;
            stage.c1.apply(sample!("tcp/c1-split-echo"), "", "default").await
        },
    )?;
    let ask = format!("for i in $(seq {CONNECTIONS}); do echo $i | nc -w 5 echo 9001; done");
    let (one, two) = stage
        .c1
        .until(&SLEEP, &ask, |printed| {
            let of = |version: &str| printed.lines().filter(|line| line.starts_with(version)).count();
            let (one, two) = (of("one "), of("two "));
            (one + two == CONNECTIONS && one.abs_diff(two) < 40).then_some((one, two))
        })
        .await?;
    seen(format!("{CONNECTIONS} connections: {one} to c2, {two} to c3"))
}

async fn cancel(stage: &Stage) -> Seen {
    stage.c2.apply(sample!("http/c2-withdraw-ratings"), "", GATEWAYS).await?;
    let applied = Instant::now();
    stage.c1.until(&SLEEP, &format!("{STATUS} http://ratings:9080/ratings/0"), is("404")).await?;
    seen(format!("404 within {} ms", applied.elapsed().as_millis()))
}

async fn give_back(stage: &Stage) -> Seen {
    stage.c2.apply(sample!("http/c2-expose-ratings"), "", GATEWAYS).await?;
    let applied = Instant::now();
    stage.c1.until(&SLEEP, &format!("{STATUS} http://ratings:9080/ratings/0"), is("200")).await?;
    seen(format!("200 within {} ms", applied.elapsed().as_millis()))
}

async fn denied_within(stage: &Stage) -> Seen {
    stage.c2.apply(sample!("http/c2-authorize-services"), "", "bookinfo").await?;
    stage.c2.until(&RATINGS, &format!("{STATUS} http://myreviews:9080/reviews/0"), is("403")).await?;
    let rule = why(&stage.c2, &REVIEWS, "GET /reviews/0").await?;
    stage.c1.until(&SLEEP, &format!("{STATUS} http://ratings:9080/ratings/0"), is("200")).await?;
    seen(format!("403, {rule}; c1 is still let in"))
}

async fn denied_at_boundary(stage: &Stage) -> Seen {
    stage.c2.apply(sample!("http/c2-authorize-clusters"), "", GATEWAYS).await?;
    stage.c1.until(&SLEEP, &format!("{STATUS} http://ratings:9080/ratings/0"), is("403")).await?;
    let rule = why(&stage.c2, &INGRESS, "GET /ratings/v1/ratings/0").await?;
    stage.c1.until(&CALLER, &call_as(stage, "c4", "/ratings/v1/ratings/0"), is("200")).await?;
    seen(format!("403, {rule}; c4, of the same common name, is let in"))
}

async fn denied_connection(stage: &Stage) -> Seen {
    stage.c1.apply(sample!("tcp/c1-bind-hello-echo"), "", "default").await?;
    let ask = "echo world | nc -w 5 tcp-hello-echo 9001";
    stage.c1.until(&SLEEP, ask, is("hello world")).await?;
    stage.c3.apply(sample!("tcp/c3-authorize-clusters"), "", GATEWAYS).await?;
    stage.c1.until(&SLEEP, ask, is("")).await?;
    let rule = why(&stage.c3, &INGRESS, DENIED).await?;
    let others = "for i in 1 2 3 4 5 6 7 8; do echo world | nc -w 5 echo 9001; done | sort -u";
    stage.c1.until(&SLEEP, others, is("one world\ntwo world")).await?;
    seen(format!("closed, {rule}; echo is still there"))
}

async fn heal(stage: &Stage) -> Seen {
    stage.c2.kill(&INGRESS).await?;
    let killed = Instant::now();
    let ask = format!("{STATUS} -H end-user:jason http://reviews:9080/reviews/0");
    stage.c1.until(&SLEEP, &format!("for i in 1 2 3 4 5 6 7 8; do {ask}; echo; done | sort -u"), is("200")).await?;
    seen(format!("every answer is 200 again after {:.1} s", killed.elapsed().as_secs_f64()))
}

/// What denied: the rule that the access log names, or where no rule lets a caller in, the policies that do not.
async fn why(cluster: &Cluster, at: &Place, request: &str) -> anyhow::Result<String> {
    let rule = until(async || {
        let line = cluster.logged(at, request).await?;
        let rule = line.rsplit_once(DENIED).and_then(|(_, rest)| rest.split(['"', ' ']).next());
        let rule = rule.and_then(|rule| rule.strip_suffix(']')).map(str::to_owned);
        rule.with_context(|| format!("the log names no rule: {line}"))
    })
    .await?;
    if rule != "none" {
        return Ok(rule);
    }
    Ok(format!("no rule of AuthorizationPolicy {} lets it in", cluster.policies(at).await?.join(" or ")))
}

fn is(expected: &str) -> impl Fn(&str) -> Option<()> {
    move |printed| (printed == expected).then_some(())
}
