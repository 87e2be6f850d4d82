//! Any bytes may come first on a connection. What was once said of them stays true when more come.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::inspect::{Inspection, client_hello};

/// As in the listener filter, in bytes.
const LIMIT: usize = 16 << 10;

fuzz_target!(|bytes: &[u8]| {
    let whole = client_hello(bytes, LIMIT);
    let middle = bytes.get(..bytes.len() / 2).unwrap_or_default();
    let half = client_hello(middle, LIMIT);
    if half != Inspection::NeedMore {
        assert_eq!(half, whole);
    }
    if bytes.len() < LIMIT && matches!(whole, Inspection::Hello(_)) {
        let more = [bytes, b"and more"].concat();
        assert_eq!(client_hello(&more, LIMIT), whole);
    }
});
