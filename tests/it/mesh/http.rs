//! The mesh at layer 7: bookinfo is routed, disturbed and guarded.

use std::path::Path;
use std::time::Duration;

use testkit::Session;

super::alternately!(
    requests_are_routed_by_header_and_by_weight,
    faults_are_for_whom_they_are_meant,
    the_shop_is_opened_step_by_step,
    some_answers_need_no_server,
    another_server_is_tried,
);

const PAGE: &str = "http://productpage:9080/productpage";
const JASON: &str = "-H 'end-user: jason'";

/// Bookinfo and a client, all with sidecars, and the subsets of every service.
pub(super) fn shop(s: &Session<'_>) {
    s.sh(&format!("kubectl label namespace {} istio-injection=enabled", s.namespace)).ok();
    s.sample("bookinfo/platform/kube/bookinfo.yaml");
    s.sample("sleep/sleep.yaml");
    s.sample("bookinfo/networking/destination-rule-all.yaml");
    s.sh("kubectl wait deployment --all --for=condition=Available --timeout=120s").ok();
    until_served_by(s, "", &["v1", "v2", "v3"]);
}

/// The same with nothing but the first versions in use.
fn shop_of_the_first_versions(s: &Session<'_>) {
    shop(s);
    s.sample("bookinfo/networking/virtual-service-all-v1.yaml");
    until_served_by(s, "", &["v1"]);
}

fn curl(arguments: &str) -> String {
    format!("kubectl exec deploy/sleep -c sleep -- curl -sS -m 30 {arguments}")
}

/// The page as whoever carries `cookie` sees it.
fn page(s: &Session<'_>, cookie: &str) -> String {
    s.sh(&curl(&format!("-b '{cookie}' {PAGE}"))).ok()
}

