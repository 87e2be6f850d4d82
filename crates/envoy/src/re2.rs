//! Regular expressions with RE2's meaning, which Envoy gives them.
//!
//! The syntax of the `regex` crate differs: its Perl classes are Unicode, RE2's are ASCII; it has operations on classes, flags
//! and properties that RE2 has not, and takes repetitions of repetitions; RE2 has `\Q…\E`, octal numbers, and literal braces,
//! and repeats nothing more than a thousand times. An expression is rewritten where both can say it, and refused where RE2
//! refuses it, or where it says what the crate cannot.
//!
//! One difference remains: Envoy takes characters beyond ASCII for several, one for each of their bytes.

mod class;
mod escape;
#[cfg(test)]
mod tests;

use regex::{Regex, RegexBuilder};

/// What one expression may cost in memory once compiled, in bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// How often anything may be repeated, taking repetitions inside of repetitions together.
const MOST_REPETITIONS: u32 = 1000;

/// Compiles an expression that must match the whole text. The error is a clause.
pub fn compile(expression: &str) -> Result<Regex, String> {
    build(&format!(r"\A(?:{})\z", translate(expression)?))
}

/// Compiles an expression that may match a part of a text. The error is a clause.
pub fn compile_part(expression: &str) -> Result<Regex, String> {
    build(&translate(expression)?)
}

fn build(translated: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(translated).size_limit(SIZE_LIMIT).build();
    built.map_err(|e| format!("is not a usable regular expression: {}", e.to_string().replace('\n', " ")))
}

/// Where a translation is.
struct Translation<'a> {
    rest: &'a str,
    output: String,
    /// How often the most repeated thing is repeated: in each group that is open, and in what was read last.
    groups: Vec<u32>,
    last: u32,
    /// Whether what was read last is itself a repetition.
    repeated: bool,
}

fn translate(expression: &str) -> Result<String, String> {
    let mut translation = Translation {
        rest: expression,
        output: String::with_capacity(expression.len()),
        groups: vec![1],
        last: 1,
        repeated: false,
    };
    while let Some(c) = translation.rest.chars().next() {
        translation.step(c)?;
    }
    Ok(translation.output)
}

impl<'a> Translation<'a> {
    fn step(&mut self, c: char) -> Result<(), String> {
        match c {
            '\\' => {
                self.rest = escape::outside(self.after(1), &mut self.output)?;
                self.atom(1);
            }
            '[' => {
                self.rest = class::translate(self.after(1), &mut self.output)?;
                self.atom(1);
            }
            '(' => self.open()?,
            ')' => {
                let inner = if self.groups.len() > 1 { self.groups.pop().unwrap_or(1) } else { 1 };
                self.take(1);
                self.atom(inner);
            }
            '|' => {
                self.take(1);
                (self.last, self.repeated) = (1, false);
            }
            '*' | '+' | '?' => {
                self.take(1);
                self.repeat(&c.to_string(), 1)?;
            }
            '{' => self.brace()?,
            '}' => self.literal("\\}", 1),
            c => {
                self.take(c.len_utf8());
                self.atom(1);
            }
        }
        Ok(())
    }

    fn after(&self, bytes: usize) -> &'a str {
        self.rest.get(bytes..).unwrap_or_default()
    }

    /// Copies what comes next.
    fn take(&mut self, bytes: usize) {
        self.output.push_str(self.rest.get(..bytes).unwrap_or_default());
        self.rest = self.after(bytes);
    }

    fn literal(&mut self, text: &str, bytes: usize) {
        self.output.push_str(text);
        self.rest = self.after(bytes);
        self.atom(1);
    }

    /// Something that can be repeated has been read; what is inside is repeated so often.
    fn atom(&mut self, inner: u32) {
        self.note(inner);
        (self.last, self.repeated) = (inner, false);
    }

    fn note(&mut self, times: u32) {
        if let Some(open) = self.groups.last_mut() {
            *open = times.max(*open);
        }
    }

    /// What was read last is repeated; a question mark that follows makes it lazy.
    fn repeat(&mut self, written: &str, times: u32) -> Result<(), String> {
        if self.repeated {
            return Err(format!("has {written:?} behind another repetition, which RE2 refuses"));
        }
        let product = self.last.saturating_mul(times.max(1));
        if product > MOST_REPETITIONS {
            return Err(format!("repeats something more than {MOST_REPETITIONS} times, which RE2 refuses"));
        }
        if self.rest.starts_with('?') {
            self.take(1);
        }
        self.note(product);
        (self.last, self.repeated) = (product, true);
        Ok(())
    }

    /// A repetition, or else a brace that stands for itself.
    fn brace(&mut self) -> Result<(), String> {
        let Some((least, most, length)) = counts(self.after(1)) else {
            self.literal("\\{", 1);
            return Ok(());
        };
        let written = self.rest.get(..=length).unwrap_or_default();
        let times = most.unwrap_or(least);
        if least > MOST_REPETITIONS || times > MOST_REPETITIONS {
            return Err(format!("has {written:?}, and RE2 repeats nothing more than {MOST_REPETITIONS} times"));
        }
        self.take(length + 1);
        self.repeat(written, times)
    }

    /// The beginning of a group. Names say nothing here, and the crate takes fewer of them.
    fn open(&mut self) -> Result<(), String> {
        let flags = self.rest.strip_prefix("(?");
        let named = flags.and_then(|flags| flags.strip_prefix("P<").or_else(|| flags.strip_prefix('<')));
        if let Some(named) = named.filter(|named| !named.starts_with(['=', '!'])) {
            let (name, rest) = named.split_once('>').ok_or("has an unclosed name of a group")?;
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(format!("has the group name {name:?}, which is none in RE2"));
            }
            self.output.push('(');
            self.rest = rest;
        } else if let Some(flags) = flags {
            let end = flags.find([':', ')']).ok_or("has an unclosed group")?;
            let (letters, tail) = flags.split_at(end);
            let valid = letters.chars().all(|c| "imsU-".contains(c)) && !letters.ends_with('-');
            if !valid || letters.matches('-').count() > 1 {
                return Err(format!("has \"(?{letters}\", which RE2 does not know"));
            }
            if tail.starts_with(')') {
                // Flags alone are nothing that could be repeated. Without a letter they say nothing.
                let bytes = end + 3;
                if letters.is_empty() {
                    self.rest = self.after(bytes)
                } else {
                    self.take(bytes)
                }
                (self.last, self.repeated) = (1, false);
                return Ok(());
            }
            self.take(end + 3);
        } else {
            self.take(1);
        }
        self.groups.push(1);
        (self.last, self.repeated) = (1, false);
        Ok(())
    }
}

/// Reads `N}`, `N,}` or `N,M}`: the least, the most, and how long that is.
fn counts(text: &str) -> Option<(u32, Option<u32>, usize)> {
    let (inside, _) = text.split_once('}')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // One with a zero in front is no number, and one that is too long is more than can be meant.
        let leading = text.len() > 1 && text.starts_with('0');
        (digits && !leading).then(|| text.parse().unwrap_or(u32::MAX))
    };
    let (least, most) = match inside.split_once(',') {
        None => (number(inside)?, Some(number(inside)?)),
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((least, most, inside.len() + 1))
}
