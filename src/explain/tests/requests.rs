//! Questions about requests for `reviews`.

use std::net::SocketAddr;

use super::super::explanation::{Explanation, Verdict};
use super::super::path::{Question, explain};
use super::super::{question, request};
use super::{WORLD, World, documents, policy};

const REVIEWS: &str = include_str!("requests.yaml");
const JASON: &str = "end-user: jason";
const BODY: &str = "http://reviews:9080/reviews/0";

fn ask(more: &str, from: &str, method: &str, url: &str, headers: &[&str]) -> Explanation {
    let all = [WORLD, REVIEWS, more].map(documents).concat();
    let world = World::new([("c1".to_owned(), all)]).unwrap();
    let objects = &world.own().objects;
    let from = question::pod(objects, from, "foo").unwrap();
    let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
    let sent = request::read(method, url, &headers).unwrap();
    let address = question::address(objects, &sent.host, sent.port, "foo", "foo").unwrap();
    let to = SocketAddr::new(address, sent.port);
    explain(&world, &Question { from, asked: sent.host, to, request: Some(sent.asked) }).unwrap()
}

fn get(more: &str, headers: &[&str]) -> Explanation {
    ask(more, "deploy/sleep", "GET", BODY, headers)
}

fn routes(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: canary, namespace: foo}}\nspec: \
         {{hosts: [reviews], http: {http}}}\n"
    )
}

fn to(subset: &str) -> String {
    format!("destination: {{host: reviews, subset: {subset}}}")
}

/// The pods that a request reaches, each with its share.
fn reached(told: &Explanation) -> Vec<(f64, &str)> {
    told.paths.iter().map(|path| (path.share, path.destination.as_ref().map_or("-", |d| d.pod.as_str()))).collect()
}

#[test]
fn the_route_that_takes_a_request_is_named_with_its_place() {
    let canary = routes(&format!(
        "[{{name: for-jason, match: [{{headers: {{end-user: {{exact: jason}}}}}}], route: [{{{}}}]}}, {{route: [{{{}}}]}}]",
        to("v2"),
        to("v1")
    ));
    let told = get(&canary, &[JASON]);
    assert_eq!((told.verdict, reached(&told)), (Verdict::Allowed, vec![(100.0, "reviews-v2-a")]));
    let outbound = told.outbound.as_ref().unwrap();
    assert_eq!(outbound.virtual_host.as_deref(), Some("reviews.foo.svc.cluster.local:9080"));
    let route = outbound.route.as_ref().unwrap();
    let object = Some("VirtualService foo/canary");
    assert_eq!(
        (&*route.name, route.object.as_deref(), route.rule.as_deref()),
        ("for-jason", object, Some("spec.http[0]"))
    );
    assert_eq!(told.paths[0].destination_rule.as_deref(), Some("DestinationRule foo/versions"));
    assert_eq!(told.paths[0].upstream.as_deref(), Some("outbound|9080|v2|reviews.foo.svc.cluster.local"));
    assert!(told.paths[0].tls.as_ref().unwrap().mutual);
    let inbound = told.paths[0].inbound.as_ref().unwrap();
    assert_eq!(inbound.cluster.as_deref(), Some("inbound|9080||"));
    let other = get(&canary, &[]);
    assert_eq!(reached(&other), [(100.0, "reviews-v1-a")]);
    assert!(other.to_string().contains("route of VirtualService foo/canary spec.http[1]"), "{other}");
}

#[test]
fn every_destination_of_a_split_is_followed_with_its_share() {
    let split = routes(&format!("[{{route: [{{{}, weight: 75}}, {{{}, weight: 25}}]}}]", to("v1"), to("v2")));
    let told = get(&split, &[]);
    assert_eq!(reached(&told), [(75.0, "reviews-v1-a"), (25.0, "reviews-v2-a")]);
    let nobody_is_v2 = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: closed, namespace: foo}\n\
        spec: {selector: {matchLabels: {version: v2}}}\n";
    let told = get(&format!("{split}---\n{nobody_is_v2}"), &[]);
    assert_eq!(told.verdict, Verdict::Divided);
    assert!(told.reason.starts_with("no rule of AuthorizationPolicy foo/closed lets"), "{}", told.reason);
    let empty = routes(&format!("[{{route: [{{{}, weight: 50}}, {{{}, weight: 50}}]}}]", to("v1"), to("v3")));
    let told = get(&empty, &[]);
    assert_eq!((told.verdict, reached(&told)), (Verdict::Divided, vec![(50.0, "reviews-v1-a"), (50.0, "-")]));
    let end = &told.paths[1];
    assert_eq!((end.status, end.flag.as_deref()), (Some(503), Some("UH")));
}

