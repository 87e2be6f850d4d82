//! Policies for requests, up to the judgement of a real Envoy.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use super::WorkloadPolicies;
use crate::patch::as_json;
use crate::{Mesh, Node, Objects, Resources};

const MESH: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: asked-by-http
      envoyExtAuthzHttp:
        service: ext-authz.foo.svc.cluster.local
        port: 8000
        timeout: 2s
        pathPrefix: /check
        includeRequestHeadersInCheck: [x-ext-authz, 'x-*']
        includeAdditionalHeadersInCheck: {x-added: fixed}
        headersToUpstreamOnAllow: ['*']
        headersToDownstreamOnDeny: [x-why]
        includeRequestBodyInCheck: {maxRequestBytes: 1024, allowPartialMessage: true}
    - {name: asked-by-grpc, envoyExtAuthzGrpc: {service: foo/ext-authz.foo.svc.cluster.local, port: 9000}}
---
apiVersion: v1
kind: Pod
metadata: {name: httpbin, namespace: foo, labels: {app: httpbin}}
spec: {serviceAccountName: httpbin, containers: []}
---
apiVersion: v1
kind: Service
metadata: {name: ext-authz, namespace: foo}
spec: {clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7], selector: {app: a}, ports: [{name: http, port: 8000}, {name: grpc, port: 9000}]}
"#;

struct Told {
    filters: Vec<Value>,
    resources: Resources,
    mesh: Mesh,
}

fn told(objects: &str) -> Told {
    let mut all = Objects::default();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&format!("{MESH}---\n{objects}")).unwrap();
    documents.into_iter().for_each(|document| all.insert(document));
    let mesh = Mesh::new(&all);
    let labels = [("app".to_owned(), "httpbin".to_owned())].into();
    let node = Node { name: "httpbin".to_owned(), namespace: "foo".to_owned(), labels, ..Node::default() };
    let mut resources = Resources::default();
    let policies = WorkloadPolicies::of(&mesh, &node, BTreeMap::new());
    let filters = policies.http(Some(8080), &mut resources);
    let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";
    let filters = filters.iter().map(|filter| as_json(kind, filter).unwrap()).collect();
    Told { filters, resources, mesh }
}

impl Told {
    fn names(&self) -> Vec<&str> {
        self.filters.iter().map(|f| f["name"].as_str().unwrap().rsplit('.').next().unwrap()).collect()
    }

    fn found(&self) -> Vec<String> {
        self.mesh.diagnostics().union(&self.resources.diagnostics).map(ToString::to_string).collect()
    }

    /// What Envoy says of the filters, if it refuses them.
    fn refusal(&self) -> Option<String> {
        let envoy = testkit::envoy()?;
        let mut filters = self.filters.clone();
        filters.push(json!({"name": "envoy.filters.http.router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}));
        let manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "x", "route_config": {"virtual_hosts": []}, "http_filters": filters,
        });
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        let listener = json!({"name": "l", "address": address, "filter_chains": [{"filters": [{"name": "h", "typed_config": manager}]}]});
        let kind = "envoy.config.cluster.v3.Cluster";
        let mut clusters: Vec<Value> =
            self.resources.clusters.values().map(|cluster| as_json(kind, cluster).unwrap()).collect();
        for port in [8000, 9000] {
            clusters.push(json!({"name": format!("outbound|{port}||ext-authz.foo.svc.cluster.local")}));
        }
        clusters.push(json!({"name": "sds-grpc"}));
        let node = json!({"id": "test", "cluster": "test"});
        let bootstrap = json!({"node": node, "static_resources": {"listeners": [listener], "clusters": clusters}});
        let path = std::env::temp_dir().join(format!("isthmus-filter-{}-{:p}.json", std::process::id(), self));
        std::fs::write(&path, bootstrap.to_string()).unwrap();
        let output = Command::new(envoy).args(["--mode", "validate", "-l", "error", "-c"]).arg(&path).output().unwrap();
        std::fs::remove_file(&path).unwrap();
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn policy(spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: foo}}\nspec: {spec}\n"
    )
}

