//! Requests of one service to another: a connection for each, and a limit to how long an answer may take.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{Environment, PORT};

/// A larger answer is none that a service of bookinfo gives.
const LARGEST_ANSWER: usize = 1 << 20;

/// Another service, and where it is.
#[derive(Debug, Clone)]
pub(super) struct Backend {
    /// `ratings`: its name, and the first part of its paths.
    pub(super) name: &'static str,
    authority: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("it cannot be reached: {0}")]
    Connect(#[source] std::io::Error),
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer broke off or is too large: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no request can be made of it: {0}")]
    Request(#[from] http::Error),
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: Bytes,
}

impl Answer {
    /// What a successful answer says; anything else says nothing.
    pub(super) fn json(&self) -> Option<Value> {
        (self.status == StatusCode::OK).then(|| serde_json::from_slice(&self.body).ok()).flatten()
    }
}

impl Backend {
    /// `ratings`, or what `RATINGS_HOSTNAME`, `SERVICES_DOMAIN` and `RATINGS_SERVICE_PORT` make of it.
    pub(super) fn of(name: &'static str, environment: Environment<'_>) -> Backend {
        let variable = name.to_ascii_uppercase();
        let host = environment.get(&format!("{variable}_HOSTNAME")).unwrap_or_else(|| name.to_owned());
        let domain = environment.get("SERVICES_DOMAIN").map(|domain| format!(".{domain}")).unwrap_or_default();
        let port = environment.get(&format!("{variable}_SERVICE_PORT")).unwrap_or_else(|| PORT.to_string());
        Backend { name, authority: format!("{host}{domain}:{port}") }
    }

    /// `http://ratings:9080`.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// Asks for `/NAME/PRODUCT`, as `received` says who asks. `product` is a segment of a path, as it came in one.
    pub(super) async fn get(&self, product: &str, headers: HeaderMap, limit: Duration) -> Result<Answer, NoAnswer> {
        let request = self.request(product, headers)?;
        let answer = tokio::time::timeout(limit, self.send(request));
        answer.await.unwrap_or(Err(NoAnswer::Timeout(limit)))
    }

    fn request(&self, product: &str, headers: HeaderMap) -> Result<Request<Empty<Bytes>>, http::Error> {
        let path: Uri = format!("/{}/{product}", self.name).parse()?;
        let mut request = Request::builder().method(Method::GET).uri(path).body(Empty::new())?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, HeaderValue::from_str(&self.authority)?);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        Ok(request)
    }

    async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Answer, NoAnswer> {
        let stream = TcpStream::connect(&self.authority).await.map_err(NoAnswer::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let receive = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(NoAnswer::Body)?;
            Ok(Answer { status: head.status, body: body.to_bytes() })
        };
        // Both in this task, so that what the caller gives up ends at once. A connection that ends first has told the
        // receiver why.
        let drive = async {
            drop(connection.await);
            std::future::pending().await
        };
        tokio::select! {
            answer = receive => answer,
            never = drive => never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_where_a_service_is() {
        let backend = |variables: &[(&str, &str)]| {
            let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            Backend::of("ratings", Environment(&get)).url()
        };
        assert_eq!(backend(&[]), "http://ratings:9080");
        assert_eq!(backend(&[("SERVICES_DOMAIN", "shop.svc")]), "http://ratings.shop.svc:9080");
        let all = [("RATINGS_HOSTNAME", "r"), ("SERVICES_DOMAIN", "d"), ("RATINGS_SERVICE_PORT", "80")];
        assert_eq!(backend(&all), "http://r.d:80");
    }
}