/// How many of `count` requests with these options each of the three versions of reviews served.
fn served(s: &Session<'_>, options: &str, count: usize) -> [usize; 3] {
    let answers = s.sh(&curl(&format!("{options} 'http://reviews:9080/reviews/0?n=[1-{count}]'"))).stdout();
    ["v1", "v2", "v3"].map(|version| answers.matches(&format!(r#""podname": "reviews-{version}-"#)).count())
}

/// Waits until requests with these options are served by all of `versions`, and by no others.
#[track_caller]
fn until_served_by(s: &Session<'_>, options: &str, versions: &[&str]) {
    testkit::until(&format!("answers of {versions:?} to {options:?}"), Duration::from_secs(60), || {
        let counts = served(s, options, 30);
        let wanted = ["v1", "v2", "v3"].map(|version| versions.contains(&version));
        (counts.map(|count| count > 0) == wanted && counts.iter().sum::<usize>() == 30).then_some(())
    });
}

fn requests_are_routed_by_header_and_by_weight(s: &Session<'_>) {
    shop_of_the_first_versions(s);
    let plain = page(s, "");
    assert!(plain.contains("served by: <u>reviews-v1-") && plain.contains("<dt>Publisher:</dt>"), "{plain}");
    s.sample("bookinfo/networking/virtual-service-reviews-test-v2.yaml");
    until_served_by(s, JASON, &["v2"]);
    assert_eq!(served(s, "-H 'end-user: jasonx'", 20), [20, 0, 0]);
    assert_eq!(served(s, "", 20), [20, 0, 0]);
    let black = page(s, "user=jason");
    assert!(black.contains("served by: <u>reviews-v2-") && black.contains("<font color=\"black\""), "{black}");
    s.sample("bookinfo/networking/virtual-service-reviews-50-v3.yaml");
    until_served_by(s, JASON, &["v1", "v3"]);
    let [v1, v2, v3] = served(s, "", 200);
    // Five standard deviations of the binomial distribution either way.
    assert!((65..=135).contains(&v1) && v2 == 0 && v1 + v3 == 200, "{v1}, {v2}, {v3}");
}

fn faults_are_for_whom_they_are_meant(s: &Session<'_>) {
    shop_of_the_first_versions(s);
    s.sample("bookinfo/networking/virtual-service-reviews-test-v2.yaml");
    until_served_by(s, JASON, &["v2"]);
    s.sample("bookinfo/networking/virtual-service-ratings-test-abort.yaml");
    let ask = |options: &str| curl(&format!("{options} -w ' %{{http_code}}' http://ratings:9080/ratings/0"));
    s.until_prints(&ask(JASON), "fault filter abort 500");
    assert!(s.sh(&ask("")).ok().ends_with(" 200"));
    let unavailable = "Ratings service is currently unavailable";
    testkit::until("a page without ratings for jason", Duration::from_secs(60), || {
        page(s, "user=jason").contains(unavailable).then_some(())
    });
    assert!(!page(s, "user=anna").contains(unavailable));
    // Ratings take longer than the page waits for reviews, which wait longer for ratings.
    s.sample("bookinfo/networking/virtual-service-ratings-test-delay.yaml");
    let sorry = "Sorry, product reviews are currently unavailable for this book.";
    testkit::until("a page without reviews for jason", Duration::from_secs(60), || {
        page(s, "user=jason").contains(sorry).then_some(())
    });
    assert!(!page(s, "user=anna").contains(sorry));
    assert!(s.sh(&ask(JASON)).ok().ends_with(" 200"), "a delayed answer is one all the same");
}

/// Applies a policy of the sample, for the services of the session's namespace.
fn policy(s: &Session<'_>, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/bookinfo/policy").join(name);
    let policy = std::fs::read_to_string(path).unwrap();
    s.apply(&policy.replace("/ns/default/", &format!("/ns/{}/", s.namespace)));
}

fn the_shop_is_opened_step_by_step(s: &Session<'_>) {
    shop(s);
    s.sample("bookinfo/networking/virtual-service-reviews-v3.yaml");
    until_served_by(s, "", &["v3"]);
    s.sample("bookinfo/policy/deny-all.yaml");
    let told = format!("-w '|%{{http_code}} %{{size_download}} %{{content_type}}' {PAGE}");
    s.until_prints(&curl(&told), "RBAC: access denied|403 19 text/plain");
    let (details, red, reviews, end) = ("Publisher:", "color=\"red\"", "served by: <u>reviews-v3-", "</html>");
    let parts = format!("{} | grep -oF -e '{}'", curl(PAGE), [details, red, reviews, end].join("' -e '"));
    policy(s, "productpage-viewer.yaml");
    s.until_prints(&parts, end);
    policy(s, "details-reviews-viewer.yaml");
    s.until_prints(&parts, &[details, reviews, end].join("\n"));
    policy(s, "ratings-viewer.yaml");
    s.until_prints(&parts, &[details, red, red, reviews, end].join("\n"));
    // Only the page may ask for reviews, and nobody may write to the page.
    let denied = |arguments: &str| {
        s.until_prints(&curl(&format!("-w ' %{{http_code}}' {arguments}")), "RBAC: access denied 403");
    };
    denied("http://reviews:9080/reviews/0");
    denied(&format!("-X DELETE {PAGE}"));
    denied("-d username=jason http://productpage:9080/login");
}

fn some_answers_need_no_server(s: &Session<'_>) {
    shop(s);
    s.apply(
        "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: details}, spec: {hosts: [details], http: [
           {match: [{uri: {exact: /teapot}}], directResponse: {status: 418, body: {string: short and stout}}},
           {match: [{uri: {prefix: /old}}], redirect: {uri: /details/0, authority: example.org, redirectCode: 308}},
           {match: [{uri: {prefix: /books/}}], rewrite: {uri: /details/}, route: [{destination: {host: details}}]}]}}",
    );
    let ask = |path: &str, told: &str| curl(&format!("-w '|{told}' http://details:9080{path}"));
    s.until_prints(&ask("/teapot", "%{http_code}"), "short and stout|418");
    let redirect = s.sh(&ask("/old/way", "%{http_code} %{redirect_url}")).ok();
    assert_eq!(redirect, "|308 http://example.org/details/0");
    assert_eq!(s.sh(&ask("/details/0", "%{http_code}")).ok(), "|404", "no route is for it");
    let book = s.sh(&ask("/books/7", "%{http_code}")).ok();
    assert!(book.contains(r#""id":7"#) && book.ends_with("|200"), "{book}");
    s.apply(
        "{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: default}, spec: {
           outboundTrafficPolicy: {mode: REGISTRY_ONLY}}}",
    );
    let stranger = curl("-o /dev/null -w '%{http_code}' -H 'Host: stranger.example' http://details:9080/details/0");
    s.until_prints(&stranger, "502");
}

fn another_server_is_tried(s: &Session<'_>) {
    shop(s);
    let deny = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: not-v1}, spec: {
        selector: {matchLabels: {app: reviews, version: v1}}, action: DENY, rules: [{}]}}";
    s.apply(deny);
    testkit::until("refusals of v1", Duration::from_secs(60), || {
        let [v1, v2, v3] = served(s, "", 30);
        (v1 == 0 && v2 + v3 < 30).then_some(())
    });
    s.apply(
        "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: reviews}, spec: {hosts: [reviews],
           http: [{retries: {attempts: 5, retryOn: '403'}, route: [{destination: {host: reviews}}]}]}}",
    );
    until_served_by(s, "", &["v2", "v3"]);
}
