//! What commands read: a file, or standard input.

use std::io::Read;
use std::path::Path;

use anyhow::Context;

/// The text of a file, with the name that it is shown under; `-` is standard input.
pub(crate) fn read(path: &Path) -> anyhow::Result<(String, String)> {
    let (shown, text) = if path == Path::new("-") {
        let mut text = String::new();
        ("standard input".to_owned(), std::io::stdin().read_to_string(&mut text).map(|_| text))
    } else {
        (path.display().to_string(), std::fs::read_to_string(path))
    };
    let text = text.with_context(|| format!("cannot read {shown}"))?;
    Ok((shown, text))
}
