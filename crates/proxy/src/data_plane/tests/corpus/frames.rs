//! A client of HTTP/2 that writes any frames at all, as `script` reads them.
//!
//! It also minds what every server must do, whatever it is sent: settings first of all, each of ours and each ping
//! acknowledged once, and no frame that is larger than we take. What was not so is told as `breaks SECTION` of RFC 9113.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::script::{ACKNOWLEDGED, DATA, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RESET, SETTINGS, Script};

/// The stream of the request that is beyond doubt.
const PROBE: u32 = 1_999_999;

const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// A frame that has come.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// What a peer has yet to do for a connection.
pub(super) struct Duties {
    pub(super) settings: usize,
    pub(super) pings: Vec<Vec<u8>>,
    begun: bool,
    pub(super) broken: Vec<&'static str>,
}

/// What has come of a stream.
#[derive(Default)]
struct Answer {
    status: String,
    body: String,
    reset: Option<&'static str>,
    over: bool,
}

/// Sends frames and a probe; tells what comes back until all is answered or nothing follows.
pub(super) fn ask(stream: TcpStream, lines: &[String]) -> Vec<String> {
    let mut script = Script::new(PREFACE, lines);
    script.line(&format!("headers {PROBE} end :method=GET :scheme=http :authority=probe :path=/probe"));
    let (mut writer, mut reader) = (stream.try_clone().unwrap(), stream);
    let mut duties = Duties::from(&script);
    let Script { bytes, pauses, asked, .. } = script;
    let (hears, heard) = channel();
    let writing = std::thread::spawn(move || write(&mut writer, &bytes, &pauses, &heard));
    let (answers, mut end) = read(&mut reader, &asked, &mut duties, &hears);
    drop(hears);
    let _ = reader.shutdown(std::net::Shutdown::Both);
    writing.join().unwrap();
    if end.last().is_some_and(|end| end == "kept") {
        duties.finish();
    }
    end.extend(duties.broken.iter().map(|section| format!("breaks {section}")));
    let told = |(stream, answer): (&u32, &Answer)| {
        let Answer { status, body, reset, .. } = answer;
        let words = [status.as_str(), body.as_str(), reset.unwrap_or_default()];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        format!("{stream}: {}", words.join(" "))
    };
    // What a peer that ends the connection has done with streams before is not certain.
    let shown = answers.iter().filter(|(stream, _)| **stream != PROBE && asked.contains(stream));
    shown.map(told).chain(end).collect()
}

/// Writes all of it, with its pauses, or as much as is taken.
fn write(writer: &mut TcpStream, bytes: &[u8], pauses: &[(usize, (u8, u32))], heard: &Receiver<(u8, u32)>) {
    let mut from = 0;
    for (to, awaited) in pauses {
        if writer.write_all(&bytes[from..*to]).is_err() || !heard.iter().any(|frame| frame == *awaited) {
            return;
        }
        from = *to;
    }
    let _ = writer.write_all(&bytes[from..]);
}

/// Reads until every stream has been answered, and tells in which state the connection is left.
fn read(
    reader: &mut TcpStream,
    asked: &[u32],
    duties: &mut Duties,
    hears: &Sender<(u8, u32)>,
) -> (BTreeMap<u32, Answer>, Vec<String>) {
    let mut answers: BTreeMap<u32, Answer> = BTreeMap::new();
    let mut end = Vec::new();
    let is_over = |answers: &BTreeMap<u32, Answer>| asked.iter().all(|s| answers.get(s).is_some_and(|a| a.over));
    while !is_over(&answers) {
        let frame = match frame(reader) {
            Ok(frame) => frame,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                end.push("waits".to_owned());
                return (answers, end);
            }
            Err(_) => {
                end.push("closed".to_owned());
                return (answers, end);
            }
        };
        duties.mind(&frame);
        match frame.kind {
            GOAWAY => end.push(format!("goaway {}", error(&frame.payload[4..]))),
            RESET | HEADERS | DATA => note(answers.entry(frame.stream).or_default(), &frame),
            SETTINGS if frame.flags == 0 => {
                let _ = reader.write_all(&[0, 0, 0, SETTINGS, ACKNOWLEDGED, 0, 0, 0, 0]);
            }
            _ => {}
        }
        // Nobody waits once all is written.
        let _ = hears.send((frame.kind, frame.stream));
    }
    end.push("kept".to_owned());
    (answers, end)
}

