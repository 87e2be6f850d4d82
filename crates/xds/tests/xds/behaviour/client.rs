//! A client that asks a proxy and reads what it has written to its log.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::case::{Ask, Tls};
use super::plane::Plane;
use super::server::Servers;
use crate::certificates::{authority, issue};

/// More than anything takes.
const LIMIT: Duration = Duration::from_secs(30);
/// The headers of responses that are told, beside those that objects have added.
const TOLD: [&str; 3] = ["location", "set-cookie", "retry-after"];

/// Something from which an answer is read.
type Answering = Box<dyn Read>;

/// Sends a request, and waits for nothing.
pub(super) fn begin(address: SocketAddr, ask: &Ask) -> io::Result<Answering> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let Ask { method, path, authority, headers, .. } = ask;
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let marked = "connection: close\r\nuser-agent: test";
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n{marked}\r\n{headers}\r\n");
    let Some(tls) = &ask.tls else {
        stream.write_all(request.as_bytes())?;
        return Ok(Box::new(stream));
    };
    let mut connection = client(tls);
    connection.write_tls(&mut stream)?;
    if stream.peek(&mut [0])? == 1 && !speaks_tls(&stream)? {
        return Ok(Box::new(stream));
    }
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(request.as_bytes())?;
    Ok(Box::new(stream))
}

fn client(tls: &Tls) -> ClientConnection {
    let roots: Vec<_> = CertificateDer::pem_slice_iter(authority().as_bytes()).map(Result::unwrap).collect();
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(roots);
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(trusted);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = issue(identity, &[]);
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = tls.offers.iter().map(|name| name.clone().into_bytes()).collect();
    let name = ServerName::try_from(tls.server_name.clone()).unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

/// Whether what is answered is of TLS, and not a plain response of HTTP.
fn speaks_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    stream.peek(&mut first)?;
    Ok(first != *b"H")
}

/// Asks; tells the answer, what servers without an answer have got, and the line of the log if there is to be one.
pub(super) fn ask(plane: &dyn Plane, ask: &Ask, servers: &Servers, read: &mut usize) -> String {
    servers.forget();
    let answer = match plane.table(&ask.port).map(|address| begin(address, ask)) {
        None => return "nobody listens".to_owned(),
        Some(stream) => stream.ok().and_then(|stream| answer(stream, &ask.method)),
    };
    let answer = answer.unwrap_or_else(|| "nothing".to_owned());
    let hellos: String = servers.hellos().iter().map(|hello| format!(" <{hello}>")).collect();
    if !ask.is_logged() {
        return format!("{answer}{hellos}");
    }
    let line = testkit::until("a line of the log", LIMIT, || plane.log().into_iter().nth(*read));
    *read += 1;
    format!("{answer}{hellos} | {}", without_words_of_tls(&line))
}

/// What is wrong with TLS each library says in words of its own, if it says anything.
fn without_words_of_tls(line: &str) -> String {
    let Some((before, words)) = line.split_once("|TLS_error") else { return line.to_owned() };
    format!("{before}{}", &words[words.find('}').unwrap()..])
}

/// `STATUS BODY {HEADERS}`; `None` if there is no whole answer.
fn answer(stream: Answering, method: &str) -> Option<String> {
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
