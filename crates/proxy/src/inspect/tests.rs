use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{Hello, Inspection, client_hello};

const LIMIT: usize = 16 << 10;

/// The first flight of a real client.
fn flight(server_name: &'static str, protocols: &[&str]) -> Vec<u8> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let mut client = ClientConnection::new(Arc::new(config), server_name.try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn expected(server_name: &str, protocols: &[&str]) -> Inspection {
    let application_protocols = protocols.iter().map(|p| Box::from(*p)).collect();
    Inspection::Hello(Hello { server_name: Some(server_name.into()), application_protocols })
}

/// The same handshake in records of `size` bytes.
fn fragmented(flight: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[22, 3, 1, length[0], length[1]], part].concat()
    };
    flight[5..].chunks(size).flat_map(record).collect()
}

fn xorshift(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 1).unwrap()
}

const SNI: &str = "outbound_.9000_._.tcp-echo.foo.svc.cluster.local";

#[test]
fn a_clients_server_name_and_protocols_are_read() {
    let bytes = flight(SNI, &["istio-peer-exchange", "istio"]);
    assert_eq!(client_hello(&bytes, LIMIT), expected(SNI, &["istio-peer-exchange", "istio"]));
    assert_eq!(client_hello(&flight("Echo.Example", &[]), LIMIT), expected("echo.example", &[]));
}

#[test]
fn every_beginning_needs_more() {
    let bytes = flight(SNI, &["istio"]);
    for end in 0..bytes.len() {
        assert_eq!(client_hello(&bytes[..end], LIMIT), Inspection::NeedMore, "{end}");
    }
}

#[test]
fn a_hello_may_span_records_and_be_followed_by_data() {
    let bytes = flight(SNI, &["istio"]);
    for size in [1, 3, 4, 5, 100, 250] {
        let bytes = fragmented(&bytes, size);
        assert_eq!(client_hello(&bytes[..bytes.len() - 1], LIMIT), Inspection::NeedMore);
        assert_eq!(client_hello(&[&bytes, &b"early data"[..]].concat(), LIMIT), expected(SNI, &["istio"]), "{size}");
    }
}

#[test]
fn other_protocols_are_told_by_their_first_bytes() {
    for bytes in [&b"hello world"[..], b"G", b"\x16\x02", b"\x00", b"\x80\x2e\x01\x03\x01", b"\x15\x03\x01"] {
        assert_eq!(client_hello(bytes, LIMIT), Inspection::NotTls, "{bytes:?}");
    }
}

#[test]
fn what_only_begins_like_tls_is_malformed() {
    let bytes = flight(SNI, &["istio"]);
    let mut server_hello = bytes.clone();
    server_hello[5] = 2;
    let mut interrupted = fragmented(&bytes, 100);
    interrupted[105] = 21;
    for bytes in [&server_hello, &interrupted, &vec![22, 3, 1, 0, 0], &vec![22, 3, 1, 0x40, 1, 1]] {
        assert!(matches!(client_hello(bytes, LIMIT), Inspection::Malformed(_)), "{bytes:?}");
    }
}

#[test]
fn a_hello_beyond_the_limit_is_told_before_it_is_complete() {
    let bytes = flight(SNI, &["istio"]);
    assert_eq!(client_hello(&bytes, 100), Inspection::TooLong);
    assert_eq!(client_hello(&bytes[..9], 100), Inspection::TooLong);
    let endless = fragmented(&[&[0; 5][..], &[1, 0, 0x3f, 0xff], &[0; 20_000]].concat(), 1);
    assert_eq!(client_hello(&endless, LIMIT), Inspection::TooLong);
}

#[test]
fn mutations_never_panic_and_what_is_said_stays_true() {
    let bytes = flight(SNI, &["istio-peer-exchange", "istio", "h2"]);
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for round in 0..100_000 {
        let mut mutated =
            if round % 2 == 0 { bytes.clone() } else { fragmented(&bytes, 1 + xorshift(&mut state) % 40) };
        for _ in 0..=xorshift(&mut state) % 4 {
            let at = xorshift(&mut state) % mutated.len();
            mutated[at] = xorshift(&mut state).to_le_bytes()[0];
        }
        mutated.truncate(xorshift(&mut state) % (2 * mutated.len()));
        let half = client_hello(&mutated[..mutated.len() / 2], LIMIT);
        if half != Inspection::NeedMore {
            assert_eq!(client_hello(&mutated, LIMIT), half, "more bytes do not change what was said");
        }
    }
}

#[test]
fn random_bytes_after_a_plausible_header_never_panic() {
    let mut state = 0x0123_4567_89ab_cdef;
    for _ in 0..100_000 {
        let length = xorshift(&mut state) % 200;
        let mut bytes = vec![22, 3, 1, 0, length.to_le_bytes()[0], 1, 0, 0, length.saturating_sub(4).to_le_bytes()[0]];
        bytes.extend((0..length).map(|_| xorshift(&mut state).to_le_bytes()[0]));
        assert_ne!(client_hello(&bytes, LIMIT), Inspection::NotTls);
    }
}
