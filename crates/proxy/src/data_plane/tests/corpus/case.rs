//! The cases, as their files have them.

use std::fmt;

/// Bytes, and what becomes of them.
pub(super) struct Case {
    pub(super) file: &'static str,
    pub(super) name: String,
    pub(super) listener: String,
    /// The document and the section of it that the case holds us to, if it is one of the IETF's on HTTP/2.
    pub(super) rfc: Option<String>,
    /// Whether a good request follows, whose answer shows that the connection is still understood.
    pub(super) probed: bool,
    pub(super) wire: Wire,
    pub(super) envoys: Outcome,
    /// What becomes of it here, where that is something else, and why it is.
    pub(super) ours: Option<Outcome>,
    pub(super) why: Option<String>,
}

/// What is sent.
pub(super) enum Wire {
    Lines(Vec<u8>),
    Frames(Vec<String>),
}

/// What has come back, and what upstream has got.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) answers: String,
    pub(super) seen: Vec<String>,
}

impl Outcome {
    /// Whether in the end nothing comes, and nothing ends.
    pub(super) fn waits(&self) -> bool {
        self.answers.ends_with("waits")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "= {}", self.answers)?;
        self.seen.iter().try_for_each(|seen| writeln!(f, "^ {seen}"))
    }
}

impl Case {
    /// What has to become of it here.
    pub(super) fn ours(&self) -> &Outcome {
        self.ours.as_ref().unwrap_or(&self.envoys)
    }
}

/// The cases of a file. A line that is none of a case is a remark.
pub(super) fn read(file: &'static str, text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            cases.push(empty(file, name));
        } else if let Some(case) = cases.last_mut() {
            add(case, line);
        }
    }
    cases
}

fn empty(file: &'static str, name: &str) -> Case {
    Case {
        file,
        name: name.to_owned(),
        listener: "base".to_owned(),
        rfc: None,
        probed: true,
        wire: Wire::Lines(Vec::new()),
        envoys: Outcome::default(),
        ours: None,
        why: None,
    }
}

fn add(case: &mut Case, line: &str) {
    let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
    match mark {
        "at" => case.listener = rest.to_owned(),
        "rfc" => case.rfc = Some(rest.to_owned()),
        "alone" => case.probed = false,
        ">" | ">>" => {
            let Wire::Lines(bytes) = &mut case.wire else { panic!("{}: lines among frames", case.name) };
            bytes.extend(unescaped(rest));
            if mark == ">" {
                bytes.extend(b"\r\n");
            }
        }
        "~" => match &mut case.wire {
            Wire::Frames(frames) => frames.push(rest.to_owned()),
            Wire::Lines(_) => case.wire = Wire::Frames(vec![rest.to_owned()]),
        },
        "=" => case.envoys.answers = rest.to_owned(),
        "^" => case.envoys.seen.push(rest.to_owned()),
        "ours=" => case.ours.get_or_insert_default().answers = rest.to_owned(),
        "ours^" => case.ours.get_or_insert_default().seen.push(rest.to_owned()),
        "why:" => case.why = Some(rest.to_owned()),
        "" | "#" => {}
        _ => panic!("{}: {line:?} is not understood", case.name),
    }
}

/// Bytes as they are written: `\r`, `\n`, `\t`, `\0`, `\\`, `\xNN`, and `\{N*TEXT}` for a text N times.
pub(super) fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.extend(before.as_bytes());
        let (kind, tail) = after.split_at(1);
        rest = tail;
        match kind {
            "r" => out.push(b'\r'),
            "n" => out.push(b'\n'),
            "t" => out.push(b'\t'),
            "0" => out.push(0),
            "x" => {
                out.push(u8::from_str_radix(&tail[..2], 16).unwrap());
                rest = &tail[2..];
            }
            "{" => {
                let (inside, tail) = tail.split_once('}').unwrap();
                let (count, repeated) = inside.split_once('*').unwrap();
                out.extend(repeated.as_bytes().repeat(count.parse().unwrap()));
                rest = tail;
            }
            _ => out.extend(kind.as_bytes()),
        }
    }
    out.extend(rest.as_bytes());
    out
}
