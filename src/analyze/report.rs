//! Findings, printed.

use std::fmt::Write;

use clap::ValueEnum;
use serde::Serialize;
use xds::Severity;
use xds::analysis::Finding;

use super::document::{Document, Files, Place};
use super::{sarif, select};
use crate::output;

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// As istioctl prints them, with the lines that they are about
    #[default]
    #[value(alias = "log")]
    Text,
    Json,
    Yaml,
    /// For tools that show findings in code
    Sarif,
}

/// A finding as istioctl's JSON has it, and what is known beyond that.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    code: &'a str,
    name: &'a str,
    level: &'static str,
    origin: String,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    documentation_url: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    field: &'a str,
    /// `FILE:LINE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'a str>,
}

/// Where in a file a finding is.
pub(super) fn locate<'a>(finding: &Finding, documents: &'a [Document]) -> Option<(&'a str, Place)> {
    // Of several, the one that is applied last.
    let document = documents.iter().rfind(|document| select::is(&document.value, &finding.object))?;
    Some((document.file.as_str(), document.place(&finding.field)?))
}

pub(super) fn print(
    format: Format,
    findings: &[&Finding],
    files: &Files,
    documents: &[Document],
) -> anyhow::Result<()> {
    let messages = || findings.iter().map(|finding| message(finding, documents)).collect::<Vec<_>>();
    match format {
        Format::Text => {
            let text: String = findings.iter().map(|finding| text(finding, files, documents)).collect();
            output::write_stdout(text.as_bytes())
        }
        Format::Json => output::document(output::Format::Json, &messages()),
        Format::Yaml => output::document(output::Format::Yaml, &messages()),
        Format::Sarif => output::document(output::Format::Json, &sarif::log(findings, documents)),
    }
}

fn message<'a>(finding: &'a Finding, documents: &[Document]) -> Message<'a> {
    let place = locate(finding, documents);
    Message {
        code: finding.code,
        name: finding.name,
        level: level(finding.severity),
        origin: origin(finding),
        message: &finding.message,
        documentation_url: finding.documentation_url(),
        field: &finding.field,
        reference: place.map(|(file, Place { line, .. })| format!("{file}:{line}")),
        column: place.map(|(_, Place { column, .. })| column),
        fix: finding.fix.as_deref(),
    }
}

pub(super) fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "Info",
        Severity::Warning => "Warning",
        Severity::Error => "Error",
    }
}

/// `VirtualService default/reviews`, and a name alone for what has no namespace.
pub(super) fn origin(finding: &Finding) -> String {
    let object = &finding.object;
    match object.namespace.as_str() {
        "" => format!("{} {}", object.kind, object.name),
        namespace => format!("{} {namespace}/{}", object.kind, object.name),
    }
}

fn text(finding: &Finding, files: &Files, documents: &[Document]) -> String {
    let place = locate(finding, documents);
    let at = place.map(|(file, Place { line, column })| format!(" {file}:{line}:{column}")).unwrap_or_default();
    let level = level(finding.severity);
    let mut text = format!("{level} [{}] ({}{at}) {}\n", finding.code, origin(finding), finding.message);
    if let Some((file, Place { line, column })) = place
        && let Some(source) = files.line(file, line)
    {
        // Writing to a string cannot fail.
        let _ = write!(text, "  {line:>5} | {source}\n        | {:>column$}\n", "^");
    }
    if let Some(fix) = &finding.fix {
        let _ = writeln!(text, "        fix: {fix}");
    }
    text
}
