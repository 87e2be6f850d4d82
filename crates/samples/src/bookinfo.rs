//! Bookinfo, the bookshop of Istio's documents: a page (`productpage`) made of `details` and `reviews`, which asks `ratings`
//! for its stars.
//!
//! The services answer byte for byte as those of Istio's samples do where documents show the answer, read the same
//! environment variables, and have the same weakness: `reviews` waits longer for `ratings` than `productpage` waits for
//! `reviews`, which the task on fault injection discovers.

mod client;
pub(crate) mod details;
pub(crate) mod productpage;
mod propagation;
pub(crate) mod ratings;
pub(crate) mod reviews;

use std::future::Future;

use http::Request;
use hyper::body::Incoming;

use crate::Failure;
use crate::page::Page;
use crate::serve::{listen, log, serve_http, until_signalled};

/// Where each of the services listens, and looks for the others.
const PORT: u16 = 9080;

/// Serves `answer` on the port that `args` name.
fn serve<F, A>(name: &str, args: &[String], answer: F) -> Result<(), Failure>
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Page> + Send + 'static,
{
    let port = port(name, args)?;
    until_signalled(async {
        let listener = listen(port).await?;
        log(format_args!("{name} is listening on [::]:{port}"));
        serve_http(listener, move |request, peer| {
            let answer = answer.clone();
            async move {
                let line = format!("{peer} {} {}", request.method(), request.uri());
                let page = answer(request).await;
                log(format_args!("{line} {}", page.status().as_u16()));
                page
            }
        })
        .await;
        Ok(())
    })
}

fn port(name: &str, args: &[String]) -> Result<u16, Failure> {
    let usage = |what: String| Failure::Usage(format!("{what}\nusage: {name} [PORT]"));
    match args {
        [] => Ok(PORT),
        [port] => port.parse().map_err(|_| usage(format!("{port:?} is not a port"))),
        [_, unknown, ..] => Err(usage(format!("unknown argument {unknown:?}"))),
    }
}

/// The variables that a service is configured by.
#[derive(Clone, Copy)]
struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    /// The value of a variable; one that is empty is as one that is not there.
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// What this process was given.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_an_argument() {
        let port = |args: &[&str]| port("ratings", &args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
        assert_eq!(port(&[]).unwrap(), 9080);
        assert_eq!(port(&["80"]).unwrap(), 80);
        assert!(matches!(port(&["http"]), Err(Failure::Usage(message)) if message.contains("\"http\" is not a port")));
        assert!(matches!(port(&["80", "-v"]), Err(Failure::Usage(message)) if message.contains("\"-v\"")));
    }
}
