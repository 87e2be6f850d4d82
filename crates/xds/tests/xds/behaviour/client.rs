//! A client that asks a proxy and reads what it has written to its log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::case::Ask;
use super::plane::Plane;
use super::server::Servers;

/// More than anything takes.
const LIMIT: Duration = Duration::from_secs(30);
/// The headers of responses that are told, beside those that objects have added.
const TOLD: [&str; 3] = ["location", "set-cookie", "retry-after"];

/// Sends a request, and waits for nothing.
pub(super) fn begin(address: SocketAddr, ask: &Ask) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let Ask { method, path, authority, headers, .. } = ask;
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let marked = "connection: close\r\nuser-agent: test";
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {authority}\r\n{marked}\r\n{headers}\r\n").unwrap();
    stream
}

/// Asks; tells the answer, what servers without an answer have got, and the line of the log.
pub(super) fn ask(plane: &dyn Plane, ask: &Ask, servers: &Servers) -> String {
    let before = plane.log().len();
    servers.forget();
    let stream = begin(plane.table(&ask.port), ask);
    let answer = answer(stream, &ask.method).unwrap_or_else(|| "nothing".to_owned());
    let line = testkit::until("a line of the log", LIMIT, || plane.log().into_iter().nth(before));
    let hellos: String = servers.hellos().iter().map(|hello| format!(" <{hello}>")).collect();
    format!("{answer}{hellos} | {}", without_words_of_tls(&line))
}

/// What is wrong with TLS each library says in words of its own, if it says anything.
fn without_words_of_tls(line: &str) -> String {
    let Some((before, words)) = line.split_once("|TLS_error") else { return line.to_owned() };
    format!("{before}{}", &words[words.find('}').unwrap()..])
}

/// `STATUS BODY {HEADERS}`; `None` if there is no whole answer.
fn answer(stream: TcpStream, method: &str) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut text = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut told) = (None, Vec::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        let name = name.to_ascii_lowercase();
        if name == "content-length" {
            length = value.parse().ok();
        }
        let added = name.starts_with("x-") && !name.starts_with("x-envoy-upstream");
        if added || TOLD.contains(&&*name) || name.starts_with("access-control-") {
            told.push(format!("{name}: {value}"));
        }
    }
    told.sort();
    let mut body = Vec::new();
    match length {
        Some(_) if method == "HEAD" => {}
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body).ok()?;
        }
        None => drop(reader.read_to_end(&mut body).ok()?),
    }
    let body = String::from_utf8(body).unwrap();
    if !body.is_empty() {
        text += &format!(" {body}");
    }
    if !told.is_empty() {
        text += &format!(" {{{}}}", told.join(", "));
    }
    Some(text)
}
