//! Conversations, and what hyper gets to see of them.

use super::*;

const LIMITS: Limits = Limits { head: 1024, headers: 4 };

/// What passes of a conversation that comes in pieces of this size, and why it was stopped, if it was.
fn passed(conversation: &str, size: usize) -> (String, Option<Malformed>) {
    let stopped = Arc::new(Stopped::default());
    let mut gate = Gate {
        limits: LIMITS,
        stopped: stopped.clone(),
        place: Place::Head,
        heads: 0,
        held: Vec::new(),
        open: 0,
        patience: None,
        timer: None,
    };
    let mut out = Vec::new();
    for piece in conversation.as_bytes().chunks(size) {
        let at_once = gate.admit(piece);
        out.extend_from_slice(&piece[..at_once]);
        let mut buffer = [0; 64];
        let mut into = ReadBuf::new(&mut buffer);
        while gate.pass(&mut into) {
            out.extend_from_slice(into.filled());
            into.clear();
        }
    }
    (String::from_utf8(out).unwrap(), stopped.0.get().map(|(_, why)| *why))
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
        "GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nanything at all\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n\r\n\0\0\r\n\r\n",
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
fn behind_chunks_that_are_not_plain_nothing_is_looked_at() {
    let conversation = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\nGET / HTTP/9.9\r\n\r\n";
    check(conversation, conversation, None);
}

#[test]
fn only_the_request_of_its_number_is_refused() {
    let stopped = Stopped(OnceLock::from((2, Malformed::Version)));
    assert!(stopped.reply(1).is_none());
    assert_eq!(stopped.reply(2).map(|reply| reply.status), Some(StatusCode::UPGRADE_REQUIRED));
}
