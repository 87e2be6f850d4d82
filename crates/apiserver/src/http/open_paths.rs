//! Paths that are no resources: discovery, OpenAPI, versions, health, metrics.

use api::ApiError;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, HeaderValue, VARY};
use http::{Method, Request, Response};
use serde_json::{Value, json};

use super::authorization::Action;
use super::body::RequestBody;
use super::negotiate::{self, Format};
use super::query::Query;
use super::{Body, Server, answer};
use crate::extension::UserInfo;
use crate::kind::Discovery;

/// What `/version` says of the Kubernetes API that is served; kubectl compares the minor version with its own.
const KUBERNETES: (&str, &str) = ("1", "33");

/// The checks behind the health endpoints, as `?verbose` lists them.
const CHECKS: [&str; 2] = ["ping", "store"];

/// The `@v1.0` that clients send in this type is no legal media type and must not come back.
const OPENAPI_V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

impl Server {
    /// Answers a request to a path that is no resource. Health and version are for everybody.
    pub(super) fn other_path(
        &self,
        request: &Request<RequestBody>,
        user: Option<&UserInfo>,
    ) -> Result<Response<Body>, ApiError> {
        let path = match request.uri().path().trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        let public = matches!(path, "/healthz" | "/livez" | "/readyz" | "/version")
            || health_check(path).is_some_and(|check| CHECKS.contains(&check));
        if !public {
            let user = user.ok_or_else(ApiError::unauthorized)?;
            let verb = request.method().as_str().to_ascii_lowercase();
            self.authorize(user, &Action::Path { verb: &verb, path })?;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(ApiError::method_not_allowed());
        }
        let query = Query::parse(request.uri().query().unwrap_or_default());
        match path {
            "/" => Ok(answer::value(200, Format::JSON, &json!({ "paths": self.paths() }))),
            "/version" => Ok(answer::value(200, Format::JSON, &version())),
            "/healthz" | "/livez" | "/readyz" => Ok(health(path, &query)),
            "/metrics" => {
                let text = self.metrics.render(self.store.revision().0);
                Ok(answer::bytes(200, "text/plain; version=0.0.4; charset=utf-8", text))
            }
            "/openapi/v2" => Ok(openapi_v2(request)),
            _ if public => Ok(answer::text(200, "ok")),
            _ if path.starts_with("/openapi/v3") => self.openapi_v3(path, &query),
            _ => self.discover(path, request),
        }
    }

    fn discover(&self, path: &str, request: &Request<RequestBody>) -> Result<Response<Body>, ApiError> {
        let form = match path {
            "/api" | "/apis" => negotiate::discovery(request.headers()),
            _ => Discovery::Plain,
        };
        let document = self.registry.discovery(path, form).ok_or_else(ApiError::no_such_path)?;
        // The long form must come back, or kubectl reads the document as a plain one and finds no resources.
        let content_type = match form {
            Discovery::Plain => "application/json",
            Discovery::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Discovery::V2Beta1 => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        };
        let mut response = answer::bytes(200, content_type, document);
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        Ok(response)
    }

    fn openapi_v3(&self, path: &str, query: &Query) -> Result<Response<Body>, ApiError> {
        let document = self.registry.openapi_v3(path).ok_or_else(ApiError::no_such_path)?;
        let mut response = answer::bytes(200, "application/json", document);
        if query.get("hash").is_some() {
            // The index names documents by their content, so that a named one never changes.
            let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
            response.headers_mut().insert(CACHE_CONTROL, forever);
        }
        Ok(response)
    }

    /// What `/` lists.
    fn paths(&self) -> Vec<String> {
        let fixed = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3"];
        let mut paths: Vec<String> = fixed.iter().map(|p| (*p).to_owned()).collect();
        paths.extend(["/readyz".to_owned(), "/version".to_owned()]);
        for kind in self.registry.all() {
            if !kind.version.group.is_empty() {
                paths.push(format!("/apis/{}", kind.version.group));
                paths.push(format!("/apis/{}", kind.version));
            }
        }
        paths.sort();
        paths.dedup();
        paths
    }
}

/// The check that a path such as `/livez/ping` asks for.
fn health_check(path: &str) -> Option<&str> {
    ["/healthz/", "/livez/", "/readyz/"].iter().find_map(|prefix| path.strip_prefix(prefix))
}

/// A server that answers at all is healthy: it opens its store before it listens, and a store that can no longer write
/// says so to the writer.
fn health(path: &str, query: &Query) -> Response<Body> {
    if !query.flag("verbose") {
        return answer::text(200, "ok");
    }
    let lines: String = CHECKS.iter().map(|check| format!("[+]{check} ok\n")).collect();
    answer::text(200, format!("{lines}{} check passed\n", path.trim_start_matches('/')))
}

fn version() -> Value {
    let (major, minor) = KUBERNETES;
    json!({
        "major": major, "minor": minor,
        "gitVersion": format!("v{major}.{minor}.0+isthmus.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// A document without definitions: kubectl needs one to be there, and takes its knowledge from version 3.
fn openapi_v2(request: &Request<RequestBody>) -> Response<Body> {
    let (title, release) = ("Kubernetes", format!("v{}.{}.0", KUBERNETES.0, KUBERNETES.1));
    if negotiate::openapi_protobuf(request.headers()) {
        let info = [field(1, title.as_bytes()), field(2, release.as_bytes())].concat();
        let document = [field(1, b"2.0"), field(2, &info)].concat();
        return answer::bytes(200, OPENAPI_V2_PROTOBUF, Bytes::from(document));
    }
    let document = json!({
        "swagger": "2.0", "info": { "title": title, "version": release }, "paths": {}, "definitions": {},
    });
    answer::value(200, Format::JSON, &document)
}

/// A protobuf field of bytes; numbers and lengths here fit into one byte each.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, bytes.len() as u8];
    field.extend_from_slice(bytes);
    field
}
