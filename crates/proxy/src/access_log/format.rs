//! Formats, as text or as JSON.

use std::fmt::Write;

use http::HeaderName;
use prost_types::Struct;

use super::Entry;
use super::header::HeaderOperator;
use super::json::Json;
use super::operator::Operator;

/// Envoy's own format, for a log that gives none.
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// A compiled format.
#[derive(Debug, Clone)]
pub struct Format(Shape);

#[derive(Debug, Clone)]
enum Shape {
    Text(Text),
    Json(Json),
}

/// Text with operators in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    pub(super) pieces: Box<[Piece]>,
    /// Whether a missing value leaves nothing; otherwise it leaves `-`.
    pub(super) omit_empty: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Literal(Box<str>),
    Operator(Operator),
}

impl Default for Format {
    fn default() -> Format {
        Format::text(DEFAULT, false).expect("the default format has only known operators")
    }
}

impl Format {
    /// Compiles a text format, such as `%BYTES_SENT% %DURATION%\n`. The error is a clause.
    pub fn text(format: &str, omit_empty: bool) -> Result<Format, String> {
        Text::parse(format, omit_empty).map(|text| Format(Shape::Text(text)))
    }

    /// Compiles a JSON format: an object whose texts are text formats. The error is a clause.
    ///
    /// A text that is a single operator takes the type of its value; a missing value is `null`, or leaves the field
    /// out with `omit_empty`. Each line is one object, its fields in alphabetical order.
    pub fn json(format: &Struct, omit_empty: bool) -> Result<Format, String> {
        Json::parse(format, omit_empty).map(|json| Format(Shape::Json(json)))
    }

    /// The headers of requests, and those of responses, that lines may show.
    pub fn headers(&self) -> (Vec<HeaderName>, Vec<HeaderName>) {
        let mut operators = Vec::new();
        match &self.0 {
            Shape::Text(text) => text.operators(&mut operators),
            Shape::Json(json) => json.operators(&mut operators),
        }
        let request = operators.iter().filter_map(|o| o.request()).flat_map(HeaderOperator::names).cloned();
        let response = operators.iter().filter_map(|o| o.response()).flat_map(HeaderOperator::names).cloned();
        (request.collect(), response.collect())
    }

    /// Appends the line of a connection to `out`.
    pub fn render(&self, entry: &Entry<'_>, out: &mut String) {
        match &self.0 {
            Shape::Text(text) => text.render(entry, out),
            Shape::Json(json) => json.render(entry, out),
        }
    }
}

impl Text {
    /// Compiles a text with operators; `omit_empty` says whether a missing value leaves nothing. The error is a clause.
    pub fn parse(format: &str, omit_empty: bool) -> Result<Text, String> {
        let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), format);
        while let Some((before, after)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let (command, after) = command(after).ok_or_else(|| format!("has an unclosed operator: %{after}"))?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal).into()));
            }
            pieces.push(Piece::Operator(Operator::parse(command)?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.into()));
        }
        Ok(Text { pieces: pieces.into(), omit_empty })
    }

    pub(super) fn operators<'t>(&'t self, into: &mut Vec<&'t Operator>) {
        into.extend(self.pieces.iter().filter_map(|piece| match piece {
            Piece::Operator(operator) => Some(operator),
            Piece::Literal(_) => None,
        }));
    }

    /// The text, if no operator is in it.
    pub fn as_literal(&self) -> Option<&str> {
        match &*self.pieces {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends what the text is for an entry.
    pub fn render(&self, entry: &Entry<'_>, out: &mut impl Write) {
        for piece in &self.pieces {
            let written = match piece {
                Piece::Literal(text) => out.write_str(text).map(|()| true),
                Piece::Operator(operator) => operator.write(entry, out),
            };
            if written == Ok(false) && !self.omit_empty {
                out.write_str("-").expect("a buffer in memory takes all");
            }
        }
    }
}

/// Splits an operator from what follows its percent sign; one inside parentheses belongs to the argument.
fn command(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_u32;
    let end = text.find(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == '%' && depth == 0
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}