fn tokens(rules: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: r, namespace: foo}}\nspec: {{jwtRules: [{rules}]}}\n"
    )
}

/// The policy of the one rule.
fn rule(spec: &str) -> Value {
    let told = told(&policy(&format!("{{rules: [{spec}]}}")));
    assert_eq!(told.refusal(), None, "{spec}");
    assert_eq!(told.found(), [""; 0], "{spec}");
    told.filters[0]["typedConfig"]["rules"]["policies"]["ns[foo]-policy[p]-rule[0]"].clone()
}

fn permission(operation: &str) -> Value {
    rule(&format!("{{to: [{{operation: {operation}}}]}}"))["permissions"][0].clone()
}

fn condition(key: &str, value: &str) -> Value {
    let rule = rule(&format!("{{when: [{{key: '{key}', values: ['{value}']}}]}}"));
    json!([rule["principals"][0], rule["permissions"][0]])
}

#[test]
fn operations_are_held_against_requests() {
    let header = |name: &str, matcher: Value| json!({"header": {"name": name, "stringMatch": matcher}});
    assert_eq!(permission("{methods: [GET]}"), header(":method", json!({"exact": "GET"})));
    assert_eq!(permission("{methods: ['*']}"), json!({"header": {"name": ":method", "presentMatch": true}}));
    assert_eq!(
        permission("{hosts: ['*.Example.com']}"),
        header(":authority", json!({"suffix": ".Example.com", "ignoreCase": true}))
    );
    assert_eq!(permission("{paths: [/a*]}"), json!({"urlPath": {"path": {"prefix": "/a"}}}));
    assert_eq!(permission("{notPaths: [/a]}"), json!({"notRule": {"urlPath": {"path": {"exact": "/a"}}}}));
    let template = permission("{paths: ['/a/{*}/b/{**}']}");
    assert_eq!(template["uriTemplate"]["typedConfig"]["pathTemplate"], "/a/*/b/**");
    let both = permission("{methods: [GET, HEAD], ports: ['80']}");
    assert_eq!(both["andRules"]["rules"][0]["destinationPort"], 80);
    assert_eq!(both["andRules"]["rules"][1]["orRules"]["rules"][1], header(":method", json!({"exact": "HEAD"})));
}

#[test]
fn templates_that_envoy_would_refuse_let_nobody_in() {
    for template in ["/{**}/{*}", "/a{*}", "/a//{*}", "a/{*}", "/{**}/{**}"] {
        let told = told(&policy(&format!("{{rules: [{{to: [{{operation: {{paths: ['{template}']}}}}]}}]}}")));
        assert_eq!(told.filters[0]["typedConfig"]["rules"], json!({}), "{template}");
        assert!(told.found()[0].contains("lets nobody in on requests"), "{:?}", told.found());
        assert_eq!(told.refusal(), None);
    }
    for template in ["/a/{**}/b", "/{*}/", "/{**}.txt".trim_end_matches(".txt")] {
        permission(&format!("{{paths: ['{template}']}}"));
    }
}

#[test]
fn conditions_are_held_against_requests() {
    let header = condition("request.headers[X-Foo]", "a*");
    assert_eq!(header[0], json!({"header": {"name": "x-foo", "stringMatch": {"prefix": "a"}}}));
    let claim = condition("request.auth.claims[realm][roles]", "admin");
    let metadata = &claim[0]["sourcedMetadata"]["metadataMatcher"];
    assert_eq!(metadata["filter"], "envoy.filters.http.jwt_authn");
    assert_eq!(metadata["path"], json!([{"key": "payload"}, {"key": "realm"}, {"key": "roles"}]));
    assert_eq!(metadata["value"]["orMatch"]["valueMatchers"][0], json!({"stringMatch": {"exact": "admin"}}));
    let found = condition("experimental.envoy.filters.network.mysql_proxy[db.table]", "[update]");
    assert_eq!(found[1]["sourcedMetadata"]["metadataMatcher"]["filter"], "envoy.filters.network.mysql_proxy");
    assert_eq!(condition("remote.ip", "10.0.0.0/8")[0]["remoteIp"]["prefixLen"], 8);
    assert_eq!(
        condition("request.auth.audiences", "a")[0]["sourcedMetadata"]["metadataMatcher"]["path"][1]["key"],
        "aud"
    );
}

