//! `reviews`: what two readers say of a book; v2 and v3 also show how many stars they give it, which `ratings` knows.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};

use super::client::Backend;
use super::{Environment, environment, propagation, serve};
use crate::Failure;
use crate::page::{self, Page};
use crate::serve::{host_name, log};

/// How long black stars are waited for: longer than the page waits for all of this.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long stars of another colour are waited for.
const LITTLE_PATIENCE: Duration = Duration::from_millis(2500);

const REVIEWS: [(&str, &str); 2] = [
    ("Reviewer1", "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"),
    (
        "Reviewer2",
        "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare.",
    ),
];

/// Serves `/reviews/ID`.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let reviews = Arc::new(Reviews::of(Environment(&environment), host_name()));
    serve("reviews", args, move |request| {
        let reviews = reviews.clone();
        async move { reviews.answer(&request).await }
    })
}

struct Reviews {
    /// Who is asked for stars, if anybody is.
    ratings: Option<Backend>,
    color: String,
    pod: Option<String>,
    cluster: Option<String>,
}

impl Reviews {
    fn of(environment: Environment<'_>, pod: Option<String>) -> Reviews {
        Reviews {
            ratings: environment.is_true("ENABLE_RATINGS").then(|| Backend::of("ratings", environment)),
            color: environment.get("STAR_COLOR").unwrap_or_else(|| "black".to_owned()),
            pod,
            cluster: environment.get("CLUSTER_NAME"),
        }
    }

    async fn answer<B>(&self, request: &Request<B>) -> Page {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return page::method_not_allowed("GET, HEAD");
        }
        let path = request.uri().path();
        if path == "/health" {
            return page::compact_json(&json!({ "status": "Reviews is healthy" }));
        }
        match path.strip_prefix("/reviews/").map(str::parse::<i32>) {
            Some(Ok(product)) => {
                let stars = self.stars(product, request.headers()).await;
                page::with_type("application/json", self.document(product, stars.as_ref()))
            }
            _ => page::error(StatusCode::NOT_FOUND, "There is no such page."),
        }
    }

    /// What `ratings` says, if it says anything.
    async fn stars(&self, product: i32, received: &HeaderMap) -> Option<Value> {
        let ratings = self.ratings.as_ref()?;
        let patience = if self.color == "black" { PATIENCE } else { LITTLE_PATIENCE };
        let answer = ratings.get(&product.to_string(), propagation::by_reviews(received), patience).await;
        let why = match &answer {
            Ok(answer) => match answer.json() {
                Some(found) => return Some(found),
                None => format!("got status of {}", answer.status.as_u16()),
            },
            Err(error) => error.to_string(),
        };
        log(format_args!("Error: unable to contact {}/ratings: {why}", ratings.url()));
        None
    }

    /// The answer, spaced as documents show it.
    fn document(&self, product: i32, stars: Option<&Value>) -> String {
        let reviews = REVIEWS.map(|(reviewer, text)| {
            let rating = if self.ratings.is_some() { self.rating(reviewer, stars) } else { String::new() };
            format!(r#"{{  "reviewer": "{reviewer}",  "text": "{text}"{rating}}}"#)
        });
        format!(
            r#"{{"id": "{product}","podname": {},"clustername": {},"reviews": [{}]}}"#,
            quoted(self.pod.as_deref().unwrap_or("null")),
            quoted(self.cluster.as_deref().unwrap_or("null")),
            reviews.join(","),
        )
    }

    fn rating(&self, reviewer: &str, stars: Option<&Value>) -> String {
        match stars.and_then(|stars| stars.get("ratings")?.get(reviewer)?.as_i64()) {
            Some(stars) => format!(r#", "rating": {{"stars": {stars}, "color": {}}}"#, quoted(&self.color)),
            None => r#", "rating": {"error": "Ratings service is currently unavailable"}"#.to_owned(),
        }
    }
}

/// `text` as a string of JSON.
fn quoted(text: &str) -> Value {
    Value::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviews(version: &[(&str, &str)]) -> Reviews {
        let get = |name: &str| version.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Reviews::of(Environment(&get), Some("reviews-1".to_owned()))
    }

    const RED: &[(&str, &str)] = &[("ENABLE_RATINGS", "true"), ("STAR_COLOR", "red"), ("CLUSTER_NAME", "c1")];

    #[test]
    fn stars_are_shown_in_their_colour() {
        let stars = json!({ "id": 0, "ratings": { "Reviewer1": 5, "Reviewer2": 4 } });
        let document = reviews(RED).document(0, Some(&stars));
        let first = r#"{"id": "0","podname": "reviews-1","clustername": "c1","reviews": [{  "reviewer": "Reviewer1",  "text": "#;
        assert!(document.starts_with(first), "{document}");
        assert!(
            document.contains(r#"humour is refreshing!", "rating": {"stars": 5, "color": "red"}},{  "#),
            "{document}"
        );
        assert!(document.ends_with(r#", "rating": {"stars": 4, "color": "red"}}]}"#), "{document}");
        assert!(serde_json::from_str::<Value>(&document).is_ok());
    }

    #[test]
    fn missing_stars_are_told_of_and_v1_has_none() {
        let unavailable = r#""rating": {"error": "Ratings service is currently unavailable"}"#;
        assert_eq!(reviews(RED).document(0, None).matches(unavailable).count(), 2);
        let one = json!({ "ratings": { "Reviewer2": 1 } });
        assert_eq!(reviews(RED).document(0, Some(&one)).matches(unavailable).count(), 1);
        let plain = reviews(&[("ENABLE_RATINGS", "false")]).document(7, None);
        assert!(
            !plain.contains("rating") && plain.contains(r#""id": "7","podname": "reviews-1","clustername": "null""#)
        );
    }

    #[tokio::test]
    async fn only_numbered_products_have_reviews() {
        let get = async |path: &str| {
            let request = Request::get(path).body(()).unwrap();
            reviews(&[]).answer(&request).await.status().as_u16()
        };
        assert_eq!((get("/reviews/0").await, get("/reviews/x").await, get("/health").await), (200, 404, 200));
    }
}
