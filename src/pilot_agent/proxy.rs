//! `pilot-agent proxy`: the sidecar or the gateway itself. Its options are those of Istio's agent.

use std::process::ExitCode;

use agent::{Logging, Role};
use clap::ValueEnum;

use crate::{memory, output};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What kind of proxy it is
    #[arg(value_enum, default_value = "sidecar")]
    role: Kind,
    /// How many threads carry connections; 0 is one for each core, as gateways have unless told otherwise
    #[arg(long)]
    concurrency: Option<usize>,
    /// What Envoy logs
    #[arg(long = "proxyLogLevel", default_value = "warning")]
    level: String,
    /// What components of Envoy log, as misc:error,http:debug
    #[arg(long = "proxyComponentLogLevel", default_value = "misc:error")]
    components: String,
    #[command(flatten)]
    meaningless: Meaningless,
}

/// A kind of proxy, under Istio's name for it.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Beside an application
    Sidecar,
    /// Alone, as a gateway
    Router,
}

/// What manifests made for Istio may say, and what has no meaning here.
#[derive(clap::Args)]
struct Meaningless {
    #[arg(long, hide = true)]
    domain: Option<String>,
    #[arg(long = "log_output_level", hide = true)]
    log_output_level: Option<String>,
    #[arg(long = "log_as_json", hide = true)]
    log_as_json: bool,
    #[arg(long = "meshConfig", hide = true)]
    mesh_config: Option<String>,
    #[arg(long = "outlierLogPath", hide = true)]
    outlier_log_path: Option<String>,
    #[arg(long = "serviceCluster", hide = true)]
    service_cluster: Option<String>,
    #[arg(long = "stsPort", hide = true)]
    sts_port: Option<u16>,
    #[arg(long = "templateFile", hide = true)]
    template_file: Option<String>,
    #[arg(long = "tokenManagerPlugin", hide = true)]
    token_manager_plugin: Option<String>,
    #[arg(long = "trust-domain", hide = true)]
    trust_domain: Option<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { role, concurrency, level, components, meaningless } = args;
    let Meaningless {
        domain: _,
        log_output_level: _,
        log_as_json: _,
        mesh_config: _,
        outlier_log_path: _,
        service_cluster: _,
        sts_port: _,
        template_file: _,
        token_manager_plugin: _,
        trust_domain: _,
    } = meaningless;
    let reload = Box::new(output::adjustable_log());
    let role = match role {
        Kind::Sidecar => Role::Sidecar,
        Kind::Router => Role::Router,
    };
    Ok(agent::run(role, concurrency, Logging { level, components, reload }, memory::give_back)?)
}
