//! The world of the cases, and its servers, which are at loopback addresses of this process alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::NamespacedName;
use proxy::inspect::{Inspection, client_hello};
use xds::{Mesh, Resources};

use super::listeners::{Side, UNDECLARED, WORKLOAD};
use crate::world::{documents, objects};

const WORLD: &str = include_str!("world.yaml");
/// What the log tells of a request that leaves, and of a connection or a request that arrives.
const FORMATS: [&str; 2] = [
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER%",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% %UPSTREAM_CLUSTER%",
];
/// The servers: the last number of the address, and the name.
const SERVERS: [(u8, &str); 12] = [
    (1, "web-v1"),
    (2, "web-v2"),
    (3, "meshed"),
    (4, "other"),
    (5, "bar-web"),
    (6, "outside"),
    (7, "legacy"),
    (8, "entry-a"),
    (9, "entry-b"),
    (WORKLOAD, "app"),
    (UNDECLARED, "undeclared"),
    (12, JUDGE),
];
/// Who is asked whether a request may pass. It may if it says so itself.
const JUDGE: &str = "judge";
const PORTS: [u16; 2] = [8080, 8081];
/// The headers of requests that are told, beside those whose name begins with `x-`.
const TOLD: [&str; 3] = ["end-user", "cookie", "authorization"];
/// What is told of it would be different each time, or the same each time.
const UNTOLD: [&str; 6] = [
    "x-request-id",
    "x-forwarded-proto",
    "x-forwarded-for",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
];

pub(super) struct Servers {
    /// The first numbers of the addresses.
    network: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    requests: usize,
    awaited: usize,
    hellos: Vec<String>,
}

impl Servers {
    /// Starts the servers in a network of loopback addresses in which nobody listens yet.
    pub(super) fn start() -> Servers {
        let free = (16..250).find_map(|second| {
            let network = format!("127.{second}.{}", std::process::id() % 250 + 1);
            // Who has the first has them all.
            let first = TcpListener::bind(format!("{network}.{}:{}", SERVERS[0].0, PORTS[0])).ok()?;
            Some((network, first))
        });
        let (network, first) = free.unwrap();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let mut first = Some(first);
        for (number, name) in SERVERS {
            for port in PORTS {
                let listener =
                    first.take().unwrap_or_else(|| TcpListener::bind(format!("{network}.{number}:{port}")).unwrap());
                let name = if port == PORTS[0] { name.to_owned() } else { format!("{name}:{port}") };
                let seen = seen.clone();
                std::thread::spawn(move || serve(&listener, &name, &seen));
            }
        }
        Servers { network, seen }
    }

    /// What the pod of a side is told in this world with more objects, if what comes is to be logged in a file.
    pub(super) fn resources(&self, side: Side, more: &str, log: &Path) -> Resources {
        let format = FORMATS[usize::from(side != Side::Client)];
        let world = WORLD.replace("LOG", &log.display().to_string()).replace("FORMAT", format);
        let yaml = |text: &str| documents(&text.replace("NET.", &format!("{}.", self.network)));
        let mesh = Mesh::new(&objects(&[yaml(&world), yaml(more)].concat()));
        let pod = NamespacedName::new("foo", side.pod());
        xds::build(&mesh, &mesh.node(&pod).unwrap())
    }

    /// The first numbers of their addresses.
    pub(super) fn network(&self) -> &str {
        &self.network
    }

    /// A text without the addresses and the hashes of certificates, which are others each time.
    pub(super) fn nameless(&self, text: &str) -> String {
        let text = text.replace(&self.network, "NET");
        let Some((before, rest)) = text.split_once("Hash=") else { return text };
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        match rest.split_once("Cert=\"").and_then(|(_, rest)| rest.split_once('"')) {
            Some((_, rest)) => format!("{before}Hash=…;Cert=…{rest}"),
            None => format!("{before}Hash=…{rest}"),
        }
    }

    pub(super) fn forget(&self) {
        self.seen.lock().unwrap().hellos.clear();
    }

    /// What servers without a certificate were told by clients that want one.
    pub(super) fn hellos(&self) -> Vec<String> {
        self.seen.lock().unwrap().hellos.clone()
    }

    /// Waits until one more request is with a server.
    pub(super) fn wait_for_one_more(&self) {
        self.seen.lock().unwrap().awaited += 1;
        testkit::until("a request to be with its server", Duration::from_secs(30), || {
            let seen = self.seen.lock().unwrap();
            (seen.requests >= seen.awaited).then_some(())
        });
    }
}

fn serve(listener: &TcpListener, name: &str, seen: &Arc<Mutex<Seen>>) {
    for stream in listener.incoming().flatten() {
        let (name, seen) = (name.to_owned(), seen.clone());
        std::thread::spawn(move || converse(stream, &name, &seen));
    }
}

/// Answers requests; whoever speaks TLS is heard, and not answered.
fn converse(stream: TcpStream, name: &str, seen: &Mutex<Seen>) {
    let mut first = [0];
    if !matches!(stream.peek(&mut first), Ok(1)) {
        return;
    }
    if first[0] == 0x16 {
        return hear(stream, name, seen);
    }
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some((path, told)) = request(&mut reader) {
        match path.split('?').next().unwrap() {
            "/slow" => {
                seen.lock().unwrap().requests += 1;
                // It is not answered; the proxy or its client has to give up.
                drop(reader.read(&mut [0]));
                return;
            }
            "/reset" => return,
            "/cut" => {
                drop(writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"));
                return;
            }
            path => {
                let refused = name == JUDGE && !told.contains("x-judge=pass");
                let status = if refused { "403" } else { path.strip_prefix("/status/").unwrap_or("200") };
                let body = format!("{name} {told}");
                let head = format!("HTTP/1.1 {status} OK\r\ncontent-length: {}\r\nx-by: {name}\r\n\r\n", body.len());
                if writer.write_all((head + &body).as_bytes()).is_err() {
                    return;
                }
            }
        }
    }
}

/// Notes the server name and the protocols that a client of TLS offers.
fn hear(mut stream: TcpStream, name: &str, seen: &Mutex<Seen>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..read]);
        if let Inspection::Hello(hello) = client_hello(&bytes, 1 << 16) {
            let server_name = hello.server_name.as_deref().unwrap_or("-");
            let protocols = hello.application_protocols.join(",");
            seen.lock().unwrap().hellos.push(format!("{name} tls {server_name} [{protocols}]"));
            return;
        }
    }
}

/// Reads a request without a body: its path, and what is told of it.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut start = String::new();
    reader.read_line(&mut start).ok().filter(|read| *read > 0)?;
    let mut words = start.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::<String, String>::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim_start();
        let known = headers.entry(name.to_owned()).or_default();
        *known = if known.is_empty() { value.to_owned() } else { format!("{known},{value}") };
    }
    let host = headers.remove("host").unwrap_or_default();
    let is_told = |name: &str| TOLD.contains(&name) || name.starts_with("x-") && !UNTOLD.contains(&name);
    let told: Vec<String> = headers
        .iter()
        .filter(|(name, value)| is_told(name) && !value.is_empty())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let told = if told.is_empty() { String::new() } else { format!(" ({})", told.join(" ")) };
    Some((path.to_owned(), format!("{method} {path} {host}{told}")))
}
