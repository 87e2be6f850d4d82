//! Frames that are many, and too many.

use super::*;

const LIMITS: FrameLimits = FrameLimits { control: 3, empty: 1, priorities_per_stream: 2, windows_per_data: 4 };

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A connection that has begun.
fn flood() -> Flood {
    let mut flood = Flood::new(LIMITS);
    assert_eq!(flood.came(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Ok(()));
    flood
}

/// How many of a frame pass until there are too many.
fn passing(flood: &mut Flood, frame: &[u8], excess: Excess) -> usize {
    let found = (0..1000).find_map(|passed| Some((passed, flood.came(frame).err()?)));
    let (passed, found) = found.unwrap();
    assert_eq!(found, excess);
    passed
}

#[test]
fn what_wants_answers_passes_as_long_as_it_waits_for_them() {
    let (ping, settings) = (frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[]));
    assert_eq!(passing(&mut flood(), &ping, Excess::Control), 3);
    let mut flood = flood();
    for _ in 0..1000 {
        assert_eq!(flood.came(&[&*ping, &settings, &frame(SETTINGS, ACK, 0, &[]), &ping].concat()), Ok(()));
        flood.caught_up();
    }
}

#[test]
fn one_frame_in_a_row_may_carry_nothing() {
    let empty = frame(DATA, 0, 1, &[]);
    assert_eq!(passing(&mut flood(), &empty, Excess::Empty), 1);
    assert_eq!(passing(&mut flood(), &frame(DATA, 8, 1, &[2, 0, 0]), Excess::Empty), 1);
    let mut flood = flood();
    for _ in 0..1000 {
        let last = frame(DATA, END_STREAM, 1, &[]);
        assert_eq!(flood.came(&[&*empty, &frame(DATA, 0, 1, b"a"), &empty, &last].concat()), Ok(()));
    }
}

#[test]
fn streams_allow_for_priorities() {
    let priority = frame(PRIORITY, 0, 1, &[0; 5]);
    assert_eq!(passing(&mut flood(), &priority, Excess::Priority), 2);
    let mut flood = flood();
    // Trailers open no stream.
    for stream in [1, 1, 3] {
        assert_eq!(flood.came(&frame(HEADERS, 4, stream, b"a")), Ok(()));
    }
    assert_eq!(passing(&mut flood, &priority, Excess::Priority), 6);
}

#[test]
fn data_that_was_sent_allows_for_windows() {
    let window = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
    assert_eq!(passing(&mut flood(), &window, Excess::Window), 5);
    let mut flood = flood();
    assert_eq!(flood.came(&frame(HEADERS, 4, 1, b"a")), Ok(()));
    flood.went(&[frame(HEADERS, 4, 1, b"a"), frame(DATA, 0, 1, b"abc"), frame(DATA, 1, 1, b"")].concat());
    assert_eq!(passing(&mut flood, &window, Excess::Window), 5 + 2 * (1 + 4 * 2));
}
