//! Clients that cost more than they pay.

use std::io::{BufReader, Read};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::http::{read_message, to};
use super::{Plane, server};
use crate::metrics::Scope;

/// Half of the requests of which half may be broken off at once.
const MANY: usize = 250;

#[test]
fn a_client_that_breaks_off_most_requests_at_once_is_left() {
    let (arrived, arrivals) = mpsc::channel();
    let arrived = Arc::new(Mutex::new(arrived));
    let silent = server(move |stream| {
        let mut reader = BufReader::new(stream);
        if read_message(&mut reader, true).is_some() {
            arrived.lock().unwrap().send(()).unwrap();
        }
        // Whoever waits for the end of the connection answers nothing.
        let _ = reader.read(&mut [0]);
    });
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[silent], "").http(&to("c"), "").go();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        for _ in 0..MANY {
            sender.ready().await.unwrap();
            let request = http::Request::get("http://a.example/").body(Empty::<Bytes>::new()).unwrap();
            let sent = tokio::spawn(sender.send_request(request));
            while arrivals.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
            sent.abort();
        }
        // A connection that is just ended may be so in any way.
        drop(connection.await.unwrap());
    });
    let scope = Scope::Http("http".into());
    assert_eq!(plane.number(&scope, "downstream_rq_too_many_premature_resets"), 1);
}
