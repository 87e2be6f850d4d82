//! Servers of HTTP/2 that answer with any frames at all, and what becomes of the requests that got such answers.
//!
//! Each case has a server and a cluster of its own, so that none finds a connection of another.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::RealEnvoy;

use super::super::{LIMIT, Plane, cluster, connect, listener, server};
use super::SILENCE;
use super::case::{self, Case, Outcome, Wire};
use super::frames::{Duties, error, frame};
use super::script::{ACKNOWLEDGED, GOAWAY, HEADERS, PING, PREFACE, RESET, SETTINGS, Script};
use super::subject::{MANAGER, ROUTER};
use crate::Snapshot;
use crate::data_plane::{DataPlane, Options};
use crate::metrics::Workload;

const HTTP2: &str = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
    {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: \
    {http2_protocol_options: {}}}}";

pub(super) fn cases() -> Vec<Case> {
    case::read("answers", include_str!("../../../../testdata/corpus/answers.txt"))
}

/// A case and the server that plays it.
struct Play {
    case: Case,
    cluster: String,
    address: SocketAddr,
    /// What the proxy has told the server, and whether the second request came over the same connection.
    told: Receiver<Vec<String>>,
}

impl Play {
    fn start((number, case): (usize, Case)) -> Play {
        let Wire::Frames(lines) = &case.wire else { panic!("{}: a server answers with frames", case.name) };
        let (tells, told) = channel();
        let script = Arc::new(Mutex::new(Some((lines.clone(), tells))));
        let address = server(move |stream| {
            let script = script.lock().unwrap().take();
            match script {
                Some((lines, tells)) => drop(tells.send(serve(stream, &lines))),
                None => drop(serve(stream, &[])),
            }
        });
        Play { cluster: format!("case-{number}"), case, address, told }
    }

    /// What becomes of the answer, and of the connection, at a proxy that listens here.
    fn outcome(&self, proxy: SocketAddr) -> Outcome {
        let method = if self.case.listener == "base" { "GET" } else { &self.case.listener };
        let first = ask(proxy, method, &self.cluster);
        let second = ask(proxy, "GET", &self.cluster);
        assert_eq!(second, "200", "{}: a request behind it", self.case.name);
        let told = self.told.recv_timeout(LIMIT).unwrap();
        Outcome { answers: [vec![first], told].concat().join(", "), seen: Vec::new() }
    }
}

/// Answers the first request of a connection with these frames, or if there are none as well as the second. Tells what the
/// peer has said of the answer, and whether it asked anything more.
fn serve(mut stream: TcpStream, lines: &[String]) -> Vec<String> {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let mut preface = [0; PREFACE.len()];
    if stream.read_exact(&mut preface).is_err() || preface != PREFACE {
        return vec!["breaks 3.4".to_owned()];
    }
    let script = Script::new(&[], lines);
    let mut duties = Duties::from(&script);
    let (mut told, mut requests) = (Vec::new(), 0);
    let end = loop {
        let Ok(frame) = frame(&mut stream) else { break "left" };
        duties.mind(&frame);
        match frame.kind {
            PING if frame.flags & ACKNOWLEDGED == 0 => panic!("a proxy that probes the connection"),
            RESET => told.push(format!("reset {}", error(&frame.payload))),
            GOAWAY => told.push(format!("goaway {}", error(&frame.payload[4..]))),
            HEADERS => {
                requests += 1;
                if requests == 1 {
                    // What comes first has to be settings, which the acknowledgement of others' is not.
                    let _ = stream.write_all(&script.bytes);
                    let _ = stream.write_all(&[0, 0, 0, SETTINGS, ACKNOWLEDGED, 0, 0, 0, 0]);
                }
                if requests == 2 || lines.is_empty() {
                    let mut answer = Script::new(&[], &["bare".to_owned()]);
                    answer.line(&format!("headers {} end :status=200", frame.stream));
                    let _ = stream.write_all(&answer.bytes);
                }
                if requests == 2 {
                    duties.finish();
                    break "kept";
                }
            }
            _ => {}
        }
    };
    told.push(end.to_owned());
    told.extend(duties.broken.iter().map(|section| format!("breaks {section}")));
    told
}

