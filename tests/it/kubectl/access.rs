//! Who may do what: users, service accounts and tokens.

use testkit::Session;

crate::scenarios!(
    whoami_names_the_administrator,
    service_account_tokens_are_accepted,
    roles_and_bindings_are_enforced,
    without_credentials_nothing_is_served,
    pods_have_a_token_of_their_own,
);

/// The address of the cluster's API server.
fn server(s: &Session<'_>) -> String {
    s.sh("kubectl config view --raw --minify -o jsonpath='{.clusters[0].cluster.server}'").ok()
}

fn whoami_names_the_administrator(s: &Session<'_>) {
    let who = s.sh("kubectl auth whoami").ok();
    assert!(who.contains("system:masters") && who.contains("kubernetes-admin"), "{who}");
    assert_eq!(s.sh("kubectl auth can-i create deployments").ok(), "yes");
    assert_eq!(s.sh("kubectl auth can-i '*' '*' --all-namespaces").ok(), "yes");
}

fn service_account_tokens_are_accepted(s: &Session<'_>) {
    assert_eq!(s.sh("kubectl create serviceaccount robot").ok(), "serviceaccount/robot created");
    let token = s.sh("kubectl create token robot --duration=1h").ok();
    assert_eq!(token.split('.').count(), 3, "a JWT has three parts");
    let bare = format!("kubectl --kubeconfig /dev/null --server {} --insecure-skip-tls-verify", server(s));
    let identity = s.sh(&format!("{bare} --token {token} auth whoami -o yaml")).ok();
    assert!(identity.contains(&format!("system:serviceaccount:{}:robot", s.namespace)), "{identity}");
    let missing = s.sh("kubectl create token nobody").fails();
    assert!(missing.contains("serviceaccounts \"nobody\" not found"), "{missing}");
}

fn roles_and_bindings_are_enforced(s: &Session<'_>) {
    s.sh("kubectl create serviceaccount robot").ok();
    let token = s.sh("kubectl create token robot").ok();
    let bare = format!("kubectl --kubeconfig /dev/null --server {} --insecure-skip-tls-verify", server(s));
    let robot = format!("{bare} --token {token} -n {}", s.namespace);
    let refused = s.sh(&format!("{robot} get pods")).fails();
    let reason = format!(
        "pods is forbidden: User \"system:serviceaccount:{0}:robot\" cannot list resource \"pods\" in API group \"\" \
         in the namespace \"{0}\"",
        s.namespace
    );
    assert!(refused.contains(&reason), "{refused}");
    s.sh("kubectl create role reader --verb=get,list --resource=pods").ok();
    s.sh(&format!("kubectl create rolebinding readers --role=reader --serviceaccount={}:robot", s.namespace)).ok();
    assert!(s.sh("kubectl describe rolebinding readers").ok().contains("robot"));
    s.sh(&format!("{robot} get pods")).ok();
    assert_eq!(s.sh(&format!("{robot} auth can-i list pods")).ok(), "yes");
    assert!(s.sh(&format!("{robot} auth can-i delete pods")).fails().starts_with("no"));
    s.sh(&format!("{robot} get pods --all-namespaces")).fails();
    s.sh("kubectl delete rolebinding readers").ok();
    s.sh(&format!("{robot} get pods")).fails();
}

fn without_credentials_nothing_is_served(s: &Session<'_>) {
    if !testkit::program("curl") {
        return;
    }
    s.sample("sleep/sleep.yaml");
    s.sh("kubectl rollout status deployment/sleep --timeout=60s").ok();
    let pod = s.sh("kubectl get pod -l app=sleep -o jsonpath='{.items[0].metadata.name}'").ok();
    let server = server(s);
    let namespace = &s.namespace;
    let code = |path: &str, more: &str| {
        s.sh(&format!("curl -sk -o answer.json -w '%{{http_code}}' {more} '{server}{path}'")).stdout()
    };
    let exec = format!("/api/v1/namespaces/{namespace}/pods/{pod}/exec?command=id&stdout=true");
    let upgrade = "-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
                   -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' -H 'Sec-WebSocket-Protocol: v5.channel.k8s.io' --http1.1";
    assert_eq!(code(&exec, upgrade), "401");
    assert!(s.sh("cat answer.json").ok().contains("\"reason\":\"Unauthorized\""));
    assert_eq!(code(&exec, &format!("{upgrade} -H 'Authorization: Bearer nonsense'")), "401");
    assert_eq!(code(&format!("/api/v1/namespaces/{namespace}/secrets"), ""), "401");
    assert_eq!(code("/livez", ""), "200");
    assert_eq!(code("/version", ""), "200");
}

fn pods_have_a_token_of_their_own(s: &Session<'_>) {
    if !testkit::program("curl") {
        return;
    }
    s.sample("sleep/sleep.yaml");
    s.sh("kubectl rollout status deployment/sleep --timeout=60s").ok();
    s.sh("kubectl create role reader --verb=get --resource=services").ok();
    s.sh(&format!("kubectl create rolebinding readers --role=reader --serviceaccount={}:sleep", s.namespace)).ok();
    let ask = "cd /var/run/secrets/kubernetes.io/serviceaccount && \
               curl -s --cacert ca.crt -H \"Authorization: Bearer $(cat token)\" \
               https://kubernetes.default.svc/api/v1/namespaces/$(cat namespace)/services/sleep";
    let answer = s.sh(&format!("kubectl exec deploy/sleep -- sh -c '{ask}'")).ok();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["metadata"]["name"], "sleep", "{answer}");
}
