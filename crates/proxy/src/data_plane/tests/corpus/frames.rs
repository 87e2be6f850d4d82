//! A client of HTTP/2 that writes any frames at all.
//!
//! `headers 1 end :method=GET …` opens a stream; `more` leaves the head unfinished, for `continuation 1 finish name=value`.
//! The others are `data 1 end TEXT`, `reset 1 CODE`, `window 1 N`, `priority 1 ON`, `settings ID=VALUE…`, `ping`, `goaway`,
//! `frame TYPE FLAGS STREAM BYTES`, `bytes BYTES`, and `times N FRAME`, in which `+` stands for one stream after the other.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use super::case::unescaped;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The stream of the request that is beyond doubt.
const PROBE: u32 = 1_999_999;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

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
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// What has been written: the bytes, and which streams are to be answered.
struct Script {
    bytes: Vec<u8>,
    asked: Vec<u32>,
    /// The stream that was opened last.
    last: u32,
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
    let mut script = Script { bytes: PREFACE.to_vec(), asked: Vec::new(), last: 0 };
    // Without a dynamic table, statuses can be read one by one.
    script.push(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
    lines.iter().for_each(|line| script.line(line));
    script.line(&format!("headers {PROBE} end :method=GET :scheme=http :authority=probe :path=/probe"));
    let (mut writer, mut reader) = (stream.try_clone().unwrap(), stream);
    let Script { bytes, asked, .. } = script;
    let writing = std::thread::spawn(move || drop(writer.write_all(&bytes)));
    let (answers, end) = read(&mut reader, &asked);
    let _ = reader.shutdown(std::net::Shutdown::Both);
    writing.join().unwrap();
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

/// Reads until every stream has been answered, and tells in which state the connection is left.
fn read(reader: &mut TcpStream, asked: &[u32]) -> (BTreeMap<u32, Answer>, Vec<String>) {
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
        match frame.kind {
            GOAWAY => end.push(format!("goaway {}", error(&frame.payload[4..]))),
            RESET | HEADERS | DATA => note(answers.entry(frame.stream).or_default(), &frame),
            SETTINGS if frame.flags == 0 => {
                let _ = reader.write_all(&[0, 0, 0, SETTINGS, 1, 0, 0, 0, 0]);
            }
            _ => {}
        }
    }
    end.push("kept".to_owned());
    (answers, end)
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

fn error(code: &[u8]) -> &'static str {
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

fn frame(reader: &mut TcpStream) -> std::io::Result<Frame> {
    let mut head = [0; 9];
    reader.read_exact(&mut head)?;
    let [a, b, c, kind, flags, w, x, y, z] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    reader.read_exact(&mut payload)?;
    Ok(Frame { kind, flags, stream: u32::from_be_bytes([w, x, y, z]), payload })
}

impl Script {
    fn push(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.bytes.extend(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
        self.bytes.extend([kind, flags]);
        self.bytes.extend(stream.to_be_bytes());
        self.bytes.extend(payload);
    }

    fn line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        let stream = || first.parse().unwrap();
        let number = || tail.parse::<u32>().unwrap();
        match word {
            "times" => {
                for _ in 0..first.parse().unwrap() {
                    let next = if self.last == 0 { 1 } else { self.last + 2 }.to_string();
                    tail.split(" & ").for_each(|line| self.line(&line.replace('+', &next)));
                }
            }
            "headers" => self.head(HEADERS, stream(), tail),
            "continuation" => self.head(CONTINUATION, stream(), tail),
            "data" => {
                let (end, text) = tail.split_once(' ').unwrap_or((tail, ""));
                self.push(DATA, u8::from(end == "end"), stream(), &unescaped(text));
            }
            "reset" => {
                self.push(RESET, 0, stream(), &number().to_be_bytes());
                self.asked.retain(|asked| *asked != stream());
            }
            "window" => self.push(WINDOW, 0, stream(), &number().to_be_bytes()),
            "priority" => self.push(PRIORITY, 0, stream(), &[&number().to_be_bytes()[..], &[16]].concat()),
            "settings" => {
                let setting = |pair: &str| {
                    let (id, value) = pair.split_once('=').unwrap();
                    let (id, value): (u16, u32) = (id.parse().unwrap(), value.parse().unwrap());
                    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
                };
                let payload: Vec<u8> = rest.split_whitespace().flat_map(setting).collect();
                self.push(SETTINGS, 0, 0, &payload);
            }
            "ping" => self.push(PING, 0, 0, &[0; 8]),
            "goaway" => self.push(GOAWAY, 0, 0, &[0; 8]),
            "frame" => {
                let mut words = tail.splitn(3, ' ');
                let flags = words.next().unwrap().parse().unwrap();
                let stream = words.next().unwrap().parse().unwrap();
                self.push(first.parse().unwrap(), flags, stream, &unescaped(words.next().unwrap_or_default()));
            }
            "bytes" => self.bytes.extend(unescaped(rest)),
            _ => panic!("{line:?} is no frame"),
        }
    }

    /// A head, or a part of one.
    fn head(&mut self, kind: u8, stream: u32, words: &str) {
        let (mut flags, mut block) = (if kind == HEADERS { END_HEADERS } else { 0 }, Vec::new());
        for word in words.split_whitespace() {
            match word {
                "end" => flags |= END_STREAM,
                "more" => flags &= !END_HEADERS,
                "finish" => flags |= END_HEADERS,
                field => {
                    // The name of a pseudo-header may be empty, but begins with a colon.
                    let equals = field.find('=').unwrap();
                    literal(&mut block, &unescaped(&field[..equals]), &unescaped(&field[equals + 1..]));
                }
            }
        }
        if kind == HEADERS && !self.asked.contains(&stream) {
            self.asked.push(stream);
            self.last = stream;
        }
        self.push(kind, flags, stream, &block);
    }
}

/// A header that goes into no table.
fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        if text.len() < 127 {
            block.push(u8::try_from(text.len()).unwrap());
        } else {
            block.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
        block.extend(text);
    }
}
