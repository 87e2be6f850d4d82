//! `ratings`: how many stars each reviewer gives a book, and what goes wrong with that on request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Body;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Environment, environment, serve};
use crate::Failure;
use crate::page::{self, Page};

/// What `v-delayed` makes half of its callers wait.
const DELAY: Duration = Duration::from_secs(7);
/// How long `v-unavailable` stays as it is.
const UNAVAILABLE: Duration = Duration::from_secs(60);
/// How long `v-unhealthy` stays as it is.
const UNHEALTHY: Duration = Duration::from_secs(15 * 60);

const LARGEST_BODY: usize = 64 << 10;
/// Of more books than this no ratings are kept, so that a client cannot make the server hold any amount of memory.
const MOST_PRODUCTS: usize = 1000;

/// Serves `/ratings/ID`.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let ratings = Arc::new(Ratings::new(Behaviour::of(Environment(&environment))?));
    serve("ratings", args, move |request| {
        let ratings = ratings.clone();
        async move { ratings.answer(request).await }
    })
}

/// What the version that `SERVICE_VERSION` names does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Sound,
    /// Half of the requests fail.
    Faulty,
    /// Half of the requests take long.
    Delayed,
    /// Every other minute all requests fail.
    Unavailable,
    /// Every other quarter of an hour all requests fail, and those that ask for its health, too.
    Unhealthy,
}

impl Behaviour {
    fn of(environment: Environment<'_>) -> Result<Behaviour, Failure> {
        match environment.get("SERVICE_VERSION").as_deref() {
            Some("v-faulty") => Ok(Behaviour::Faulty),
            Some("v-delayed") => Ok(Behaviour::Delayed),
            Some("v-unavailable") => Ok(Behaviour::Unavailable),
            Some("v-unhealthy") => Ok(Behaviour::Unhealthy),
            Some("v2") => {
                Err(Failure::Usage("SERVICE_VERSION=v2 keeps ratings in a database, which is not there".into()))
            }
            _ => Ok(Behaviour::Sound),
        }
    }
}

struct Ratings {
    behaviour: Behaviour,
    started: Instant,
    /// What clients have posted, by product.
    posted: Mutex<BTreeMap<u64, Value>>,
}

impl Ratings {
    fn new(behaviour: Behaviour) -> Ratings {
        Ratings { behaviour, started: Instant::now(), posted: Mutex::default() }
    }

    async fn answer<B>(&self, request: Request<B>) -> Page
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path();
        if path == "/health" {
            return self.health();
        }
        let Some(product) = path.strip_prefix("/ratings/") else {
            return page::error(StatusCode::NOT_FOUND, "There is no such page.");
        };
        let product = product.rsplit('/').next().and_then(|number| number.parse().ok());
        let Some(product) = product else { return refusal("please provide numeric product ID") };
        match *request.method() {
            Method::GET | Method::HEAD => self.get(product, Uuid::new_v4().as_u128().is_multiple_of(2)).await,
            Method::POST => match page::read_body(request.into_body(), LARGEST_BODY).await {
                Ok(body) => self.post(product, &body),
                Err(refused) => refused,
            },
            _ => page::method_not_allowed("GET, HEAD, POST"),
        }
    }

    fn health(&self) -> Page {
        match self.behaviour == Behaviour::Unhealthy && self.is_down(UNHEALTHY) {
            true => page::with_status(
                StatusCode::INTERNAL_SERVER_ERROR,
                page::compact_json(&json!({ "status": "Ratings is not healthy" })),
            ),
            false => page::compact_json(&json!({ "status": "Ratings is healthy" })),
        }
    }

    /// `unlucky` is whether this is one of the requests, half of all, that have what some versions have against them.
    async fn get(&self, product: u64, unlucky: bool) -> Page {
        let down = match self.behaviour {
            Behaviour::Sound | Behaviour::Delayed => false,
            Behaviour::Faulty => unlucky,
            Behaviour::Unavailable => self.is_down(UNAVAILABLE),
            Behaviour::Unhealthy => self.is_down(UNHEALTHY),
        };
        if down {
            let message = page::compact_json(&json!({ "error": "Service unavailable" }));
            return page::with_status(StatusCode::SERVICE_UNAVAILABLE, message);
        }
        if self.behaviour == Behaviour::Delayed && unlucky {
            tokio::time::sleep(DELAY).await;
        }
        page::compact_json(&self.of(product))
    }

    fn post(&self, product: u64, body: &[u8]) -> Page {
        let Ok(ratings) = serde_json::from_slice::<Value>(body) else {
            return refusal("please provide valid ratings JSON");
        };
        let mut posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        if posted.len() >= MOST_PRODUCTS && !posted.contains_key(&product) {
            return refusal("there are ratings for too many products");
        }
        posted.insert(product, ratings);
        drop(posted);
        page::compact_json(&self.of(product))
    }

    fn of(&self, product: u64) -> Value {
        let posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        let ratings = posted.get(&product).cloned().unwrap_or_else(|| json!({ "Reviewer1": 5, "Reviewer2": 4 }));
        json!({ "id": product, "ratings": ratings })
    }

    /// Whether this is an odd one of the spans, as long as `period`, since the start.
    fn is_down(&self, period: Duration) -> bool {
        self.started.elapsed().as_secs() / period.as_secs() % 2 == 1
    }
}

