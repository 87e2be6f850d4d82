//! `pilot-agent request`: one request to the admin interface of the pod's sidecar.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::output;

const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// GET or POST
    #[arg(value_parser = method)]
    method: hyper::Method,
    /// What to ask for, as /config_dump
    #[arg(value_parser = path)]
    path: hyper::Uri,
}

impl Args {
    /// A question that changes nothing.
    pub(super) fn get(path: &'static str) -> Args {
        Args { method: hyper::Method::GET, path: hyper::Uri::from_static(path) }
    }
}

fn method(text: &str) -> Result<hyper::Method, String> {
    match text.to_ascii_uppercase().as_str() {
        "GET" => Ok(hyper::Method::GET),
        "POST" => Ok(hyper::Method::POST),
        _ => Err("the admin interface knows GET and POST".to_owned()),
    }
}

fn path(text: &str) -> Result<hyper::Uri, String> {
    let slash = if text.starts_with('/') { "" } else { "/" };
    format!("{slash}{text}").parse().map_err(|e| format!("{e}"))
}

/// Prints the answer; one that tells of a failure makes the exit code 1.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, body) = runtime.block_on(ask(ADMIN, args))?;
    output::write_stdout(&body)?;
    Ok(output::verdict(status.is_success()))
}

pub(super) async fn ask(admin: SocketAddr, Args { method, path }: &Args) -> anyhow::Result<(hyper::StatusCode, Bytes)> {
    let stream = TcpStream::connect(admin).await;
    let stream = stream.with_context(|| format!("no sidecar answers on {admin} in this pod"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // An error of the connection's is the answer's, too.
    tokio::spawn(connection);
    let request = hyper::Request::builder().method(method).uri(path).header(hyper::header::HOST, admin.to_string());
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = answer.status();
    Ok((status, answer.into_body().collect().await?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_in_chunks_is_printed_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let answer = "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwait\r\n0\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
            head
        });
        let args = Args { method: method("get").unwrap(), path: path("stats?usedonly").unwrap() };
        let (status, body) = ask(admin, &args).await.unwrap();
        assert_eq!((status.as_u16(), &body[..]), (503, &b"wait"[..]));
        assert_eq!(server.join().unwrap()[0], "GET /stats?usedonly HTTP/1.1");
        assert!(method("DELETE").is_err());
    }
}
