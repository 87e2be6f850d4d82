//! What follows a backslash.

/// What a Perl class means in RE2.
pub(super) fn perl_class(letter: char) -> Option<&'static str> {
    Some(match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        's' => r"[\t\n\f\r ]",
        'S' => r"[^\t\n\f\r ]",
        _ => return None,
    })
}

/// General categories that RE2 knows.
const CATEGORIES: [&str; 37] = [
    "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P",
    "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs", "Any",
];

/// Translates what follows a backslash outside of classes; returns what follows that.
pub(super) fn outside<'a>(tail: &'a str, output: &mut String) -> Result<&'a str, String> {
    let letter = tail.chars().next().ok_or("ends in a backslash")?;
    let rest = tail.get(letter.len_utf8()..).unwrap_or_default();
    match letter {
        'Q' => {
            let (literal, after) = rest.split_once(r"\E").unwrap_or((rest, ""));
            output.push_str(&regex::escape(literal));
            return Ok(after);
        }
        'A' => output.push_str(r"\A"),
        'z' => output.push_str(r"\z"),
        // A brace that follows stands for itself, or repeats; the crate would take it for part of this.
        'b' => output.push_str(r"(?:(?-u:\b))"),
        'B' => output.push_str(r"(?:(?-u:\B))"),
        'C' => return Err(r"has \C, a single byte, which is not supported: write what the byte may be".to_owned()),
        'p' | 'P' => return property(tail, output),
        letter => match perl_class(letter) {
            Some(class) => output.push_str(class),
            None => {
                let (character, rest) = character(tail)?;
                push(character, output);
                return Ok(rest);
            }
        },
    }
    Ok(rest)
}

/// The character that follows a backslash stands for, and what follows that.
pub(super) fn character(tail: &str) -> Result<(char, &str), String> {
    let letter = tail.chars().next().ok_or("ends in a backslash")?;
    let rest = tail.get(letter.len_utf8()..).unwrap_or_default();
    let unknown = || format!(r"has \{letter}, which RE2 does not know");
    let plain = match letter {
        'a' => '\x07',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'x' => return hexadecimal(rest),
        '0'..='7' => return octal(tail),
        letter if letter.is_ascii_punctuation() || letter == ' ' => letter,
        _ => return Err(unknown()),
    };
    Ok((plain, rest))
}

/// Up to three octal digits. A single one that is not zero would refer to a group, which RE2 does not.
fn octal(tail: &str) -> Result<(char, &str), String> {
    let length = tail.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
    let digits = tail.get(..length).unwrap_or_default();
    if length == 1 && digits != "0" {
        return Err(format!(r"has \{digits}, which refers to a group, and RE2 does not know that"));
    }
    byte(digits, 8).map(|character| (character, tail.get(length..).unwrap_or_default()))
}

/// Two hexadecimal digits, or any number of them in braces.
fn hexadecimal(rest: &str) -> Result<(char, &str), String> {
    let wrong = || r"has \x without two hexadecimal digits, or some in braces".to_owned();
    match rest.strip_prefix('{') {
        Some(braced) => {
            let (digits, after) = braced.split_once('}').ok_or_else(wrong)?;
            byte(digits, 16).map(|character| (character, after))
        }
        None => {
            let digits = rest.get(..2).ok_or_else(wrong)?;
            byte(digits, 16).map(|character| (character, rest.get(2..).unwrap_or_default()))
        }
    }
}

/// Envoy's characters are bytes.
fn byte(digits: &str, base: u32) -> Result<char, String> {
    let number = u8::from_str_radix(digits, base).ok().filter(|_| !digits.starts_with('+'));
    number.map(char::from).ok_or_else(|| format!("has the number {digits:?} of a character, which must be at most 255"))
}

/// Translates `pN`, `p{NAME}` or `p{^NAME}`, or the same with `P`; returns what follows.
pub(super) fn property<'a>(tail: &'a str, output: &mut String) -> Result<&'a str, String> {
    let negative = tail.starts_with('P');
    let rest = tail.get(1..).unwrap_or_default();
    let (name, after) = match rest.strip_prefix('{') {
        Some(braced) => braced.split_once('}').ok_or("has an unclosed property of characters")?,
        None => {
            let letter = rest.chars().next().ok_or("ends in a property of characters without a name")?;
            rest.split_at(letter.len_utf8())
        }
    };
    let (name, inverted) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
    let letter = if negative == inverted { 'p' } else { 'P' };
    let words = || name.split('_').all(|word| word.starts_with(|c: char| c.is_ascii_uppercase()) && word.len() > 1);
    if CATEGORIES.contains(&name) {
        output.push_str(&format!(r"\{letter}{{{name}}}"));
    } else if words() && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_') && name != name.to_uppercase() {
        // What else the crate knows under a name like this is no script, and unknown to RE2.
        output.push_str(&format!(r"\{letter}{{Script={name}}}"));
    } else {
        return Err(format!("has the property {name:?} of characters, which RE2 does not know"));
    }
    Ok(after)
}

/// Writes a character that stands for itself, in a class or outside.
pub(super) fn push(character: char, output: &mut String) {
    match character {
        c if c.is_ascii_alphanumeric() || !c.is_ascii() => output.push(c),
        c => output.push_str(&format!(r"\x{{{:x}}}", u32::from(c))),
    }
}