fn refusal(message: &str) -> Page {
    page::with_status(StatusCode::BAD_REQUEST, page::compact_json(&json!({ "error": message })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};

    async fn read(page: Page) -> (u16, String) {
        let status = page.status().as_u16();
        (status, String::from_utf8(page.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    async fn send(ratings: &Ratings, method: Method, path: &str, body: &'static str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Full::new(Bytes::from(body))).unwrap();
        read(ratings.answer(request).await).await
    }

    #[tokio::test]
    async fn what_is_posted_is_what_is_given() {
        let ratings = Ratings::new(Behaviour::Sound);
        let original = r#"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#;
        assert_eq!(send(&ratings, Method::GET, "/ratings/0", "").await, (200, original.to_owned()));
        let changed = r#"{"id":0,"ratings":{"Reviewer1":1}}"#;
        assert_eq!(send(&ratings, Method::POST, "/ratings/0", r#"{"Reviewer1":1}"#).await, (200, changed.to_owned()));
        assert_eq!(send(&ratings, Method::GET, "/ratings/0", "").await.1, changed);
        assert_eq!(send(&ratings, Method::GET, "/ratings/1", "").await.1, original.replace("\"id\":0", "\"id\":1"));
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused() {
        let ratings = Ratings::new(Behaviour::Sound);
        assert_eq!(
            send(&ratings, Method::GET, "/ratings/x", "").await,
            (400, r#"{"error":"please provide numeric product ID"}"#.to_owned())
        );
        assert_eq!(
            send(&ratings, Method::POST, "/ratings/1", "{").await,
            (400, r#"{"error":"please provide valid ratings JSON"}"#.to_owned())
        );
        assert_eq!(send(&ratings, Method::DELETE, "/ratings/1", "").await.0, 405);
        assert_eq!(send(&ratings, Method::GET, "/", "").await.0, 404);
    }

    #[tokio::test(start_paused = true)]
    async fn versions_fail_as_their_names_say() {
        let faulty = Ratings::new(Behaviour::Faulty);
        assert_eq!(read(faulty.get(0, true).await).await, (503, r#"{"error":"Service unavailable"}"#.to_owned()));
        assert_eq!(faulty.get(0, false).await.status(), 200);
        let begin = Instant::now();
        assert_eq!(Ratings::new(Behaviour::Delayed).get(0, true).await.status(), 200);
        assert_eq!(begin.elapsed(), DELAY);
        let (unavailable, unhealthy) = (Ratings::new(Behaviour::Unavailable), Ratings::new(Behaviour::Unhealthy));
        assert_eq!(unavailable.get(0, true).await.status(), 200);
        tokio::time::advance(UNAVAILABLE).await;
        assert_eq!(unavailable.get(0, true).await.status(), 503);
        assert_eq!(unavailable.health().status(), 200);
        tokio::time::advance(UNHEALTHY).await;
        assert_eq!(unhealthy.get(0, true).await.status(), 503);
        assert_eq!(unhealthy.health().status(), 500);
    }

    #[test]
    fn the_version_chooses_the_fault() {
        let of = |version: &'static str| Behaviour::of(Environment(&|_| Some(version.to_owned())));
        assert_eq!(of("v1").unwrap(), Behaviour::Sound);
        assert_eq!(of("v-delayed").unwrap(), Behaviour::Delayed);
        assert!(of("v2").is_err());
    }
}