#[test]
fn the_rule_that_decides_about_a_request_is_named() {
    let told = |spec: &str, method: &str| ask(&policy(spec), "deploy/sleep", method, BODY, &[]);
    let allow = "{rules: [{to: [{operation: {methods: [PUT]}}]}, {to: [{operation: {methods: [GET], paths: ['/reviews/*']}}]}]}";
    let sleep = "\"spiffe://cluster.local/ns/foo/sa/sleep\"";
    assert_eq!(told(allow, "GET").reason, format!("AuthorizationPolicy foo/p rule 1 lets {sleep} in"));
    let refused = told(allow, "DELETE");
    assert_eq!((refused.verdict, refused.paths[0].status), (Verdict::Denied, Some(403)));
    assert_eq!(refused.reason, format!("no rule of AuthorizationPolicy foo/p lets {sleep} in"));
    let deny = told("{action: DENY, rules: [{to: [{operation: {notMethods: [GET]}}]}]}", "POST");
    assert_eq!(deny.reason, format!("AuthorizationPolicy foo/p rule 0 refuses {sleep}"));
}

#[test]
fn roles_of_old_and_patches_are_named() {
    let roles = "apiVersion: rbac.istio.io/v1alpha1\nkind: ClusterRbacConfig\nmetadata: {name: default}\nspec: {mode: 'ON'}\n---\n\
        apiVersion: rbac.istio.io/v1alpha1\nkind: ServiceRole\nmetadata: {name: readers, namespace: foo}\nspec: {rules: [{services: \
        [reviews.foo.svc.cluster.local], methods: [GET]}]}\n---\n\
        apiVersion: rbac.istio.io/v1alpha1\nkind: ServiceRoleBinding\nmetadata: {name: readers, namespace: foo}\nspec: {subjects: \
        [{user: '*'}], roleRef: {kind: ServiceRole, name: readers}}\n";
    let told = |method| ask(roles, "deploy/sleep", method, BODY, &[]);
    assert!(told("GET").reason.starts_with("ServiceRole foo/readers lets"), "{}", told("GET").reason);
    assert!(told("POST").reason.starts_with("no rule of ServiceRole foo/readers lets"), "{}", told("POST").reason);
    let patch = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: door, namespace: foo}\nspec: {configPatches: \
        [{applyTo: HTTP_FILTER, match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: \
        envoy.filters.network.http_connection_manager}}}}, patch: {operation: INSERT_FIRST, value: {name: door, typed_config: {'@type': \
        type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {policies: {only-get: {permissions: [{header: {name: \
        ':method', string_match: {exact: GET}}}], principals: [{any: true}]}}}}}}}]}\n";
    let told = |method| ask(patch, "deploy/sleep", method, BODY, &[]);
    assert!(told("GET").reason.starts_with("EnvoyFilter foo/door policy \"only-get\" lets"), "{}", told("GET").reason);
    assert_eq!(told("POST").paths[0].decided_by, ["EnvoyFilter foo/door policy \"only-get\""]);
}

#[test]
fn what_a_proxy_answers_itself_is_told_with_status_and_flag() {
    let only = routes(&format!(
        "[{{match: [{{uri: {{prefix: /reviews}}}}], rewrite: {{uri: /r}}, route: [{{{}}}]}}]",
        to("v1")
    ));
    let missing = ask(&only, "deploy/sleep", "GET", "http://reviews:9080/other", &[]);
    let end = &missing.paths[0];
    assert_eq!((missing.verdict, end.status, end.flag.as_deref()), (Verdict::Unreachable, Some(404), Some("NR")));
    assert!(
        missing.to_string().contains("no route of the virtual host reviews.foo.svc.cluster.local:9080"),
        "{missing}"
    );
    let rewritten = get(&only, &[]);
    assert!(rewritten.to_string().contains("rewritten to reviews:9080/r/0"), "{rewritten}");
    let elsewhere = get(&routes("[{redirect: {authority: other}}]"), &[]);
    assert_eq!((elsewhere.verdict, elsewhere.paths[0].status), (Verdict::Answered, Some(301)));
    assert_eq!(elsewhere.reason, "the caller is sent to http://other/reviews/0");
    assert_eq!(elsewhere.paths[0].decided_by, ["VirtualService foo/canary"]);
    let answered = get(&routes("[{directResponse: {status: 418}}]"), &[]);
    assert_eq!((answered.verdict, answered.paths[0].status), (Verdict::Answered, Some(418)));
    let fault = |percent: u32| {
        let abort = format!("{{abort: {{httpStatus: 555, percentage: {{value: {percent}}}}}}}");
        get(&routes(&format!("[{{fault: {abort}, route: [{{{}}}]}}]", to("v1"))), &[])
    };
    assert_eq!((fault(100).verdict, fault(100).paths[0].flag.as_deref()), (Verdict::Answered, Some("FI")));
    assert_eq!(fault(10).verdict, Verdict::Allowed);
    assert!(fault(10).to_string().contains("10 % of the requests are answered with 555 by a fault"), "{}", fault(10));
}

