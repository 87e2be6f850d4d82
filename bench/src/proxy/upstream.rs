//! What proxies lead to.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What an upstream does with a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Upstream {
    /// Sends back what it gets.
    Echo,
    /// Sends this many bytes after the first that it gets, and ends.
    Send(usize),
    /// Answers each request in HTTP/1.1 with so many bytes, or with [`ANSWER`] if with none.
    Answer(usize),
    /// Answers each call in gRPC with what was sent.
    Grpc,
}

/// What is answered.
pub(crate) const ANSWER: &[u8] = b"{\"served\":1}\n";
/// What a call in gRPC carries, with the five bytes that say its length.
pub(crate) const MESSAGE: &[u8] = b"\0\0\0\0\x10\x0a\x0ehello upstream";
/// What ends the head of a request.
pub(crate) const END: &[u8] = b"\r\n\r\n";

impl Upstream {
    /// Serves on a port of its own for as long as the runtime lives.
    pub(crate) async fn start(self) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that has seen enough is no failure.
                tokio::spawn(async move { drop(self.serve(stream).await) });
            }
        });
        Ok(address)
    }

    async fn serve(self, mut stream: TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        match self {
            Upstream::Echo => {
                let mut buffer = vec![0; 4 << 10];
                loop {
                    let length = stream.read(&mut buffer).await?;
                    if length == 0 {
                        return Ok(());
                    }
                    stream.write_all(&buffer[..length]).await?;
                }
            }
            Upstream::Send(total) => {
                let buffer = vec![0; 64 << 10];
                let mut left = if stream.read(&mut [0; 16]).await? == 0 { 0 } else { total };
                while left > 0 {
                    let part = left.min(buffer.len());
                    stream.write_all(&buffer[..part]).await?;
                    left -= part;
                }
                Ok(stream.shutdown().await?)
            }
            Upstream::Answer(size) => answer(stream, size).await,
            Upstream::Grpc => Ok(http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(called))
                .await?),
        }
    }
}

async fn called(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    let message = request.into_body().collect().await?.to_bytes();
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let mut response = Response::new(Full::new(message).with_trailers(async { Some(Ok(trailers)) }));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

async fn answer(mut stream: TcpStream, size: usize) -> anyhow::Result<()> {
    let body = if size == 0 { ANSWER.to_vec() } else { vec![b'x'; size] };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    let answer = [format!("{head}{}\r\n\r\n", body.len()).into_bytes(), body].concat();
    let mut buffer = Vec::with_capacity(64 << 10);
    loop {
        let Some(end) = buffer.windows(END.len()).position(|window| window == END) else {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let mut left = length(&buffer[..end])?;
        let here = left.min(buffer.len() - end - END.len());
        buffer.drain(..end + END.len() + here);
        left -= here;
        if left > 0 {
            // The rest of the request is read in the same buffer, which is empty.
            let mut rest = (&mut stream).take(left as u64);
            while rest.read_buf(&mut buffer).await? > 0 {
                buffer.clear();
            }
        }
        stream.write_all(&answer).await?;
    }
}

/// What the head of a request says of the length of its body.
fn length(head: &[u8]) -> anyhow::Result<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME));
    line.map_or(Ok(0), |line| Ok(std::str::from_utf8(&line[NAME.len()..])?.trim().parse()?))
}
