//! Servers that remember what they get, byte for byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use super::super::server;

/// Headers that proxies make up, or that are told elsewhere.
const OMITTED: [&str; 6] = [
    "host",
    "x-request-id",
    "x-forwarded-proto",
    "x-forwarded-for",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-internal",
];

/// A server for each cluster, and what they have got.
pub(super) struct Upstreams {
    seen: Arc<Mutex<Vec<String>>>,
    servers: Vec<(&'static str, SocketAddr)>,
}

impl Upstreams {
    pub(super) fn start() -> Upstreams {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let start = |name: &'static str| {
            let seen = seen.clone();
            (name, server(move |stream| serve(name, stream, &seen)))
        };
        Upstreams { servers: ["default", "special", "other"].map(start).into(), seen }
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.servers.iter().copied()
    }

    /// Forgets what has come so far.
    pub(super) fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    /// What has come, whole requests only.
    pub(super) fn seen(&self) -> Vec<String> {
        let mut seen = self.seen.lock().unwrap().clone();
        // Requests on several streams come in any order.
        seen.sort();
        seen
    }
}

/// Answers requests with nothing but a status; what asks for another protocol gets it, but for `/refused`.
fn serve(name: &str, stream: TcpStream, seen: &Mutex<Vec<String>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some((text, upgrade)) = request(&mut reader) {
        seen.lock().unwrap().push(format!("{name} {text}").trim_end().to_owned());
        let answer = if upgrade && !text.contains(" /refused ") {
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        };
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads a request, which must be flawless; tells it in one line, and whether it asks for another protocol.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, bool)> {
    let start = line(reader)?;
    let (method, rest) = start.split_once(' ')?;
    let path = rest.strip_suffix(" HTTP/1.1").unwrap_or(rest);
    let (mut host, mut shown) = (String::new(), Vec::new());
    let (mut length, mut chunked, mut upgrade) = (0_u64, false, false);
    loop {
        let line = line(reader)?;
        let Some((name, value)) = line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, ""))) else { break };
        match name {
            "host" => host = format!("{host}{value}"),
            "content-length" => length = value.parse().unwrap(),
            "transfer-encoding" => chunked = true,
            "upgrade" => upgrade = true,
            _ => {}
        }
        if !OMITTED.contains(&name) {
            let long = value.len() > 100;
            shown.push(if long { format!("{name}: {} bytes", value.len()) } else { line });
        }
    }
    shown.sort();
    let mut text = format!("{method} {} {host}", shortened(path));
    for header in shown {
        text += &format!("; {header}");
    }
    let body = if chunked { chunks(reader)? } else { bytes(reader, length)? };
    if !body.is_empty() {
        text += &format!("; body {}", shortened(&body));
    }
    Some((text, upgrade))
}

fn shortened(text: &str) -> String {
    if text.len() > 100 { format!("({} bytes)", text.len()) } else { text.escape_debug().to_string() }
}

/// The bytes of all chunks, with the trailers in brackets.
fn chunks(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut all = String::new();
    loop {
        let size = u64::from_str_radix(&line(reader)?, 16).ok()?;
        if size == 0 {
            break;
        }
        all += &bytes(reader, size)?;
        line(reader)?;
    }
    loop {
        match line(reader)? {
            line if line.is_empty() => return Some(all),
            line => all += &format!("[{line}]"),
        }
    }
}

fn bytes(reader: &mut BufReader<TcpStream>, length: u64) -> Option<String> {
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == length).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

fn line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).ok()?;
    Some(String::from_utf8_lossy(line.strip_suffix(b"\r\n")?).into_owned())
}