#[test]
fn hosts_that_nobody_knows_pass_or_are_blocked() {
    let url = "http://10.96.0.20:9080/reviews/0";
    let passing = ask("", "deploy/sleep", "GET", url, &["Host: elsewhere.example"]);
    assert!(passing.to_string().contains("no service that sleep-abc-1 may call has this host"), "{passing}");
    let only = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: \
        '{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}'}\n";
    let blocked = ask(only, "deploy/sleep", "GET", url, &["Host: elsewhere.example"]);
    assert_eq!((blocked.verdict, blocked.paths[0].status), (Verdict::Unreachable, Some(502)));
    assert!(blocked.reason.contains("REGISTRY_ONLY"), "{}", blocked.reason);
    let black_hole = ask(only, "deploy/sleep", "GET", "https://192.0.2.1/", &[]);
    assert!(black_hole.verdict == Verdict::Unreachable && black_hole.reason.contains("REGISTRY_ONLY"), "{black_hole}");
}

#[test]
fn what_annotations_leave_out_goes_past_the_sidecars() {
    let caller = |arguments: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: caller, namespace: foo}}\nspec: {{containers: [{{name: istio-proxy}}], \
             initContainers: [{{name: istio-init, args: [istio-iptables, {arguments}]}}]}}\nstatus: {{podIP: 10.0.0.7}}\n"
        )
    };
    let told = |arguments: &str| ask(&caller(arguments), "caller", "GET", BODY, &[]);
    let all = "'-i', '*', '-b', '*'";
    assert!(told(all).paths[0].tls.is_some());
    for some in ["'-x', 10.96.0.0/16", "'-o', '9080'"] {
        let told = told(&format!("{all}, {some}"));
        assert!(told.paths[0].tls.is_none() && told.verdict == Verdict::Allowed, "{told}");
        assert!(told.to_string().contains("go past its sidecar"), "{told}");
    }
}

#[test]
fn a_token_that_is_not_valid_is_refused_by_name() {
    let authentication = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: tokens, namespace: foo}\n\
        spec: {jwtRules: [{issuer: me, jwks: '{\"keys\": []}'}]}\n";
    assert_eq!(get(authentication, &[]).verdict, Verdict::Allowed);
    // {"alg":"HS256"}.{"iss":"me"}, signed by nobody.
    let told = get(authentication, &["Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJtZSJ9.AAAA"]);
    assert_eq!((told.verdict, told.paths[0].status), (Verdict::Denied, Some(401)));
    assert_eq!(told.paths[0].decided_by, ["RequestAuthentication foo/tokens"]);
}

#[test]
fn plaintext_and_pods_by_other_names() {
    let legacy = ask("", "bar/legacy", "GET", "http://reviews.foo:9080/reviews/0", &[]);
    assert_eq!((legacy.verdict, legacy.paths.len()), (Verdict::Allowed, 2));
    assert!(legacy.reason.contains("no policy holds"), "{}", legacy.reason);
    let server = ask("", "svc/reviews", "GET", "http://10.0.0.12:9080/", &[]);
    assert_eq!(server.source.pod, "reviews-v1-a");
    assert_eq!(question::cluster("c1/foo/sleep"), (Some("c1"), "foo/sleep"));
    assert_eq!(question::cluster("deploy/sleep"), (None, "deploy/sleep"));
    for (method, url, header) in
        [("GET", "reviews:9080", "a: b"), ("G T", BODY, "a: b"), ("GET", BODY, "ab"), ("GET", "ftp://a/", "a: b")]
    {
        assert!(request::read(method, url, &[header.to_owned()]).is_err(), "{method} {url} {header}");
    }
}
