//! `productpage`: the bookshop's page, and the same as JSON.

mod counter;
mod markup;
mod session;

use std::sync::Arc;
use std::time::Duration;

use http::header::{COOKIE, HeaderMap, REFERER, SET_COOKIE};
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Body;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::client::{Backend, NoAnswer};
use super::{Environment, environment, propagation, serve};
use crate::Failure;
use crate::page::{self, Page};
use crate::serve::log;
use counter::Counter;

/// How long each request to another service may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The one book that is sold.
const BOOK: &str = "0";
const LARGEST_FORM: usize = 64 << 10;

/// Serves `/productpage`.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let shop = Arc::new(Shop::of(Environment(&environment))?);
    serve("productpage", args, move |request| {
        let shop = shop.clone();
        async move { shop.answer(request).await }
    })
}

struct Shop {
    details: Backend,
    reviews: Backend,
    ratings: Backend,
    /// How many further times each page asks for reviews, to show what limits there are.
    flood: usize,
    results: Counter,
}

/// What another service says, or why it says nothing, with a status.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    status: StatusCode,
    json: Value,
}

impl Shop {
    fn of(environment: Environment<'_>) -> Result<Shop, Failure> {
        let flood = environment.get("FLOOD_FACTOR").unwrap_or_else(|| "0".to_owned());
        Ok(Shop {
            details: Backend::of("details", environment),
            reviews: Backend::of("reviews", environment),
            ratings: Backend::of("ratings", environment),
            flood: flood.parse().map_err(|_| Failure::Usage(format!("FLOOD_FACTOR: {flood:?} is not a number")))?,
            results: Counter::default(),
        })
    }

    async fn answer<B>(self: &Arc<Shop>, request: Request<B>) -> Page
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path().to_owned();
        match (path.as_str(), request.method()) {
            ("/login", &Method::POST) => sign_in(request).await,
            ("/login", _) => page::method_not_allowed("POST"),
            (_, &Method::GET | &Method::HEAD) => self.get(&path, request.headers()).await,
            _ => page::method_not_allowed("GET, HEAD"),
        }
    }

    async fn get(self: &Arc<Shop>, path: &str, headers: &HeaderMap) -> Page {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments.as_slice() {
            ["" | "index.html"] => page::html(markup::index(&self.details, &self.reviews, &self.ratings)),
            ["health"] => page::html("Product page is healthy"),
            ["metrics"] => page::with_type("text/plain; version=0.0.4; charset=utf-8", self.results.to_string()),
            ["productpage"] => self.front(headers).await,
            ["logout"] => back(headers, session::signed_out()),
            ["api", "v1", "products"] => page::json(&json!([markup::product()])),
            ["api", "v1", "products", product] => as_json(self.details(product, headers).await),
            ["api", "v1", "products", product, "reviews"] => as_json(self.reviews(product, headers).await),
            ["api", "v1", "products", product, "ratings"] => as_json(self.ratings(product, headers).await),
            _ => page::error(StatusCode::NOT_FOUND, "The requested URL was not found on the server."),
        }
    }

    async fn front(self: &Arc<Shop>, headers: &HeaderMap) -> Page {
        let details = self.details(BOOK, headers).await;
        self.flood(headers).await;
        let reviews = self.reviews(BOOK, headers).await;
        page::html(markup::front(session::user(headers).as_deref(), &details, &reviews))
    }

    async fn flood(self: &Arc<Shop>, headers: &HeaderMap) {
        let mut requests = JoinSet::new();
        for _ in 0..self.flood {
            let (shop, headers) = (self.clone(), headers.clone());
            requests.spawn(async move { drop(shop.reviews(BOOK, &headers).await) });
        }
        requests.join_all().await;
    }

    async fn details(&self, product: &str, headers: &HeaderMap) -> Told {
        let answer = self.ask(&self.details, product, headers).await;
        answer.unwrap_or_else(|status| unavailable(status, "details"))
    }

    /// Asks a second time where the first was in vain, which is a mistake that documents show how to find: it hides from
    /// the caller that twice as long is waited.
    async fn reviews(&self, product: &str, headers: &HeaderMap) -> Told {
        let answer = match self.ask(&self.reviews, product, headers).await {
            Ok(answer) => Ok(answer),
            Err(_) => self.ask(&self.reviews, product, headers).await,
        };
        answer.unwrap_or_else(|status| unavailable(status, "reviews"))
    }

    async fn ratings(&self, product: &str, headers: &HeaderMap) -> Told {
        let answer = self.ask(&self.ratings, product, headers).await;
        answer.unwrap_or_else(|status| unavailable(status, "ratings"))
    }

    /// What `backend` says; the error is the status of an answer that is of no use, or 500 when there is none.
    async fn ask(&self, backend: &Backend, product: &str, received: &HeaderMap) -> Result<Told, StatusCode> {
        let mut headers = propagation::by_page(received);
        if let Some(user) = session::user(received).and_then(|user| HeaderValue::from_str(&user).ok()) {
            headers.insert(propagation::END_USER, user);
        }
        let answer = backend.get(product, headers, PATIENCE).await;
        let status = answer.as_ref().map_or(StatusCode::INTERNAL_SERVER_ERROR, |answer| answer.status);
        self.results.count(backend.name, status);
        match answer {
            Ok(answer) => answer.json().map(|json| Told { status, json }).ok_or(match status {
                // A page that says nothing is no better than none.
                StatusCode::OK => StatusCode::INTERNAL_SERVER_ERROR,
                status => status,
            }),
            Err(error) => {
                complain(backend, &error);
                Err(status)
            }
        }
    }
}

fn complain(backend: &Backend, error: &NoAnswer) {
    log(format_args!("{}: {error}", backend.url()));
}

fn unavailable(status: StatusCode, what: &str) -> Told {
    let message = format!("Sorry, product {what} are currently unavailable for this book.");
    Told { status, json: json!({ "error": message }) }
}

fn as_json(told: Told) -> Page {
    page::with_status(told.status, page::compact_json(&told.json))
}

async fn sign_in<B>(request: Request<B>) -> Page
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let form = match page::read_body(body, LARGEST_FORM).await {
        Ok(form) => form,
        Err(refused) => return refused,
    };
    let query = head.uri.query().unwrap_or_default().as_bytes().to_owned();
    let mut fields = form_urlencoded::parse(&query).chain(form_urlencoded::parse(&form));
    match fields.find(|(name, _)| name == "username") {
        Some((_, user)) => back(&head.headers, session::signed_in(&user)),
        None => page::error(StatusCode::BAD_REQUEST, "The field username is missing."),
    }
}

/// Back to where the request came from, with another session.
fn back(headers: &HeaderMap, cookies: Vec<HeaderValue>) -> Page {
    let from = headers.get(REFERER).and_then(|referer| referer.to_str().ok()).unwrap_or("/productpage");
    let mut page = page::redirect(StatusCode::FOUND, from);
    for cookie in cookies {
        page.headers_mut().append(SET_COOKIE, cookie);
    }
    // What is shown depends on who has signed in, so nobody in between may keep it.
    page.headers_mut().insert(http::header::VARY, HeaderValue::from_name(COOKIE));
    page
}

#[cfg(test)]
mod tests;
