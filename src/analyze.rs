//! `isthmus analyze`: what is wrong with the objects of a cluster, of files, or of both.
//!
//! Objects in files take the place of those of the same name in the cluster, so that a change can be looked at before it is
//! applied.

mod document;
mod report;
mod sarif;
mod select;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, ValueEnum};
use serde_json::Value;
use xds::analysis::{self, Finding, Suppression};

use crate::cli::HomeArg;
use crate::objects;
use crate::output;
use document::{Contents, Document, Files};
use select::Scope;

/// Exit code when something is found that is as bad as the threshold says; istioctl's.
const FOUND: u8 = 79;

#[derive(Args)]
pub(crate) struct AnalyzeArgs {
    /// Manifests, directories of them, or `-` for standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Look into directories in directories, too
    #[arg(long, short = 'R')]
    recursive: bool,
    /// Analyze every namespace
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// The namespace to analyze, and of objects in files that name none [default: the context's]
    #[arg(long, short)]
    namespace: Option<String>,
    /// Whether the objects of the cluster count, too
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    use_kube: bool,
    /// The cluster, by its kubeconfig context [default: the current one]
    #[arg(long, short, visible_alias = "cluster", value_name = "CLUSTER")]
    context: Option<String>,
    /// Exit with 79 if something at least as bad is found
    #[arg(long, value_enum, ignore_case = true, default_value_t = Level::Error)]
    failure_threshold: Level,
    /// Tell what is at least as bad
    #[arg(long, value_enum, ignore_case = true, default_value_t = Level::Info)]
    output_threshold: Level,
    /// What not to tell: CODE=KIND NAME.NAMESPACE, for example IST0103=Pod web.shop; * stands for anything
    #[arg(long, short = 'S', value_name = "RULE")]
    suppress: Vec<Suppression>,
    /// How to print what is found
    #[arg(long, short, value_enum, default_value_t)]
    output: report::Format,
    #[command(flatten)]
    home: HomeArg,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    Info,
    Warning,
    Error,
}

impl From<Level> for xds::Severity {
    fn from(level: Level) -> xds::Severity {
        match level {
            Level::Info => xds::Severity::Info,
            Level::Warning => xds::Severity::Warning,
            Level::Error => xds::Severity::Error,
        }
    }
}

/// `isthmus analyze`: 0 if nothing is found that is bad enough, 79 if something is, whatever the format.
pub(crate) fn analyze(args: AnalyzeArgs) -> anyhow::Result<ExitCode> {
    let (live, default_namespace) = if args.use_kube { live(&args)? } else { (Vec::new(), "default".to_owned()) };
    let namespace = args.namespace.clone().unwrap_or(default_namespace);
    let files = Files::read(&args.files, args.recursive)?;
    let Contents { documents, skipped } = files.contents(&namespace)?;
    skipped.iter().for_each(|why| output::say(format_args!("skipped: {why}")));
    let scope = match (args.all_namespaces, args.use_kube) {
        (true, _) => Scope::All,
        (false, true) => Scope::Namespace(namespace),
        (false, false) => Scope::Files(args.files.iter().map(|file| file.display().to_string()).collect()),
    };
    let found = find(&args, &scope, &live, &documents);
    let failed = found.iter().any(|finding| finding.severity >= args.failure_threshold.into());
    let shown: Vec<&Finding> =
        found.iter().filter(|finding| finding.severity >= args.output_threshold.into()).collect();
    report::print(args.output, &shown, &files, &documents)?;
    match (found.is_empty(), failed) {
        (true, _) => output::say(format_args!("✔ No validation issues found when analyzing {scope}.")),
        (false, true) => output::say(format_args!(
            "Error: Analyzers found issues when analyzing {scope}.\nSee \
             https://istio.io/latest/docs/reference/config/analysis for more information about causes and resolutions."
        )),
        (false, false) => {}
    }
    Ok(if failed { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

/// The objects of the cluster, and the namespace of its context.
fn live(args: &AnalyzeArgs) -> anyhow::Result<(Vec<Value>, String)> {
    let home = args.home.resolve()?;
    objects::of_cluster(&home, args.context.as_deref())
}

/// What is wrong with the objects in files, and with those of the cluster that they leave in place.
fn find(args: &AnalyzeArgs, scope: &Scope, live: &[Value], documents: &[Document]) -> Vec<Finding> {
    let values: Vec<Value> = documents.iter().map(|document| document.value.clone()).collect();
    let written = select::last_of_each(&values);
    let all = select::overlay(live, &written);
    let mut found = analysis::analyze(&all);
    // What the cluster holds it has checked itself.
    analysis::merge(&mut found, written.iter().flat_map(control::validate).collect());
    let suppressed = |finding: &Finding| {
        let by_object = || {
            let own = all.iter().find(|object| select::is(object, &finding.object));
            own.is_some_and(|object| Suppression::by_annotation(object, finding))
        };
        args.suppress.iter().any(|rule| rule.covers(finding)) || by_object()
    };
    found.retain(|finding| scope.includes(finding, documents) && !suppressed(finding));
    found
}
