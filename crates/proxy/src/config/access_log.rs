//! Access logs: where lines go, and which.

use std::path::PathBuf;
use std::sync::Arc;

use envoy::envoy::config::accesslog::v3;
use envoy::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy::envoy::config::core::v3::SubstitutionFormatString;
use envoy::envoy::config::core::v3::substitution_format_string::Format as Wire;
use envoy::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat as FileFormat;
use envoy::envoy::extensions::access_loggers::stream::v3::stderr_access_log::AccessLogFormat as StderrFormat;
use envoy::envoy::extensions::access_loggers::stream::v3::stdout_access_log::AccessLogFormat as StdoutFormat;
use envoy::envoy::extensions::access_loggers::stream::v3::{StderrAccessLog, StdoutAccessLog};

use super::data_source::bytes;
use super::field::{Checked, Path, fields};
use crate::access_log::{Flag, Flags, Format};

/// An access log.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Where its lines go.
    pub sink: Sink,
    /// What its lines are.
    pub format: Arc<Format>,
    /// If set, only connections with one of these flags are logged; an empty set stands for any flag.
    pub flags: Option<Flags>,
}

/// Where the lines of an access log go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sink {
    /// To standard output.
    Stdout,
    /// To standard error.
    Stderr,
    /// To the end of a file.
    File(PathBuf),
}

impl AccessLog {
    /// Whether a connection with `flags` is logged.
    pub fn wants(&self, flags: Flags) -> bool {
        match self.flags {
            None => true,
            Some(any) if any.is_empty() => !flags.is_empty(),
            Some(some) => some.intersects(flags),
        }
    }
}

pub(super) fn from_messages(at: &Path<'_>, messages: Vec<v3::AccessLog>) -> Checked<Box<[AccessLog]>> {
    messages.into_iter().enumerate().map(|(i, message)| from_message(&at.index(i), message)).collect()
}

fn from_message(at: &Path<'_>, message: v3::AccessLog) -> Checked<AccessLog> {
    // The name of a log is free text.
    let v3::AccessLog { name: _, filter, config_type } = message;
    let flags = filter.map(|f| flags(&at.field("filter"), f)).transpose()?;
    let at = at.field("typed_config");
    let ConfigType::TypedConfig(any) = at.required(config_type)?;
    let log_format = at.field("log_format");
    let (sink, format) = match any.type_url.as_str() {
        "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog" => file(&at, at.decode(&any)?)?,
        "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" => {
            let StdoutAccessLog { access_log_format } = at.decode(&any)?;
            let format = access_log_format.map(|StdoutFormat::LogFormat(f)| substitution(&log_format, f));
            (Sink::Stdout, format.transpose()?)
        }
        "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog" => {
            let StderrAccessLog { access_log_format } = at.decode(&any)?;
            let format = access_log_format.map(|StderrFormat::LogFormat(f)| substitution(&log_format, f));
            (Sink::Stderr, format.transpose()?)
        }
        _ => return Err(at.unknown_type(&any)),
    };
    Ok(AccessLog { sink, format: Arc::new(format.unwrap_or_default()), flags })
}

fn file(at: &Path<'_>, message: FileAccessLog) -> Checked<(Sink, Option<Format>)> {
    let FileAccessLog { path, access_log_format } = message;
    let sink = match at.field("path").named(&path)? {
        "/dev/stdout" => Sink::Stdout,
        "/dev/stderr" => Sink::Stderr,
        path => Sink::File(path.into()),
    };
    let format = match access_log_format {
        None => None,
        Some(FileFormat::LogFormat(format)) => Some(substitution(&at.field("log_format"), format)?),
        Some(FileFormat::Format(text)) => Some(text_format(&at.field("format"), &text, false)?),
        Some(FileFormat::JsonFormat(_)) => return Err(at.field("json_format").reject("use log_format")),
        Some(FileFormat::TypedJsonFormat(_)) => return Err(at.field("typed_json_format").reject("use log_format")),
    };
    Ok((sink, format))
}

fn substitution(at: &Path<'_>, message: SubstitutionFormatString) -> Checked<Format> {
    // The type of content is of HTTP bodies; properties are always sorted.
    fields!(at, message => SubstitutionFormatString { omit_empty_values, format } refuse { formatters }
        ignore { content_type, json_format_options });
    match at.required(format)? {
        Wire::TextFormat(text) => text_format(&at.field("text_format"), &text, omit_empty_values),
        Wire::TextFormatSource(source) => {
            let at = at.field("text_format_source");
            let text = String::from_utf8(bytes(&at, source)?).map_err(|_| at.reject("is not UTF-8"))?;
            text_format(&at, &text, omit_empty_values)
        }
        Wire::JsonFormat(fields) => {
            Format::json(&fields, omit_empty_values).map_err(|reason| at.field("json_format").reject(reason))
        }
    }
}

fn text_format(at: &Path<'_>, text: &str, omit_empty: bool) -> Checked<Format> {
    Format::text(text, omit_empty).map_err(|reason| at.reject(reason))
}

fn flags(at: &Path<'_>, filter: v3::AccessLogFilter) -> Checked<Flags> {
    let Some(FilterSpecifier::ResponseFlagFilter(filter)) = filter.filter_specifier else {
        return Err(at.reject("only response_flag_filter is supported"));
    };
    let at = at.field("response_flag_filter");
    let at = at.field("flags");
    filter.flags.iter().enumerate().try_fold(Flags::default(), |flags, (i, name)| {
        let known = Flag::parse(name).ok_or_else(|| at.index(i).reject(format_args!("{name:?} is not a flag")));
        known.map(|flag| flags.with(flag))
    })
}
