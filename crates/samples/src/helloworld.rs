//! `helloworld`: says which version and which pod answered. `SERVICE_VERSION` is the version.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use crate::Failure;
use crate::serve::{host_name, listen, log, serve_http, until_signalled};

const PORT: u16 = 5000;

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    if let Some(unknown) = args.first() {
        return Err(Failure::Usage(format!("unknown argument {unknown:?}; the version is taken from SERVICE_VERSION")));
    }
    let version = std::env::var("SERVICE_VERSION").unwrap_or_else(|_| "unknown".into());
    let instance = host_name().unwrap_or_else(|| "unknown".into());
    until_signalled(async {
        let listener = listen(PORT).await?;
        log(format_args!("helloworld {version} is listening on [::]:{PORT}"));
        serve_http(listener, move |request, peer| {
            let response = answer(&request, &version, &instance);
            log(format_args!("{peer} {} {} {}", request.method(), request.uri().path(), response.status().as_u16()));
            async { response }
        })
        .await;
        Ok(())
    })
}

fn answer<B>(request: &Request<B>, version: &str, instance: &str) -> Response<Full<Bytes>> {
    let (status, body) = match (request.uri().path(), request.method()) {
        ("/hello", &Method::GET | &Method::HEAD) => {
            (StatusCode::OK, format!("Hello version: {version}, instance: {instance}\n"))
        }
        ("/health", &Method::GET | &Method::HEAD) => (StatusCode::OK, "Helloworld is healthy".to_owned()),
        ("/hello" | "/health", _) => (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "Not Found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn get(path: &str) -> (u16, String) {
        let response = answer(&Request::get(path).body(()).unwrap(), "v2", "helloworld-v2-abc");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn hello_names_version_and_instance() {
        assert_eq!(get("/hello").await, (200, "Hello version: v2, instance: helloworld-v2-abc\n".into()));
        assert_eq!(get("/health").await.0, 200);
        assert_eq!(get("/bye").await.0, 404);
    }
}
