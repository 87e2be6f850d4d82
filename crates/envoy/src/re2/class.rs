//! Classes of characters in brackets.

use super::escape;

/// The classes that have names.
const NAMED: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Translates what follows an opening bracket; returns what follows the closing one.
pub(super) fn translate<'a>(text: &'a str, output: &mut String) -> Result<&'a str, String> {
    output.push('[');
    let mut rest = text;
    if let Some(tail) = rest.strip_prefix('^') {
        output.push('^');
        rest = tail;
    }
    let mut first = true;
    loop {
        // A bracket that comes first stands for itself.
        if let Some(tail) = rest.strip_prefix(']').filter(|_| !first) {
            output.push(']');
            return Ok(tail);
        }
        if rest.is_empty() {
            return Err("has an unclosed class of characters".to_owned());
        }
        first = false;
        rest = item(rest, output)?;
    }
}

/// A named class, a property, a Perl class, or characters from one to another.
fn item<'a>(text: &'a str, output: &mut String) -> Result<&'a str, String> {
    if let Some((name, tail)) = text.strip_prefix("[:").and_then(|named| named.split_once(":]")) {
        if !NAMED.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("has the class {name:?}, which RE2 does not know"));
        }
        output.push_str(&format!("[:{name}:]"));
        return Ok(tail);
    }
    if let Some(tail) = text.strip_prefix('\\') {
        if tail.starts_with(['p', 'P']) {
            return escape::property(tail, output);
        }
        if let Some(class) = tail.chars().next().and_then(escape::perl_class) {
            output.push_str(class);
            return Ok(tail.get(1..).unwrap_or_default());
        }
    }
    let (low, rest) = character(text)?;
    escape::push(low, output);
    let Some(tail) = rest.strip_prefix('-').filter(|tail| !tail.starts_with(']')) else { return Ok(rest) };
    let (high, rest) = character(tail)?;
    if high < low {
        return Err(format!("has a class from {low:?} to {high:?}, which is before it"));
    }
    output.push('-');
    escape::push(high, output);
    Ok(rest)
}

fn character(text: &str) -> Result<(char, &str), String> {
    if let Some(tail) = text.strip_prefix('\\') {
        return escape::character(tail);
    }
    let character = text.chars().next().ok_or("has an unclosed class of characters")?;
    Ok((character, text.get(character.len_utf8()..).unwrap_or_default()))
}