/// A request of HTTP/1, which is known for what it is wherever it arrives. Tells the answer: its status; its body, and that
/// it was cut if it was, unless the proxy itself says what is wrong.
fn ask(proxy: SocketAddr, method: &str, host: &str) -> String {
    let mut stream = connect(proxy);
    let _ = write!(stream, "{method} / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return "nothing".to_owned() };
    let status = head.split(' ').nth(1).unwrap_or_default();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let told = if status.starts_with('5') {
        String::new()
    } else if chunked {
        chunks(body)
    } else {
        body.to_owned()
    };
    let told = if told.len() > 100 { format!("({} bytes)", told.len()) } else { told };
    format!("{status} {told}").trim_end().to_owned()
}

/// The bytes of all chunks, and whether the last of them is missing.
fn chunks(mut rest: &str) -> String {
    let mut all = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return all;
        }
        all += &after[..size.min(after.len())];
        rest = after.get(size + 2..).unwrap_or_default();
    }
    all + " cut"
}

/// A listener that sends each case's host to the case's cluster.
fn entry(plays: &[Play]) -> String {
    let host = |play: &Play| {
        let name = &play.cluster;
        format!("{{name: {name}, domains: [{name}], routes: [{{match: {{prefix: /}}, route: {{cluster: {name}}}}}]}}")
    };
    let hosts: Vec<String> = plays.iter().map(host).collect();
    let chain = format!(
        "{{name: chain, filters: [{{name: http, typed_config: {{\"@type\": {MANAGER}, stat_prefix: in, route_config: \
         {{name: table, virtual_hosts: [{}]}}, http_filters: [{ROUTER}]}}}}]}}",
        hosts.join(", ")
    );
    listener("in", "127.0.0.1", "", &[chain])
}

fn check(plays: &[Play], proxy: SocketAddr, expected: impl Fn(&Case) -> &Outcome) {
    let mut wrong = Vec::new();
    for play in plays {
        let (expected, found) = (expected(&play.case), play.outcome(proxy));
        if found != *expected {
            wrong.push(format!("answers: {}\nexpected:\n{expected}found:\n{found}", play.case.name));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn plays() -> Vec<Play> {
    cases().into_iter().enumerate().map(Play::start).collect()
}

#[test]
fn every_answer_of_the_corpus_becomes_what_its_case_says() {
    let plays = plays();
    let workload = Arc::new(Workload::default());
    // A connection is its worker's own, so there is one.
    let options = Options { workers: NonZeroUsize::MIN, drain_time: Duration::ZERO, workload };
    let folder = tempfile::tempdir().unwrap();
    let mut plane = Plane { plane: DataPlane::start(options).unwrap(), snapshot: Snapshot::default(), folder };
    for play in &plays {
        plane.cluster(&play.cluster, &[play.address], HTTP2);
    }
    let proxy = plane.listener(&entry(&plays)).go();
    check(&plays, proxy, Case::ours);
}

#[test]
fn a_real_envoy_makes_of_the_answers_what_their_cases_say() {
    let plays = plays();
    let value = |yaml: &str| -> Value { serde_saphyr::from_str(yaml).unwrap() };
    let clusters: Vec<Value> =
        plays.iter().map(|play| value(&cluster(&play.cluster, &[play.address], HTTP2))).collect();
    let bootstrap = json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {"listeners": [value(&entry(&plays))], "clusters": clusters},
    });
    let Some(envoy) = RealEnvoy::start(&bootstrap.to_string(), 1) else { return };
    check(&plays, envoy.listener("in"), |case| &case.envoys);
}
