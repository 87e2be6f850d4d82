use std::net::Ipv4Addr;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;

async fn send(request: http::request::Builder, body: &str) -> (Response<()>, String) {
    let request = request.header("Host", "httpbin:8000").body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let response = match Received::read(request, Ipv4Addr::new(10, 33, 0, 7).into()).await {
        Ok(received) => answer::answer(&received).await,
        Err(response) => response,
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(parts, ()), String::from_utf8_lossy(&body).into_owned())
}

async fn get(path: &str) -> (Response<()>, String) {
    send(Request::get(path), "").await
}

fn parse(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn get_shows_the_request_in_httpbins_order() {
    let (response, body) = send(Request::get("/get?b=1&a=x%20y&a=z").header("user-agent", "curl/8"), "").await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let expected = r#"{
  "args": {
    "a": [
      "x y",
      "z"
    ],
    "b": "1"
  },
  "headers": {
    "Host": "httpbin:8000",
    "User-Agent": "curl/8"
  },
  "origin": "10.33.0.7",
  "url": "http://httpbin:8000/get?b=1&a=x%20y&a=z"
}
"#;
    assert_eq!(body, expected);
}

#[tokio::test]
async fn post_reads_the_body_by_its_content_type() {
    let form = Request::post("/post").header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(parse(&send(form, "a=1&b=2").await.1)["form"], json!({"a": "1", "b": "2"}));

    let (_, body) = send(Request::post("/post").header("content-type", "application/json"), r#"{"a":[1]}"#).await;
    assert_eq!(parse(&body)["json"], json!({"a": [1]}));
    assert_eq!(parse(&body)["data"], json!(r#"{"a":[1]}"#));
    let keys: Vec<_> = body.lines().filter(|line| line.starts_with("  \"")).collect();
    assert!(keys.is_sorted() && keys.len() == 8, "{body}");

    let parts = Request::post("/post").header("content-type", "multipart/form-data; boundary=xx");
    let body = "--xx\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--xx\r\n\
                Content-Disposition: form-data; name=\"f\"; filename=\"f.txt\"\r\nContent-Type: text/plain\r\n\r\n\
                text\r\n--xx--\r\n";
    let (_, body) = send(parts, body).await;
    assert_eq!(parse(&body)["form"], json!({"a": "1"}));
    assert_eq!(parse(&body)["files"], json!({"f": "text"}));
}

#[tokio::test]
async fn anything_takes_every_method_and_path() {
    let (_, body) = send(Request::patch("/anything/goes/here"), "text").await;
    let body = parse(&body);
    assert_eq!(
        (&body["method"], &body["url"], &body["data"]),
        (&json!("PATCH"), &json!("http://httpbin:8000/anything/goes/here"), &json!("text"))
    );
}

#[tokio::test]
async fn a_proxys_headers_are_hidden_unless_asked_for() {
    let with_proxy = |path: &str| Request::get(path).header("x-forwarded-for", "1.2.3.4");
    let (_, body) = send(with_proxy("/get"), "").await;
    assert_eq!(parse(&body)["origin"], "1.2.3.4");
    assert_eq!(parse(&body)["headers"]["X-Forwarded-For"], Value::Null);
    let (_, body) = send(with_proxy("/get?show_env=true"), "").await;
    assert_eq!(parse(&body)["headers"]["X-Forwarded-For"], "1.2.3.4");
}

#[tokio::test]
async fn html_is_a_page_with_a_heading() {
    let (response, body) = get("/html").await;
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    assert!(body.contains("<h1>Herman Melville - Moby-Dick</h1>"), "{body}");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    assert_eq!(get("/nothing").await.0.status(), 404);
    assert_eq!(get("/get/more").await.0.status(), 404);
    let (response, _) = send(Request::delete("/get"), "").await;
    assert_eq!(
        (response.status().as_u16(), response.headers()["allow"].to_str().unwrap()),
        (405, "GET, HEAD, OPTIONS")
    );
    assert_eq!(get("/post").await.0.status(), 405);
    let (response, _) = send(Request::options("/post"), "").await;
    assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (200, "OPTIONS, POST"));
}

#[tokio::test]
async fn bytes_are_counted_capped_and_repeatable() {
    let (_, some) = get("/bytes/5?seed=7").await;
    assert_eq!(get("/bytes/5?seed=7").await.1, some);
    assert_ne!(get("/bytes/5?seed=8").await.1, some);
    let request = Request::get("/bytes/1000000000").body(Full::new(Bytes::new())).unwrap();
    let received = Received::read(request, Ipv4Addr::LOCALHOST.into()).await.ok().unwrap();
    let body = answer::answer(&received).await.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), 100 << 10);
    assert_eq!(get("/bytes/-1").await.0.status(), 400);
}

#[tokio::test]
async fn redirects_count_down_to_get() {
    let location = |response: Response<()>| response.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(location(get("/redirect/3").await.0), "/relative-redirect/2");
    assert_eq!(location(get("/relative-redirect/1").await.0), "/get");
    let (response, _) = get("/redirect-to?url=http%3A%2F%2Fx%2F&status_code=307").await;
    assert_eq!((response.status().as_u16(), location(response).as_str()), (307, "http://x/"));
    assert_eq!(get("/redirect/0").await.0.status(), 400);
}

#[tokio::test]
async fn credentials_are_checked() {
    assert_eq!(get("/basic-auth/u/p").await.0.status(), 401);
    let with = |header: &str, path: &str| Request::get(path).header("authorization", header);
    let (response, body) = send(with("Basic dTpw", "/basic-auth/u/p"), "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(parse(&body), json!({"authenticated": true, "user": "u"}));
    assert_eq!(send(with("Basic dTpx", "/basic-auth/u/p"), "").await.0.status(), 401);
    assert_eq!(parse(&send(with("Bearer abc", "/bearer"), "").await.1)["token"], "abc");
}

#[tokio::test]
async fn response_headers_tell_their_own_length() {
    let (response, body) = get("/response-headers?X-A=1&Content-Type=text/plain").await;
    assert_eq!(
        (&response.headers()["x-a"], &response.headers()["content-type"]),
        (&HeaderValue::from_static("1"), &HeaderValue::from_static("text/plain"))
    );
    assert_eq!(parse(&body)["Content-Length"], body.len().to_string());
    assert_eq!(get("/response-headers?a%20b=1").await.0.status(), 400);
}

#[tokio::test]
async fn cookies_are_shown_set_and_deleted() {
    let (_, body) = send(Request::get("/cookies").header("cookie", "a=1; b=2"), "").await;
    assert_eq!(parse(&body), json!({"cookies": {"a": "1", "b": "2"}}));
    assert_eq!(get("/cookies/set?a=1").await.0.headers()["set-cookie"], "a=1; Path=/");
    assert_eq!(get("/cookies/delete?a").await.0.headers()["set-cookie"], "a=; Max-Age=0; Path=/");
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_at_most_ten_seconds() {
    let begin = tokio::time::Instant::now();
    assert_eq!(get("/delay/3600").await.0.status(), 200);
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert_eq!(get("/delay/x").await.0.status(), 400);
}

#[tokio::test]
async fn stream_gives_a_line_of_json_each() {
    let (_, body) = get("/stream/2").await;
    let ids: Vec<_> = body.lines().map(|line| parse(line)["id"].clone()).collect();
    assert_eq!(ids, [json!(0), json!(1)]);
}
