//! Random name suffixes.

/// The characters of generated names: no vowels, so that no words appear, and nothing that looks like something else.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five random characters, as Kubernetes appends to `generateName`.
pub(crate) fn suffix() -> String {
    uuid::Uuid::new_v4().as_bytes().iter().take(5).map(|byte| character(usize::from(*byte))).collect()
}

/// `text` in the alphabet of generated names, character by character (`rand.SafeEncodeString`).
pub(crate) fn encode(text: &str) -> String {
    text.bytes().map(|byte| character(usize::from(byte))).collect()
}

fn character(n: usize) -> char {
    char::from(ALPHABET[n % ALPHABET.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_five_safe_characters() {
        let suffix = suffix();
        assert_eq!(suffix.len(), 5);
        assert!(suffix.bytes().all(|b| ALPHABET.contains(&b)));
        assert_eq!(encode("59"), "9f", "bytes 53 and 57 modulo 27");
    }
}
