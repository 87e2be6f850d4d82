//! `details`: what is printed in the front of the book.

use http::{Method, Request, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::{Environment, environment, serve};
use crate::Failure;
use crate::page::{self, Page};

/// Serves `/details/ID`.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    check(Environment(&environment))?;
    serve("details", args, |request| async move { answer(&request) })
}

/// Where the original would ask a service on the Internet, there is none to be asked.
fn check(environment: Environment<'_>) -> Result<(), Failure> {
    match environment.is_true("ENABLE_EXTERNAL_BOOK_SERVICE") {
        true => Err(Failure::Usage("ENABLE_EXTERNAL_BOOK_SERVICE: a federation has no way to the Internet".into())),
        false => Ok(()),
    }
}

#[derive(Serialize)]
struct Details {
    id: i64,
    author: &'static str,
    year: u16,
    #[serde(rename = "type")]
    binding: &'static str,
    pages: u16,
    publisher: &'static str,
    language: &'static str,
    #[serde(rename = "ISBN-10")]
    isbn_10: &'static str,
    #[serde(rename = "ISBN-13")]
    isbn_13: &'static str,
}

fn answer<B>(request: &Request<B>) -> Page {
    let path = request.uri().path();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return page::method_not_allowed("GET, HEAD");
    }
    match path.strip_prefix("/details") {
        _ if path == "/health" => page::compact_json(&json!({ "status": "Details is healthy" })),
        Some(rest) if rest.is_empty() || rest.starts_with('/') => match rest.rsplit('/').next().map(str::parse) {
            Some(Ok(id)) => page::compact_json(&details(id)),
            _ => {
                let message = json!({ "error": "please provide numeric product id" });
                page::with_status(StatusCode::BAD_REQUEST, page::compact_json(&message))
            }
        },
        _ => page::error(StatusCode::NOT_FOUND, "There is no such page."),
    }
}

fn details(id: i64) -> Details {
    Details {
        id,
        author: "William Shakespeare",
        year: 1595,
        binding: "paperback",
        pages: 200,
        publisher: "PublisherA",
        language: "English",
        isbn_10: "1234567890",
        isbn_13: "123-1234567890",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn get(path: &str) -> (u16, String) {
        let page = answer(&Request::get(path).body(()).unwrap());
        let status = page.status().as_u16();
        (status, String::from_utf8(page.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_book_is_described_by_its_number() {
        let (status, body) = get("/details/0").await;
        assert!(status == 200 && body.starts_with(r#"{"id":0,"author":"William Shakespeare","year":1595,"#), "{body}");
        assert_eq!(get("/details/x").await, (400, r#"{"error":"please provide numeric product id"}"#.to_owned()));
        assert_eq!(get("/health").await, (200, r#"{"status":"Details is healthy"}"#.to_owned()));
        assert_eq!(get("/detailsofsomething").await.0, 404);
    }

    #[test]
    fn what_would_need_the_internet_is_refused() {
        let get = |name: &str| (name == "ENABLE_EXTERNAL_BOOK_SERVICE").then(|| "true".to_owned());
        assert!(check(Environment(&get)).is_err() && check(Environment(&|_| None)).is_ok());
    }
}
