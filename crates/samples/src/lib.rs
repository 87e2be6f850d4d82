//! The applications that the walkthroughs need: the servers `tcp-echo`, `httpbin` and `helloworld`, the four services of
//! bookinfo, and the client `nc`.
//!
//! They answer as the programs in Istio's samples answer, so that a document's commands print what it says they
//! print. Each server listens on IPv4 and IPv6, logs to stdout and ends at once on SIGTERM.
#![forbid(unsafe_code)]

mod bookinfo;
mod helloworld;
mod httpbin;
mod nc;
mod page;
mod serve;
mod tcp_echo;

use std::process::ExitCode;

/// The names that [`main`] knows.
pub const NAMES: &[&str] = &["details", "helloworld", "httpbin", "nc", "productpage", "ratings", "reviews", "tcp-echo"];

/// Runs the sample `name` until a signal ends it. `args` are the program's own arguments, without its name.
///
/// Exit codes: 0 after SIGTERM or SIGINT, 1 when a port cannot be bound or a connection not made, 2 when the arguments are wrong.
pub fn main(name: &str, args: Vec<String>) -> ExitCode {
    let outcome = match name {
        "details" => bookinfo::details::run(&args),
        "helloworld" => helloworld::run(&args),
        "httpbin" => httpbin::run(&args),
        "nc" => nc::run(&args),
        "productpage" => bookinfo::productpage::run(&args),
        "ratings" => bookinfo::ratings::run(&args),
        "reviews" => bookinfo::reviews::run(&args),
        "tcp-echo" => tcp_echo::run(&args),
        _ => Err(Failure::Usage(format!("unknown sample {name:?}; there are {}", NAMES.join(", ")))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            match failure {
                Failure::Usage(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Why a sample did not start.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("cannot listen on port {port}: {source}")]
    Bind { port: u16, source: std::io::Error },
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: std::io::Error },
    #[error("the connection broke: {0}")]
    Connection(#[source] std::io::Error),
}
