//! The mesh's CA: which one it is, whom it certifies, and what everybody is told to trust.

use base64::Engine as _;
use envoy::istio::v1::auth::IstioCertificateRequest;
use envoy::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use pki::{MeshAuthority, OwnRequest, SpiffeId, TokenClaims};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};

use crate::cluster::Cluster;
use crate::proxy::channel;

const SECRETS: &str = "/api/v1/namespaces/istio-system/secrets";
const ROOTS: &str = "/api/v1/namespaces/ns/configmaps/istio-ca-root-cert";

/// A cluster with a service account `ns/sleep` and a mesh CA; the CA's root.
async fn start() -> (Cluster, String) {
    let cluster = Cluster::start().await;
    cluster.create("/api/v1/namespaces", json!({"metadata": {"name": "ns"}})).await;
    cluster.create("/api/v1/namespaces/ns/serviceaccounts", json!({"metadata": {"name": "sleep"}})).await;
    let root = root(&cluster.until(ROOTS, |_| true).await);
    (cluster, root)
}

fn root(map: &Value) -> String {
    map["data"]["root-cert.pem"].as_str().unwrap().to_owned()
}

fn secret(name: &str, authority: &MeshAuthority) -> Value {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    json!({ "metadata": { "name": name }, "data": {
        "ca-cert.pem": encode(authority.certificate_pem()),
        "ca-key.pem": encode(&authority.key_pem()),
        "cert-chain.pem": "",
        "root-cert.pem": encode(authority.root_bundle_pem()),
    } })
}

fn sleep() -> SpiffeId {
    SpiffeId::new("cluster.local", "ns", "sleep").unwrap()
}

/// What a token of `ns/sleep` says that is good for the CA.
async fn claims(cluster: &Cluster) -> TokenClaims {
    let account = cluster.get("/api/v1/namespaces/ns/serviceaccounts/sleep").await.unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    TokenClaims {
        namespace: "ns".to_owned(),
        service_account: "sleep".to_owned(),
        service_account_uid: account["metadata"]["uid"].as_str().unwrap().to_owned(),
        pod: None,
        audiences: vec!["istio-ca".to_owned()],
        issued_at: i64::try_from(now).unwrap() - 60,
        expires_at: i64::try_from(now).unwrap() + 600,
    }
}

