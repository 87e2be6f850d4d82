//! Frames of HTTP/2, as the cases have them, one a line.
//!
//! `headers 1 end :method=GET …` opens a stream; `more` leaves the head unfinished, for `continuation 1 finish name=value`.
//! The others are `data 1 end TEXT`, `reset 1 CODE`, `window 1 N`, `priority 1 ON`, `settings ID=VALUE…`, `ping`, `goaway`,
//! `frame TYPE FLAGS STREAM BYTES`, `bytes BYTES`, and `times N FRAME`, in which `+` stands for one stream after the other.
//! `bare` leaves out the settings that come first; `heard TYPE STREAM` waits for such a frame before the next is written.

use super::case::unescaped;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;

pub(super) const ACKNOWLEDGED: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What is to be written: the bytes, and which streams are to be answered.
pub(super) struct Script {
    pub(super) bytes: Vec<u8>,
    /// Up to where bytes are written before a frame of this type and stream has come.
    pub(super) pauses: Vec<(usize, (u8, u32))>,
    pub(super) asked: Vec<u32>,
    /// How many settings there are to acknowledge, and which pings.
    pub(super) settings: usize,
    pub(super) pings: Vec<Vec<u8>>,
    /// The stream that was opened last.
    last: u32,
}

impl Script {
    /// These lines, behind what every connection begins with: the preface, if it is a client's, and settings.
    pub(super) fn new(preface: &[u8], lines: &[String]) -> Script {
        let bytes = preface.to_vec();
        let mut script =
            Script { bytes, pauses: Vec::new(), asked: Vec::new(), settings: 0, pings: Vec::new(), last: 0 };
        if lines.first().is_none_or(|line| line != "bare") {
            // Without a dynamic table, statuses can be read one by one.
            script.push(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        }
        lines.iter().for_each(|line| script.line(line));
        script
    }

    pub(super) fn push(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.bytes.extend(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
        self.bytes.extend([kind, flags]);
        self.bytes.extend(stream.to_be_bytes());
        self.bytes.extend(payload);
        match (kind, flags & ACKNOWLEDGED != 0) {
            (SETTINGS, false) => self.settings += 1,
            (PING, false) => self.pings.push(payload.to_vec()),
            _ => {}
        }
    }

    pub(super) fn line(&mut self, line: &str) {
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
                if first == "1" {
                    self.opened(stream);
                }
                self.push(first.parse().unwrap(), flags, stream, &unescaped(words.next().unwrap_or_default()));
            }
            "bare" => {}
            "heard" => self.pauses.push((self.bytes.len(), (first.parse().unwrap(), number()))),
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
        if kind == HEADERS {
            self.opened(stream);
        }
        self.push(kind, flags, stream, &block);
    }

    fn opened(&mut self, stream: u32) {
        if !self.asked.contains(&stream) {
            self.asked.push(stream);
            self.last = stream;
        }
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