impl Duties {
    /// What this obliges to.
    pub(super) fn from(script: &Script) -> Duties {
        Duties { settings: script.settings, pings: script.pings.clone(), begun: false, broken: Vec::new() }
    }

    pub(super) fn mind(&mut self, frame: &Frame) {
        if !self.begun && (frame.kind, frame.flags) != (SETTINGS, 0) {
            self.broken.push("3.4");
        }
        self.begun = true;
        if frame.payload.len() > 16384 {
            self.broken.push("4.2");
        }
        match (frame.kind, frame.flags & ACKNOWLEDGED != 0) {
            (SETTINGS, true) if self.settings == 0 || !frame.payload.is_empty() => self.broken.push("6.5"),
            (SETTINGS, true) => self.settings -= 1,
            (PING, true) => match self.pings.iter().position(|ping| *ping == frame.payload) {
                Some(at) => drop(self.pings.remove(at)),
                None => self.broken.push("6.7"),
            },
            _ => {}
        }
    }

    /// What is behind the settings and the pings has been answered, so they have been.
    pub(super) fn finish(&mut self) {
        if self.settings > 0 {
            self.broken.push("6.5.3");
        }
        if !self.pings.is_empty() {
            self.broken.push("6.7");
        }
    }
}

fn note(answer: &mut Answer, frame: &Frame) {
    answer.over |= frame.kind == RESET || frame.flags & END_STREAM != 0;
    match frame.kind {
        RESET => answer.reset = Some(error(&frame.payload)),
        HEADERS if answer.status.is_empty() => answer.status = status(&frame.payload),
        DATA => answer.body += &String::from_utf8_lossy(&frame.payload),
        _ => {}
    }
}

pub(super) fn error(code: &[u8]) -> &'static str {
    ERRORS[usize::from(code[3])]
}

/// The status, which is the first header of an answer.
fn status(block: &[u8]) -> String {
    const KNOWN: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
    // A changed size of the dynamic table may come first.
    let block = if block[0] & 0xe0 == 0x20 { &block[1..] } else { block };
    match block[0] {
        byte @ 0x88..=0x8e => KNOWN[usize::from(byte - 0x88)].to_owned(),
        _ if block[1] & 0x80 == 0 => String::from_utf8_lossy(&block[2..5]).into_owned(),
        _ => digits(&block[2..2 + usize::from(block[1] & 0x7f)]),
    }
}

/// Digits in HPACK's code: five bits for each of the first three, six for the others.
fn digits(coded: &[u8]) -> String {
    let bits: Vec<u8> = coded.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |number, bit| number << 1 | bit);
    let (mut at, mut out) = (0, String::new());
    while out.len() < 3 {
        let (five, six) = (number(&bits[at..at + 5]), number(&bits[at..bits.len().min(at + 6)]));
        let (digit, width) = if five < 3 { (five, 5) } else { (six - 0x19 + 3, 6) };
        out.push(char::from(b'0' + digit));
        at += width;
    }
    out
}

pub(super) fn frame(reader: &mut TcpStream) -> std::io::Result<Frame> {
    let mut head = [0; 9];
    reader.read_exact(&mut head)?;
    let [a, b, c, kind, flags, w, x, y, z] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    reader.read_exact(&mut payload)?;
    Ok(Frame { kind, flags, stream: u32::from_be_bytes([w, x, y, z]), payload })
}