/// Asks the CA behind the port that workloads call.
async fn certify(cluster: &Cluster, authorization: &str, csr: &str, seconds: i64) -> Result<Vec<String>, Status> {
    let message = IstioCertificateRequest { csr: csr.to_owned(), validity_duration: seconds, metadata: None };
    let mut request = Request::new(message);
    if !authorization.is_empty() {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (mesh, stop) = (cluster.mesh.clone(), CancellationToken::new());
    let _serving = stop.clone().drop_guard();
    tokio::spawn(async move { mesh.serve(listener, stop).await });
    let roots = root(&cluster.get(ROOTS).await.unwrap());
    let mut client = IstioCertificateServiceClient::new(channel(address, &roots, None).await.unwrap());
    Ok(client.create_certificate(request).await?.into_inner().cert_chain)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_certified_for_the_account_whose_token_comes_with_it() {
    let (cluster, root) = start().await;
    let claims = claims(&cluster).await;
    let bearer = format!("Bearer {}", cluster.token_key.sign(&claims).unwrap());
    let own = OwnRequest::generate(&sleep()).unwrap();
    let chain = certify(&cluster, &bearer, own.request_pem(), 60).await.unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[1], root);
    let (certificate, _) = own.answered(chain.concat()).unwrap();
    pki::client_config(&root, Some(&certificate)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_for_the_ca_is_refused() {
    let (cluster, _) = start().await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "works"}]}});
    let pod = cluster.create("/api/v1/namespaces/ns/pods", pod).await;
    let bound = Some(("p".to_owned(), pod["metadata"]["uid"].as_str().unwrap().to_owned()));
    let good = TokenClaims { pod: bound, ..claims(&cluster).await };
    let own = OwnRequest::generate(&sleep()).unwrap();
    let answer = async |claims: &TokenClaims| {
        let token = cluster.token_key.sign(claims).unwrap();
        let answer = certify(&cluster, &format!("Bearer {token}"), own.request_pem(), 0).await;
        answer.map(|_| ()).map_err(|status| status.code())
    };
    assert_eq!(answer(&good).await, Ok(()));
    let elsewhere = TokenClaims { audiences: vec![pki::ISSUER.to_owned()], ..good.clone() };
    assert_eq!(answer(&elsewhere).await, Err(Code::Unauthenticated));
    let expired = TokenClaims { expires_at: good.issued_at + 1, ..good.clone() };
    assert_eq!(answer(&expired).await, Err(Code::Unauthenticated));
    let another_account = TokenClaims { service_account_uid: "other".to_owned(), ..good.clone() };
    assert_eq!(answer(&another_account).await, Err(Code::Unauthenticated));
    let another_pod = TokenClaims { pod: Some(("p".to_owned(), "other".to_owned())), ..good.clone() };
    assert_eq!(answer(&another_pod).await, Err(Code::Unauthenticated));
    let forged = pki::TokenKey::generate().unwrap().sign(&good).unwrap();
    let status = certify(&cluster, &format!("Bearer {forged}"), own.request_pem(), 0).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let status = certify(&cluster, "", own.request_pem(), 0).await.unwrap_err();
    assert!(status.message().contains("istio-ca"), "{status}");
    cluster.delete("/api/v1/namespaces/ns/pods/p").await;
    cluster.until_gone("/api/v1/namespaces/ns/pods/p").await;
    assert_eq!(answer(&good).await, Err(Code::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_asks_for_more_than_its_due_is_refused() {
    let (cluster, _) = start().await;
    let bearer = format!("Bearer {}", cluster.token_key.sign(&claims(&cluster).await).unwrap());
    let own = OwnRequest::generate(&sleep()).unwrap();
    let admin = OwnRequest::generate(&SpiffeId::new("cluster.local", "ns", "admin").unwrap()).unwrap();
    let code = async |csr: &str, seconds| certify(&cluster, &bearer, csr, seconds).await.unwrap_err().code();
    assert_eq!(code(admin.request_pem(), 0).await, Code::PermissionDenied);
    assert_eq!(code("", 0).await, Code::InvalidArgument);
    assert_eq!(code(own.request_pem(), -1).await, Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roots_in_every_namespace_are_kept_right() {
    let (cluster, expected) = start().await;
    let right = |map: &Value| map["data"] == json!({ "root-cert.pem": expected });
    cluster.patch(ROOTS, json!({"data": {"root-cert.pem": "mine", "more": "x"}})).await;
    cluster.until(ROOTS, right).await;
    cluster.delete(ROOTS).await;
    cluster.until(ROOTS, right).await;
    cluster.until("/api/v1/namespaces/istio-system/configmaps/istio-ca-root-cert", right).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_survives_a_restart_and_a_given_one_takes_its_place() {
    let (cluster, own) = start().await;
    let cluster = cluster.restart().await;
    let given = MeshAuthority::generate("given").unwrap();
    cluster.create(SECRETS, secret("cacerts", &given)).await;
    cluster.until(ROOTS, |map| root(map) == given.root_bundle_pem()).await;
    cluster.delete(&format!("{SECRETS}/cacerts")).await;
    cluster.until(ROOTS, |map| root(map) == own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_cacerts_is_reported_and_changes_nothing() {
    let (cluster, own) = start().await;
    let mut bad = secret("cacerts", &MeshAuthority::generate("given").unwrap());
    bad["data"]["ca-key.pem"] = json!("eA==");
    cluster.create(SECRETS, bad).await;
    let events = cluster
        .until_list("/api/v1/namespaces/istio-system/events", |events| {
            events.iter().any(|event| event["reason"] == "InvalidCertificateAuthority")
        })
        .await;
    let event = events.iter().find(|event| event["reason"] == "InvalidCertificateAuthority").unwrap();
    assert_eq!(event["involvedObject"]["name"], "cacerts");
    assert_eq!(
        event["message"],
        "Secret istio-system/cacerts: ca-key.pem: there is no usable private key in the PEM text. The CA stays what it was"
    );
    assert_eq!(root(&cluster.get(ROOTS).await.unwrap()), own);
}
