use super::*;
use crate::http::authentication::Peer;
use crate::http::body::{self, RequestBody};

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1";
const ACCESS: &str = "/apis/authorization.k8s.io/v1";

impl Harness {
    /// What a client on a connection gets.
    async fn outsider(&self, path: &str, headers: &[(&str, &str)], peer: &Peer) -> u16 {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(RequestBody::InProcess(body::full(""))).unwrap();
        self.api.server.respond(request, peer, &Default::default()).await.status().as_u16()
    }

    async fn grant(&self, name: &str, rules: Value, subject: Value) {
        let role = json!({"metadata": {"name": name}, "rules": rules});
        self.post(&format!("{ROLES}/namespaces/default/roles"), &role).await.expect(201);
        let binding = json!({"metadata": {"name": name}, "subjects": [subject],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}});
        self.post(&format!("{ROLES}/namespaces/default/rolebindings"), &binding).await.expect(201);
    }

    async fn token(&self, account: &str, spec: Value) -> String {
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
        let answer = self.post(&path, &json!({"spec": spec})).await.expect(201);
        answer["status"]["token"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn only_health_and_version_are_open_to_strangers() {
    let api = Harness::new().await;
    for (path, code) in [
        ("/healthz", 200),
        ("/livez?verbose", 200),
        ("/readyz/ping", 200),
        ("/version", 200),
        ("/api", 401),
        ("/metrics", 401),
        (CONFIG_MAPS, 401),
        ("/nonsense", 401),
    ] {
        assert_eq!(api.outsider(path, &[], &Peer::Unknown).await, code, "{path}");
    }
    let bad = [("authorization", "Bearer nonsense")];
    assert_eq!(api.outsider("/version", &bad, &Peer::Unknown).await, 401);
}

#[tokio::test]
async fn a_user_may_do_what_roles_grant_and_no_more() {
    let api = Harness::new().await;
    api.config_map("a", &json!({})).await;
    let jane = api.as_user("jane", &[]);
    let refused = jane.get(CONFIG_MAPS).await;
    let why = "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the \
               namespace \"default\"";
    assert_eq!((refused.code, refused.message().as_str()), (403, why));
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
    api.grant("reader", rules, json!({"kind": "User", "name": "jane"})).await;
    assert_eq!(jane.get(CONFIG_MAPS).await.code, 200, "the grant holds as soon as it is acknowledged");
    assert_eq!(jane.get("/api/v1/configmaps").await.code, 403, "but only in its namespace");
    assert_eq!(jane.delete(&format!("{CONFIG_MAPS}/a"), &Value::Null).await.code, 403);
    assert_eq!(jane.get("/api").await.code, 200, "discovery is for everybody who is known");
    assert_eq!(jane.get("/metrics").await.code, 403);
    api.delete(&format!("{ROLES}/namespaces/default/rolebindings/reader"), &Value::Null).await.expect(200);
    assert_eq!(jane.get(CONFIG_MAPS).await.code, 403);
}

#[tokio::test]
async fn cluster_roles_can_be_bound_everywhere_or_in_a_namespace() {
    let api = Harness::new().await;
    let role = json!({"metadata": {"name": "r"}, "rules": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["list"]}, {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]});
    api.post(&format!("{ROLES}/clusterroles"), &role).await.expect(201);
    let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"});
    let binding = |user: &str| json!({"metadata": {"name": user}, "roleRef": reference, "subjects": [{"kind": "Group", "name": user}]});
    api.post(&format!("{ROLES}/namespaces/default/rolebindings"), &binding("here")).await.expect(201);
    api.post(&format!("{ROLES}/clusterrolebindings"), &binding("everywhere")).await.expect(201);
    let (here, everywhere) = (api.as_user("x", &["here"]), api.as_user("y", &["everywhere"]));
    assert_eq!((here.get(CONFIG_MAPS).await.code, here.get("/api/v1/configmaps").await.code), (200, 403));
    assert_eq!((everywhere.get(CONFIG_MAPS).await.code, everywhere.get("/api/v1/configmaps").await.code), (200, 200));
    assert_eq!((here.get("/metrics").await.code, everywhere.get("/metrics").await.code), (403, 200));
}

#[tokio::test]
async fn access_reviews_answer_as_access_is_decided() {
    let api = Harness::new().await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}]);
    api.grant("exec", rules, json!({"kind": "User", "name": "jane"})).await;
    let jane = api.as_user("jane", &[]);
    let ask = |subresource: &str| {
        json!({"spec": {"resourceAttributes": {"namespace": "default", "verb": "create", "resource": "pods",
            "subresource": subresource}}})
    };
    let path = format!("{ACCESS}/selfsubjectaccessreviews");
    assert_eq!(jane.post(&path, &ask("exec")).await.expect(201)["status"]["allowed"], true);
    assert_eq!(jane.post(&path, &ask("")).await.expect(201)["status"]["allowed"], false);
    assert_eq!(jane.post(&path, &json!({"spec": {}})).await.code, 422);
    let mut other = ask("exec");
    other["spec"]["user"] = "jane".into();
    assert_eq!(jane.post(&format!("{ACCESS}/subjectaccessreviews"), &other).await.code, 403);
    assert_eq!(
        api.post(&format!("{ACCESS}/subjectaccessreviews"), &other).await.expect(201)["status"]["allowed"],
        true
    );
    let rules =
        jane.post(&format!("{ACCESS}/selfsubjectrulesreviews"), &json!({"spec": {"namespace": "default"}})).await;
    let rules = rules.expect(201);
    let listed = rules["status"]["resourceRules"].as_array().unwrap();
    assert!(listed.iter().any(|rule| rule["resources"] == json!(["pods/exec"])), "{rules}");
    let me = jane.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.expect(201);
    assert_eq!(me["status"]["userInfo"]["username"], "jane");
}

