//! Conversations, and what hyper gets to see of them.

use super::*;

const LIMITS: Limits = Limits { head: 1024, headers: 4 };

fn gate(marks: &Arc<Marks>) -> Gate {
    Gate {
        limits: LIMITS,
        marks: marks.clone(),
        place: Place::Head,
        heads: 0,
        changing: false,
        held: Vec::new(),
        open: 0,
        patience: None,
        timer: None,
    }
}

/// What a gate passes on of a piece, with what it held back before.
fn next(gate: &mut Gate, piece: &[u8], out: &mut Vec<u8>) {
    let at_once = gate.admit(piece);
    out.extend_from_slice(&piece[..at_once]);
    let mut buffer = [0; 64];
    let mut into = ReadBuf::new(&mut buffer);
    while gate.pass(&mut into) {
        out.extend_from_slice(into.filled());
        into.clear();
    }
}

/// What passes of a conversation that comes in pieces of this size, and why it was stopped, if it was.
fn passed(conversation: &str, size: usize) -> (String, Option<Malformed>) {
    let marks = Arc::new(Marks::default());
    let (mut gate, mut out) = (gate(&marks), Vec::new());
    conversation.as_bytes().chunks(size).for_each(|piece| next(&mut gate, piece, &mut out));
    (String::from_utf8(out).unwrap(), marks.why_stopped())
}

fn check(conversation: &str, expected: &str, why: Option<Malformed>) {
    for size in [1, 2, 3, 7, 4096] {
        assert_eq!(passed(conversation, size), (expected.to_owned(), why), "{conversation:?} by {size}");
    }
}

#[test]
fn what_is_sound_passes_as_it_came() {
    for conversation in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 16\r\n\r\nGET / HTTP/9.9\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nt: u\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        check(conversation, conversation, None);
    }
}

#[test]
fn a_head_that_is_not_whole_waits() {
    check("GET / HTTP/1.1\r\nhost: a\r\n", "", None);
}

#[test]
fn what_comes_before_a_bad_head_passes_and_nothing_that_comes_after() {
    let good = "POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nok";
    let expected = format!("{good}{}", String::from_utf8_lossy(SUBSTITUTE));
    for (bad, why) in [
        ("GET / HTTP/1.1\r\na b: c\r\n\r\n", Malformed::Syntax),
        ("GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", Malformed::Syntax),
        ("GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\nd:\r\ne:\r\n\r\n", Malformed::TooManyHeaders),
        ("GET / HTTP/2.0\r\n\r\n", Malformed::Version),
        ("GET /\r\n\r\n", Malformed::Version),
        ("GET /a#b HTTP/1.1\r\n\r\n", Malformed::Fragment),
        ("GET / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", Malformed::Lengths),
        ("GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n", Malformed::Syntax),
        ("GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", Malformed::Encoding),
        ("GET / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", Malformed::Encoding),
    ] {
        check(&format!("{good}{bad}GET /never HTTP/1.1\r\n\r\n"), &expected, Some(why));
    }
}

#[test]
fn a_head_that_grows_too_large_is_not_waited_for() {
    let (passed, why) = passed(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(2000)), 100);
    assert_eq!((passed.as_bytes(), why), (SUBSTITUTE, Some(Malformed::TooLarge)));
}

#[test]
fn behind_chunks_that_are_not_plain_nothing_passes() {
    for (ill, passes) in [("3\nabc\r\n", "3\n"), ("0\r\na: b\nc: d\r\n\r\n", "0\r\na: b\n"), ("0\r\n\n", "0\r\n\n")] {
        let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let conversation = format!("{head}{ill}GET /never HTTP/1.1\r\n\r\n");
        check(&conversation, &format!("{head}{passes}\r\0"), None);
    }
}

#[test]
fn what_comes_behind_a_request_for_another_protocol_waits_until_that_is_decided() {
    for ask in [
        "GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "POST / HTTP/1.1\r\nupgrade: a\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nok",
        "POST / HTTP/1.1\r\nupgrade: a\r\nconnection: upgrade\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n\r\n",
    ] {
        for (changed, early, late) in [(true, "GET / HTTP/9.9\r\n\r\n\0", "more"), (false, "", "")] {
            let marks = Arc::new(Marks::default());
            let (mut gate, mut out) = (gate(&marks), Vec::new());
            next(&mut gate, format!("{ask}GET / HTTP/9.9\r\n\r\n\0").as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), ask);
            assert!(gate.is_full() && marks.asks_to_change(1) && !marks.asks_to_change(2));
            marks.decide(changed);
            next(&mut gate, b"", &mut out);
            assert!(!gate.is_full());
            next(&mut gate, b"more", &mut out);
            assert_eq!(
                (String::from_utf8_lossy(&out).into_owned(), marks.why_stopped()),
                (format!("{ask}{early}{late}"), None)
            );
        }
    }
}
