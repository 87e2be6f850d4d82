//! A client of HTTP/1 that writes any bytes at all.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

/// A request that is beyond doubt.
const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nhost: probe\r\n\r\n";

/// An answer: its status, and its body if it has one.
struct Answer {
    status: String,
    body: String,
}

/// Sends bytes, and a probe if there is to be one; tells what comes back until the probe is answered or nothing follows.
pub(super) fn ask(stream: TcpStream, bytes: &[u8], probed: bool) -> Vec<String> {
    let all = if probed { [bytes, PROBE].concat() } else { bytes.to_vec() };
    let mut writer = stream.try_clone().unwrap();
    // Who is not read while it writes a lot may never read itself; what is not taken is no failure.
    let writing = std::thread::spawn(move || drop(writer.write_all(&all)));
    let mut reader = BufReader::new(stream);
    let mut answers = Vec::new();
    loop {
        match answer(&mut reader) {
            Ok(Some(answer)) if answer.body == "probe" => answers.push("kept".to_owned()),
            Ok(Some(Answer { status, body })) => {
                let changed = status == "101";
                answers.push(if body.is_empty() { status } else { format!("{status} {body}") });
                if !changed {
                    continue;
                }
            }
            Ok(None) => answers.push("closed".to_owned()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                answers.push("waits".to_owned())
            }
            Err(_) => answers.push("closed".to_owned()),
        }
        break;
    }
    let _ = reader.get_ref().shutdown(std::net::Shutdown::Both);
    writing.join().unwrap();
    answers
}

/// Reads one answer; `None` if the connection ends before.
fn answer(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Answer>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let status = line.split(' ').nth(1).unwrap_or(&line).trim().to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Answer { status, body: String::from_utf8(body).unwrap() }))
}
