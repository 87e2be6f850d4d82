//! Bookinfo through a mesh, as somebody sees it who opens its page in a browser.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use testkit::Session;

use super::http::shop;

const LIMIT: Duration = Duration::from_secs(90);
const NO_RATINGS: &str = "Ratings service is currently unavailable";
const NO_REVIEWS: &str = "Sorry, product reviews are currently unavailable for this book.";

#[test]
fn the_page_in_a_browser() {
    play(crate::current_user);
}

#[test]
fn the_page_in_a_browser_through_envoys() {
    play(super::envoy_current_user);
}

fn play(federation: fn() -> Option<std::sync::Arc<testkit::Federation>>) {
    if testkit::program("python3") && testkit::program("chromium") {
        crate::play(federation, the_page_is_what_the_mesh_makes_of_it);
    }
}

/// What one load of the page shows.
#[derive(Debug, Deserialize)]
struct Seen {
    title: String,
    user: Option<String>,
    details: Vec<String>,
    reviews: usize,
    colors: Vec<String>,
    stars: Vec<String>,
    errors: Vec<String>,
    served_by: Option<String>,
}

impl Seen {
    /// The version of reviews that served, if any did, with the colour of its stars.
    fn version(&self) -> Option<(&str, &str)> {
        let version = self.served_by.as_deref()?.split('-').nth(1)?;
        Some((version, self.colors.first().map_or("", String::as_str)))
    }

    fn has_error(&self, text: &str) -> bool {
        self.errors.iter().any(|error| error == text)
    }
}

/// The browser, before the page of the session's shop.
struct Browser<'a> {
    session: &'a Session<'a>,
    url: String,
}

impl Browser<'_> {
    /// Loads the page so often, signed in as `user` unless that is empty. `picture` names what is to be seen then: a
    /// picture of it is kept in `$PICTURES`, if that is set, from where the documents have theirs.
    fn loads(&self, user: &str, count: usize, picture: &str) -> Vec<Seen> {
        let user = if user.is_empty() { String::new() } else { format!("--user {user}") };
        let folder = std::env::var("PICTURES").ok().filter(|_| !picture.is_empty());
        let picture = folder.map(|folder| format!("--picture {folder}/bookinfo-{picture}.png")).unwrap_or_default();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/browser.py");
        let run = format!("run -- python3 {script} {} --loads {count} {user} {picture}", self.url);
        let printed = self.session.sh(&self.session.federation.command(&run)).ok();
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Loads the page until it is `as_wanted`, which may take as long as a change takes to arrive.
    #[track_caller]
    fn until(&self, user: &str, picture: &str, what: &str, as_wanted: impl Fn(&Seen) -> bool) {
        testkit::until(what, LIMIT, || self.loads(user, 1, picture).iter().all(&as_wanted).then_some(()));
    }

    /// Loads the page until these versions have served, and checks that no others do.
    #[track_caller]
    fn until_served_by(&self, user: &str, versions: &[(&str, &str)]) {
        let wanted: BTreeSet<_> = versions.iter().map(|(v, c)| (v.to_string(), c.to_string())).collect();
        testkit::until(&format!("pages of {versions:?} for {user:?}"), LIMIT, || {
            let loads = self.loads(user, 20, "");
            let seen = loads.iter().filter_map(Seen::version);
            let seen: BTreeSet<_> = seen.map(|(v, c)| (v.to_owned(), c.to_owned())).collect();
            (seen == wanted).then_some(())
        });
    }
}

fn the_page_is_what_the_mesh_makes_of_it(s: &Session<'_>) {
    if s.sh("python3 -c 'import playwright'").code != 0 {
        return testkit::skip("python3 has no module playwright (pip install playwright)");
    }
    shop(s);
    s.sh("kubectl patch service productpage -p '{\"spec\": {\"type\": \"LoadBalancer\"}}'").ok();
    let address = "kubectl get service productpage -o jsonpath='{.status.loadBalancer.ingress[0].ip}'";
    let address = testkit::until("an address of the page", LIMIT, || {
        Some(s.sh(address).ok()).filter(|address| !address.is_empty())
    });
    let browser = Browser { session: s, url: format!("http://{address}:9080/productpage") };
    stars_are_none_black_and_red(&browser);
    jason_sees_another_version(&browser);
    ratings_fail_and_are_late_for_jason(&browser);
    ratings_are_gone(&browser);
}

fn stars_are_none_black_and_red(browser: &Browser<'_>) {
    browser.until_served_by("", &[("v1", ""), ("v2", "black"), ("v3", "red")]);
    for (version, color) in [("v1", ""), ("v2", "black"), ("v3", "red")] {
        browser.until("", version, version, |seen| seen.version() == Some((version, color)));
    }
    let [seen] = browser.loads("", 1, "").try_into().unwrap();
    assert_eq!(seen.title, "Simple Bookstore App");
    assert_eq!(seen.details, ["Type:", "Pages:", "Publisher:", "Language:", "ISBN-10:", "ISBN-13:"]);
    assert_eq!((seen.reviews, seen.errors.as_slice(), seen.user), (2, [].as_slice(), None));
    assert!(seen.stars.is_empty() || seen.stars == ["★★★★★", "★★★★☆"], "{:?}", seen.stars);
}

fn jason_sees_another_version(browser: &Browser<'_>) {
    let s = browser.session;
    s.sample("bookinfo/networking/virtual-service-all-v1.yaml");
    browser.until_served_by("", &[("v1", "")]);
    s.sample("bookinfo/networking/virtual-service-reviews-test-v2.yaml");
    browser.until_served_by("jason", &[("v2", "black")]);
    browser.until("jason", "jason", "jason's page", |seen| seen.user.as_deref() == Some("jason"));
    browser.until_served_by("anna", &[("v1", "")]);
    s.sample("bookinfo/networking/virtual-service-reviews-50-v3.yaml");
    browser.until_served_by("", &[("v1", ""), ("v3", "red")]);
    let loads = browser.loads("", 100, "");
    let red = loads.iter().filter(|seen| seen.version() == Some(("v3", "red"))).count();
    // Five standard deviations of the binomial distribution either way.
    assert!((25..=75).contains(&red), "{red} of 100 pages have red stars");
}

fn ratings_fail_and_are_late_for_jason(browser: &Browser<'_>) {
    let s = browser.session;
    s.sample("bookinfo/networking/virtual-service-reviews-test-v2.yaml");
    browser.until_served_by("jason", &[("v2", "black")]);
    s.sample("bookinfo/networking/virtual-service-ratings-test-abort.yaml");
    browser.until("jason", "abort", "a page without ratings", |seen| seen.has_error(NO_RATINGS));
    // Ratings take longer than the page waits for reviews, which wait longer for ratings.
    s.sample("bookinfo/networking/virtual-service-ratings-test-delay.yaml");
    browser.until("jason", "delay", "a page without reviews", |seen| seen.has_error(NO_REVIEWS));
    assert!(browser.loads("anna", 3, "").iter().all(|seen| seen.errors.is_empty() && seen.reviews == 2));
}

fn ratings_are_gone(browser: &Browser<'_>) {
    let s = browser.session;
    s.sample("bookinfo/networking/virtual-service-all-v1.yaml");
    s.sample("bookinfo/networking/virtual-service-reviews-v3.yaml");
    browser.until_served_by("", &[("v3", "red")]);
    s.sh("kubectl delete deployment ratings-v1").ok();
    browser.until("", "no-ratings", "a page without ratings", |seen| seen.has_error(NO_RATINGS) && seen.reviews == 2);
}