#[tokio::test]
async fn a_service_account_token_is_a_user_while_account_and_pod_exist() {
    let api = Harness::new().await;
    api.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "sa"}})).await.expect(201);
    let created = api.post(PODS, &pod("p")).await.expect(201);
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]);
    api.grant("sa", rules, json!({"kind": "ServiceAccount", "name": "sa", "namespace": "default"})).await;
    let reference = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": created["metadata"]["uid"]});
    let free = api.token("sa", json!({})).await;
    let bound = api.token("sa", json!({"boundObjectRef": reference})).await;
    let elsewhere = api.token("sa", json!({"audiences": ["vault"]})).await;
    let code = async |token: &str| {
        let header = format!("Bearer {token}");
        api.outsider(CONFIG_MAPS, &[("authorization", header.as_str())], &Peer::Unknown).await
    };
    assert_eq!((code(&free).await, code(&bound).await, code(&elsewhere).await), (200, 200, 401));
    let review = json!({"spec": {"token": elsewhere, "audiences": ["vault"]}});
    let review = api.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.expect(201);
    assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:default:sa");
    assert_eq!(review["status"]["audiences"], json!(["vault"]));
    api.delete(&format!("{PODS}/p"), &Value::Null).await.expect(200);
    assert_eq!((code(&free).await, code(&bound).await), (200, 401));
    api.delete("/api/v1/namespaces/default/serviceaccounts/sa", &Value::Null).await.expect(200);
    assert_eq!(code(&free).await, 401);
}

#[tokio::test]
async fn token_requests_have_limits() {
    let api = Harness::new().await;
    api.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "sa"}})).await.expect(201);
    let path = "/api/v1/namespaces/default/serviceaccounts/sa/token";
    for (spec, code) in [
        (json!({"expirationSeconds": 60}), 422),
        (json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "none"}}), 404),
        (json!({"boundObjectRef": {"kind": "Node", "apiVersion": "v1", "name": "n"}}), 400),
        (json!({"expirationSeconds": 600}), 201),
    ] {
        assert_eq!(api.post(path, &json!({"spec": spec})).await.code, code, "{spec}");
    }
    assert_eq!(api.post("/api/v1/namespaces/default/serviceaccounts/no/token", &json!({})).await.code, 404);
}

#[tokio::test]
async fn impersonation_needs_to_be_granted() {
    let api = Harness::new().await;
    let admin = Peer::Certificate("admin".to_owned(), vec!["system:masters".to_owned()]);
    let jane = Peer::Certificate("jane".to_owned(), vec![]);
    let as_jane = [("impersonate-user", "jane")];
    assert_eq!(api.outsider(CONFIG_MAPS, &[], &admin).await, 200);
    assert_eq!(api.outsider(CONFIG_MAPS, &as_jane, &admin).await, 403, "jane may not list");
    assert_eq!(api.outsider("/api", &as_jane, &admin).await, 200);
    assert_eq!(api.outsider("/api", &[("impersonate-user", "admin")], &jane).await, 403);
    let masters = [("impersonate-user", "x"), ("impersonate-group", "system:masters")];
    assert_eq!(api.outsider(CONFIG_MAPS, &masters, &admin).await, 200);
    assert_eq!(api.outsider(CONFIG_MAPS, &[("impersonate-group", "g")], &admin).await, 400);
}
