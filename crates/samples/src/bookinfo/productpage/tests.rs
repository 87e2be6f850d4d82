use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;

use super::*;
use crate::serve::serve_http;

/// A shop whose three services are all answered by `answer`, given the path and the headers.
async fn shop(answer: fn(&str, &HeaderMap) -> Page) -> Arc<Shop> {
    shop_with("0", answer).await
}

async fn shop_with(flood: &'static str, answer: fn(&str, &HeaderMap) -> Page) -> Arc<Shop> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    tokio::spawn(serve_http(listener, move |request, _| {
        let page = answer(request.uri().path(), request.headers());
        async { page }
    }));
    let get = |name: &str| match name {
        "FLOOD_FACTOR" => Some(flood.to_owned()),
        name if name.ends_with("_HOSTNAME") => Some("127.0.0.1".to_owned()),
        name if name.ends_with("_SERVICE_PORT") => Some(port.clone()),
        _ => None,
    };
    Arc::new(Shop::of(Environment(&get)).unwrap())
}

async fn send(
    shop: &Arc<Shop>,
    request: http::request::Builder,
    body: &'static str,
) -> (http::response::Parts, String) {
    let page = shop.answer(request.body(Full::new(Bytes::from(body))).unwrap()).await;
    let (head, body) = page.into_parts();
    (head, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

fn three_services(path: &str, headers: &HeaderMap) -> Page {
    match path {
        "/details/0" => page::compact_json(&json!({ "type": "paperback", "pages": 200 })),
        "/reviews/0" => {
            let user = headers.get("end-user").map_or("nobody", |user| user.to_str().unwrap());
            let rating = json!({ "stars": 4, "color": "red" });
            page::compact_json(&json!({
                "reviews": [{ "reviewer": user, "text": "<b>", "rating": rating }], "podname": "p", "clustername": "null",
            }))
        }
        "/ratings/0" => page::compact_json(&json!({ "id": 0 })),
        _ => page::error(StatusCode::NOT_FOUND, path),
    }
}

#[tokio::test]
async fn the_page_shows_what_the_services_say() {
    let shop = shop(three_services).await;
    let (head, page) = send(&shop, Request::get("/productpage?u=normal"), "").await;
    assert_eq!(head.status, 200);
    for part in ["<title>Simple Bookstore App</title>", "<dt>Pages:</dt><dd>200</dd>", "Sign in", "<p>&lt;b&gt;</p>"] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    assert!(page.contains("<font color=\"red\"") && page.matches("glyphicon-star\"").count() == 4, "{page}");
    assert!(page.contains("served by: <u>p</u></p>"), "{page}");
    let (_, metrics) = send(&shop, Request::get("/metrics"), "").await;
    assert!(metrics.contains("request_result_total{destination_app=\"reviews\",response_code=\"200\"} 1"), "{metrics}");
}

#[tokio::test]
async fn whoever_signs_in_is_named_to_the_services_until_they_sign_out() {
    let shop = shop(three_services).await;
    let login = Request::post("/login").header("referer", "http://shop/productpage?u=normal");
    let (head, _) = send(&shop, login, "username=jason&passwd=").await;
    assert_eq!(head.status, 302);
    assert_eq!(head.headers["location"], "http://shop/productpage?u=normal");
    let cookie = head.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let (_, page) = send(&shop, Request::get("/productpage").header("cookie", &cookie), "").await;
    assert!(page.contains("<span id=\"user\">jason</span>") && page.contains("<small>jason</small>"), "{page}");
    assert!(!page.contains("id=\"sign-in-button\""));
    let (_, page) = send(&shop, Request::get("/productpage").header("cookie", "a=b; user=anna"), "").await;
    assert!(page.contains("<small>anna</small>"), "{page}");
    let (head, _) = send(&shop, Request::get("/logout"), "").await;
    assert!(head.headers.get_all("set-cookie").iter().all(|c| c.to_str().unwrap().contains("Max-Age=0")));
    assert_eq!(send(&shop, Request::post("/login"), "").await.0.status, 400);
}

#[tokio::test]
async fn what_fails_is_said_on_the_page_and_has_its_status_in_the_api() {
    let shop = shop(|_, _| page::with_status(StatusCode::FORBIDDEN, page::html("RBAC: access denied"))).await;
    let (head, page) = send(&shop, Request::get("/productpage"), "").await;
    assert_eq!(head.status, 200);
    for what in ["details", "reviews"] {
        assert!(page.contains(&format!("Error fetching product {what}!")), "{page}");
        assert!(page.contains(&format!("Sorry, product {what} are currently unavailable for this book.")), "{page}");
    }
    let (head, body) = send(&shop, Request::get("/api/v1/products/0/ratings"), "").await;
    let expected = r#"{"error":"Sorry, product ratings are currently unavailable for this book."}"#;
    assert_eq!((head.status.as_u16(), body.as_str()), (403, expected));
}

#[tokio::test(start_paused = true)]
async fn reviews_are_waited_for_twice_three_seconds() {
    // It takes connections and never answers.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let get = |name: &str| match name {
        "REVIEWS_HOSTNAME" => Some("127.0.0.1".to_owned()),
        "REVIEWS_SERVICE_PORT" => Some(port.clone()),
        _ => None,
    };
    let shop = Arc::new(Shop::of(Environment(&get)).unwrap());
    let begin = tokio::time::Instant::now();
    let (head, _) = send(&shop, Request::get("/api/v1/products/0/reviews"), "").await;
    assert_eq!((head.status.as_u16(), begin.elapsed()), (500, Duration::from_secs(6)));
}

#[tokio::test]
async fn a_flood_asks_for_reviews_more_often() {
    let shop = shop_with("3", three_services).await;
    send(&shop, Request::get("/productpage"), "").await;
    let (_, metrics) = send(&shop, Request::get("/metrics"), "").await;
    assert!(metrics.contains("destination_app=\"reviews\",response_code=\"200\"} 4"), "{metrics}");
    assert!(Shop::of(Environment(&|_| Some("many".to_owned()))).is_err());
}

#[tokio::test]
async fn the_api_and_the_other_pages_answer() {
    let shop = shop(three_services).await;
    let (_, products) = send(&shop, Request::get("/api/v1/products"), "").await;
    assert_eq!(serde_json::from_str::<Value>(&products).unwrap()[0]["title"], "The Comedy of Errors");
    assert_eq!(send(&shop, Request::get("/api/v1/products/0"), "").await.0.status, 200);
    assert_eq!(send(&shop, Request::get("/health"), "").await.1, "Product page is healthy");
    assert!(send(&shop, Request::get("/"), "").await.1.contains("/productpage?u=test"));
    assert_eq!(send(&shop, Request::get("/nothing"), "").await.0.status, 404);
    assert_eq!(send(&shop, Request::delete("/productpage"), "").await.0.status, 405);
}