#[test]
fn a_user_is_issuer_and_subject_wherever_the_slash_is() {
    let of = |value: &str| {
        let rule = rule(&format!("{{from: [{{source: {{requestPrincipals: ['{value}']}}}}]}}"));
        rule["principals"][0].clone()
    };
    let texts = |value: &Value| {
        let ids = value["andIds"]["ids"].as_array().unwrap();
        let text = |id: &Value| id["sourcedMetadata"]["metadataMatcher"]["value"]["stringMatch"].clone();
        (text(&ids[0]), text(&ids[1]))
    };
    assert_eq!(texts(&of("*")).0, json!({"safeRegex": {"regex": ".+"}}));
    let whole = of("https://a/b");
    let splits = whole["orIds"]["ids"].as_array().unwrap();
    assert_eq!(splits.len(), 3);
    assert_eq!(texts(&splits[2]), (json!({"exact": "https://a"}), json!({"exact": "b"})));
    let start = of("a/*");
    let splits = start["orIds"]["ids"].as_array().unwrap();
    assert_eq!(texts(&splits[1]).0, json!({"prefix": "a/"}), "the slash may be the issuer's own");
    assert_eq!(texts(&splits[0]).0, json!({"exact": "a"}));
}

#[test]
fn others_are_asked_first_then_tokens_are_checked_then_rules_decide() {
    let custom = |provider: &str| {
        let spec = format!(
            "{{action: CUSTOM, provider: {{name: {provider}}}, rules: [{{to: [{{operation: {{paths: [/admin]}}}}]}}]}}"
        );
        policy(&spec).replace("name: p,", &format!("name: {provider},"))
    };
    let deny = policy("{action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}").replace("name: p,", "name: d,");
    let all = [
        custom("asked-by-http"),
        custom("asked-by-grpc"),
        tokens("{issuer: a, jwks: '{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2VjcmV0\", \"alg\": \"HS256\"}]}'}"),
        deny,
        policy("{rules: [{}]}"),
    ];
    let told = told(&all.concat());
    assert_eq!(told.names(), ["rbac", "ext_authz", "rbac", "ext_authz", "jwt_authn", "rbac", "rbac"]);
    assert_eq!(told.refusal(), None);
    assert_eq!(told.found(), [""; 0]);
    let (matched, asked) = (&told.filters[2]["typedConfig"], &told.filters[3]["typedConfig"]);
    assert!(
        matched["shadowRules"]["policies"]["istio-ext-authz-asked-by-http-ns[foo]-policy[asked-by-http]-rule[0]"]
            .is_object()
    );
    assert_eq!(matched["rules"], Value::Null, "nothing is refused before it is asked about");
    let enabled = &asked["filterEnabledMetadata"];
    assert_eq!(enabled["path"][0]["key"], "istio_ext_authz_asked-by-http_shadow_effective_policy_id");
    assert_eq!(asked["httpService"]["serverUri"]["cluster"], "outbound|8000||ext-authz.foo.svc.cluster.local");
    assert_eq!(asked["statusOnError"]["code"], "Forbidden");
}

#[test]
fn what_nobody_can_be_asked_about_is_refused() {
    let told = told(&policy("{action: CUSTOM, provider: {name: none}, rules: [{}]}"));
    assert_eq!(told.names(), ["rbac"]);
    assert_eq!(told.filters[0]["typedConfig"]["rules"]["action"], "DENY");
    assert!(told.found()[0].contains("the mesh has no extension provider \"none\": what the rules match is refused"));
}

