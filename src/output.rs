//! Results go to stdout, everything else to stderr; colours only where a person looks.

use std::io::Write;
use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// How a command prints its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

/// Prints a document as JSON or YAML; the caller prints tables itself.
pub(crate) fn document(format: Format, value: &impl Serialize) -> anyhow::Result<()> {
    let text = match format {
        Format::Yaml => serde_saphyr::to_string(value)?,
        Format::Json | Format::Table => serde_json::to_string_pretty(value)? + "\n",
    };
    write_stdout(text.as_bytes())
}

/// A reader that has seen enough (`| head`) is not an error.
pub(crate) fn write_stdout(bytes: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().write_all(bytes) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints rows as kubectl prints tables: upper-case headers, three spaces, no borders.
pub(crate) fn table(headers: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> anyhow::Result<()> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(headers.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    write_stdout((table.trim_fmt() + "\n").as_bytes())
}

/// Tells progress. That nobody can be told stops nothing.
pub(crate) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Starts the log of one of the federation's own processes: to stderr, which its starter has pointed at a file.
/// `ISTHMUS_LOG` chooses what is logged, as `info,kube=debug`. A request that failed is told of by whoever made it, and
/// not by the library as well.
pub(crate) fn log() {
    drop(adjustable_log());
}

/// Like [`log`], and what is logged can be changed: the function takes such a choice, or keeps the last one if it is none.
pub(crate) fn adjustable_log() -> impl Fn(&str) + Send + Sync {
    let filter = EnvFilter::try_from_env("ISTHMUS_LOG").unwrap_or_else(|_| EnvFilter::new("info,kube=off,hyper=warn"));
    // Where the disk is full, a complaint about a lost line would end the thread that logs.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let log = log.with_ansi(false).with_writer(std::io::stderr).with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    move |choice| {
        let changed = EnvFilter::try_new(choice).map_err(|e| e.to_string());
        if let Err(error) = changed.and_then(|filter| handle.reload(filter).map_err(|e| e.to_string())) {
            tracing::warn!(choice, error, "what is logged stays as it is");
        }
    }
}

/// Tells a failure, with its causes, in one line.
pub(crate) fn error(error: &anyhow::Error) {
    let _ = writeln!(anstream::stderr(), "error: {error:#}");
}

/// 0 for yes, 1 for no.
pub(crate) fn verdict(yes: bool) -> ExitCode {
    if yes { ExitCode::SUCCESS } else { ExitCode::from(crate::cli::NO) }
}
