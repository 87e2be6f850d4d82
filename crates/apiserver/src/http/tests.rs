//! The API as clients see it, without a socket.

mod access;
mod connections;
mod custom;
mod deletion;
mod lists;
mod patches;
mod versions;
mod watches;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::{ApiServer, Config};
use crate::extension::{Extensions, UserInfo};

/// A server over a store of its own, with the namespace `default`.
struct Harness {
    api: ApiServer,
    user: UserInfo,
    directory: Arc<TempDir>,
    token_key: Arc<pki::TokenKey>,
}

/// A whole response.
#[derive(Debug)]
struct Reply {
    code: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }

    fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().map(|v| v.to_str().unwrap()).collect()
    }

    /// The body of a reply with this code.
    #[track_caller]
    fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}

impl Harness {
    async fn new() -> Harness {
        Harness::with(Extensions::default()).await
    }

    async fn with(extensions: Extensions) -> Harness {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let token_key = Arc::new(pki::TokenKey::generate().unwrap());
        let harness = Harness::open(directory, token_key, extensions);
        harness.post("/api/v1/namespaces", &json!({"metadata": {"name": "default"}})).await.expect(201);
        harness
    }

    fn open(directory: Arc<TempDir>, token_key: Arc<pki::TokenKey>, extensions: Extensions) -> Harness {
        let storage = directory.path().to_owned();
        let api = ApiServer::open(Config { storage, token_key: token_key.clone(), extensions }).unwrap();
        let user =
            UserInfo { name: "admin".to_owned(), groups: vec!["system:masters".to_owned()], ..UserInfo::default() };
        Harness { api, user, directory, token_key }
    }

    /// The same server for another user.
    fn as_user(&self, name: &str, groups: &[&str]) -> Harness {
        let groups = groups.iter().chain(&["system:authenticated"]).map(|g| (*g).to_owned()).collect();
        let user = UserInfo { name: name.to_owned(), groups, ..UserInfo::default() };
        let (directory, token_key) = (self.directory.clone(), self.token_key.clone());
        Harness { api: self.api.clone(), user, directory, token_key }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = Request::builder().method(method).uri(path).header(USER_AGENT, "test/1.0");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let response = self.api.in_process(self.user.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let collected = tokio::time::timeout(Duration::from_secs(10), body.collect());
        let body = collected.await.expect("the body ends").unwrap().to_bytes();
        Reply { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").await
    }

    async fn get_as(&self, path: &str, accept: &str) -> Reply {
        self.send("GET", path, &[(ACCEPT.as_str(), accept)], b"").await
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[], body.to_string().as_bytes()).await
    }

    async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send("PUT", path, &[], body.to_string().as_bytes()).await
    }

    async fn patch(&self, path: &str, kind: &str, body: &Value) -> Reply {
        let kind = format!("application/{kind}");
        self.send("PATCH", path, &[(CONTENT_TYPE.as_str(), &kind)], body.to_string().as_bytes()).await
    }

    async fn delete(&self, path: &str, body: &Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send("DELETE", path, &[], body.as_bytes()).await
    }

    async fn config_map(&self, name: &str, data: &Value) -> Value {
        self.post(CONFIG_MAPS, &config_map(name, data)).await.expect(201)
    }
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "sleep"}]}})
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": "sleep"}]}},
    }})
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}