#[test]
fn tokens_are_found_and_told_as_written() {
    let rules = "{issuer: b, jwksUri: 'https://keys.example.com/jwks', audiences: [c], fromHeaders: [{name: x-jwt, prefix: 'Bearer '}], \
        fromParams: [t], fromCookies: [k], outputPayloadToHeader: x-out, outputClaimToHeaders: [{header: x-sub, claim: sub}], \
        forwardOriginalToken: true, timeout: 2s}, {issuer: a, jwksUri: 'http://ext-authz.foo.svc.cluster.local:8000/jwks'}";
    let told = told(&tokens(rules));
    assert_eq!(told.refusal(), None);
    let config = &told.filters[0]["typedConfig"];
    let (first, second) = (&config["providers"]["origins-0"], &config["providers"]["origins-1"]);
    assert_eq!((first["issuer"].as_str(), second["issuer"].as_str()), (Some("a"), Some("b")));
    assert_eq!(first["remoteJwks"]["httpUri"]["cluster"], "outbound|8000||ext-authz.foo.svc.cluster.local");
    assert_eq!(second["remoteJwks"]["httpUri"]["cluster"], "jwks|443|keys.example.com");
    assert_eq!(second["remoteJwks"]["httpUri"]["timeout"], "2s");
    assert!(told.resources.clusters["jwks|443|keys.example.com"].transport_socket.is_some());
    assert_eq!(second["claimToHeaders"][0], json!({"headerName": "x-sub", "claimName": "sub"}));
    assert_eq!((&second["forward"], &second["forwardPayloadHeader"]), (&json!(true), &json!("x-out")));
    assert_eq!(second["payloadInMetadata"], "payload");
    let alternatives = config["rules"][0]["requires"]["requiresAny"]["requirements"].as_array().unwrap();
    assert_eq!(alternatives[0], json!({"providerName": "origins-0"}));
    assert_eq!(
        alternatives[2]["requiresAll"]["requirements"][1]["requiresAny"]["requirements"][1],
        json!({"allowMissing": {}})
    );
}

#[test]
fn without_keys_no_token_is_valid() {
    for (rule, expected) in [
        ("{issuer: a}", "keys are not looked up by the issuer's name"),
        ("{issuer: a, jwks: nonsense}", "is no JSON Web Key Set"),
        ("{issuer: a, jwks: '{\"keys\": []}'}", "with a key that can be used"),
        ("{issuer: a, jwksUri: 'ftp://a/b'}", "is neither of http nor of https"),
    ] {
        let told = told(&tokens(rule));
        let keys = &told.filters[0]["typedConfig"]["providers"]["origins-0"]["localJwks"]["inlineString"];
        assert!(keys.as_str().unwrap().contains("nobody"));
        assert!(told.found()[0].contains(expected), "{:?}", told.found());
        assert_eq!(told.refusal(), None);
    }
}

#[test]
fn old_policies_want_a_token() {
    let objects = "---\napiVersion: authentication.istio.io/v1alpha1\nkind: Policy\nmetadata: {name: default, namespace: foo}\nspec: {peers: [{mtls: {}}], origins: [{jwt: {issuer: a, jwks: '{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2VjcmV0\", \"alg\": \"HS256\"}]}'}}]}\n";
    let told = told(objects);
    assert_eq!(told.filters[0]["typedConfig"]["rules"][0]["requires"], json!({"providerName": "origins-0"}));
    assert_eq!(told.refusal(), None);
}

#[test]
fn a_dry_run_decides_nothing() {
    let spec = policy("{action: DENY, rules: [{}]}")
        .replace("namespace: foo}", "namespace: foo, annotations: {istio.io/dry-run: 'true'}}");
    let told = told(&spec);
    let config = &told.filters[0]["typedConfig"];
    assert_eq!((&config["rules"], &config["shadowRules"]["action"]), (&Value::Null, &json!("DENY")));
    assert_eq!(told.refusal(), None);
}
