//! The command line: what can be said, and which function answers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use nix::sys::signal::SigSet;

use crate::output::{self, Format};
use crate::{
    analyze, cluster, demo, describe, down, explain, gateway, image, kube_inject, kubeconfig, pilot_agent, proxy,
    proxy_config, proxy_status, run, status, up,
};

/// Exit code of a negative answer: something is not running, not found, not equal.
pub(crate) const NO: u8 = 1;
/// Exit code when there could be no answer: I/O, permissions, a broken file.
pub(crate) const FAILED: u8 = 3;

#[derive(Parser)]
#[command(
    name = "isthmus",
    version,
    about = "Federates service meshes; runs a whole federation of clusters on one Linux machine",
    after_help = "Examples:\n  isthmus up c1 c2 --detach       start two clusters in the background\n  \
        export KUBECONFIG=~/.isthmus/kubeconfig\n  kubectl --context c1 get pods -A\n  \
        isthmus run -- curl http://198.18.1.2/   reach a load balancer\n  isthmus down                    stop everything",
    arg_required_else_help = true,
    propagate_version = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where a federation keeps its state.
#[derive(Args, Clone)]
pub(crate) struct HomeArg {
    /// The directory that holds the federation's state; one federation per directory
    /// [default: ~/.isthmus]
    #[arg(long, env = "ISTHMUS_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Start clusters and wait until they serve
    #[command(after_help = "Examples:\n  isthmus up c1 c2                 until Ctrl-C\n  \
        isthmus up c1 c2 --detach        in the background\n  \
        isthmus up c1 -- kubectl get ns  run a command against a fresh federation, then remove it")]
    Up(up::UpArgs),
    /// Stop every cluster, pod and network of a federation
    #[command(after_help = "Examples:\n  isthmus down            keep the objects for the next `isthmus up`\n  \
        isthmus down --delete   forget them")]
    Down(down::DownArgs),
    /// Show three clusters that share services through private gateways, step by step, with real traffic
    #[command(after_help = "Examples:\n  isthmus demo                  until Ctrl-C, to look around\n  \
        isthmus demo --once -o json   for a script: exit code 0 if every step went as it should, 1 if one did not")]
    Demo(demo::DemoArgs),
    /// Show the clusters, how to reach them, and the forwarded ports
    #[command(after_help = "Examples:\n  isthmus status\n  isthmus status -o json")]
    Status(status::StatusArgs),
    /// Run a command on the federation's outer network, where load balancers and node ports answer
    #[command(
        after_help = "Examples:\n  isthmus run -- curl http://198.18.1.2:9000/\n  isthmus run -- kubectl get svc -A"
    )]
    Run(run::RunArgs),
    /// Start a shell on the federation's outer network
    #[command(after_help = "Examples:\n  isthmus shell\n  isthmus shell --home /tmp/lab")]
    Shell(run::ShellArgs),
    /// Print the federation's kubeconfig, which has a context for each cluster
    #[command(after_help = "Examples:\n  isthmus kubeconfig > ~/.kube/isthmus\n  isthmus kubeconfig -o json")]
    Kubeconfig(kubeconfig::KubeconfigArgs),
    /// Say what becomes of a request or a connection from a pod, through gateways and clusters, and who decides it
    #[command(
        after_help = "Examples:\n  isthmus explain c1/default/productpage GET http://reviews:9080/reviews/0 -H 'end-user: jason'\n  \
        isthmus explain deploy/sleep --to tcp-echo --port 9000 -n foo\n  \
        isthmus explain sleep-7c9f8-x2x1p.foo --to 10.33.0.7 --port 9002 -c c1 -o json\n\n\
        Exit code: 0 if it reaches a workload, 1 if not, 2 if there is no such pod or host"
    )]
    Explain(Box<explain::ExplainArgs>),
    /// Say what is wrong with the objects of a cluster, of files, or of both
    #[command(after_help = "Examples:\n  isthmus analyze                              the current namespace\n  \
        isthmus analyze -A -o json\n  isthmus analyze change.yaml                  as if it had been applied\n  \
        isthmus analyze --use-kube=false samples/bookinfo -R -o sarif\n\n\
        Exit code: 79 if something is found that is as bad as --failure-threshold says, otherwise 0")]
    Analyze(analyze::AnalyzeArgs),
    /// Show what a sidecar has been told: listeners, routes, clusters, endpoints, secrets, or its bootstrap
    #[command(
        after_help = "Examples:\n  isthmus proxy-config clusters sleep-7c9f8-x2x1p.foo\n  \
        isthmus proxy-config endpoints sleep-7c9f8-x2x1p -n foo --port 9000 -o json\n  \
        isthmus proxy-config all --file config_dump.json",
        visible_alias = "pc"
    )]
    ProxyConfig(Box<proxy_config::ProxyConfigArgs>),
    /// Show how far each proxy is with what it was told, or what one holds that is not what it was told
    #[command(
        after_help = "Examples:\n  isthmus proxy-status                     every proxy of every cluster\n  \
        isthmus proxy-status -c c1 -o json\n  \
        isthmus proxy-status deploy/sleep -n foo what was sent, beside what is held\n\n\
        SYNCED: the proxy has taken what it was sent last. STALE: it has not answered yet. NOT SENT: there was nothing to \
        send.\nIGNORED: it has not asked. ERROR: it has refused it, and keeps what it had.\n\n\
        Exit code: 0, or 1 if something was refused or differs",
        visible_alias = "ps"
    )]
    ProxyStatus(proxy_status::ProxyStatusArgs),
    /// Say what applies to a pod or a service: ports, routes, policies, gateways, and what is wrong with them
    #[command(
        after_help = "Examples:\n  isthmus describe deploy/reviews-v1\n  isthmus describe svc/reviews -n shop -o json\n  \
        isthmus describe pod reviews-v1-5d9c8-x2x1p.shop -c c1"
    )]
    Describe(describe::DescribeArgs),
    /// List, add and remove the local programs that stand for images
    #[command(
        after_help = "Examples:\n  isthmus image list\n  isthmus image add 'example/web' -- python3 -m http.server 80"
    )]
    Image(image::ImageArgs),
    /// Print a manifest with a sidecar in every workload
    #[command(after_help = "Examples:\n  kubectl apply -f <(isthmus kube-inject -f samples/sleep/sleep.yaml)\n  \
        cat all.yaml | isthmus kube-inject -f - | kubectl apply -f -")]
    KubeInject(kube_inject::KubeInjectArgs),
    /// Deploy gateways, through which meshes reach one another
    Gateway(gateway::GatewayArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  source <(isthmus completion bash)\n  isthmus completion fish | source")]
    Completion {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// One of the sample applications (what the built-in images run)
    #[command(hide = true, disable_help_flag = true)]
    Sample {
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// One of the federation's own processes
    #[command(hide = true, disable_help_flag = true)]
    Internal {
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// An output format for commands that print one document.
#[derive(Args, Clone, Copy)]
pub(crate) struct OutputArg {
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Up(args) => up::up(args),
        Command::Down(args) => down::down(args),
        Command::Demo(args) => demo::demo(args),
        Command::Status(args) => status::status(args),
        Command::Run(args) => run::run(args),
        Command::Shell(args) => run::shell(args),
        Command::Kubeconfig(args) => kubeconfig::print(args),
        Command::Explain(args) => explain::explain(*args),
        Command::Analyze(args) => analyze::analyze(args),
        Command::ProxyConfig(args) => proxy_config::proxy_config(*args),
        Command::ProxyStatus(args) => proxy_status::proxy_status(args),
        Command::Describe(args) => describe::describe(args),
        Command::Image(args) => image::image(args),
        Command::KubeInject(args) => kube_inject::kube_inject(args),
        Command::Gateway(args) => gateway::gateway(args),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "isthmus", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Sample { name, args } => Ok(samples::main(&name, args)),
        Command::Internal { name, args } => internal(&name, &args),
    };
    result.unwrap_or_else(|error| {
        output::error(&error);
        ExitCode::from(FAILED)
    })
}

/// The federation's own processes. Whoever starts one may have signals blocked, which it would inherit and then never
/// hear that it is to end.
fn internal(name: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    SigSet::empty().thread_set_mask()?;
    if name == "cluster" {
        return cluster::main(args);
    }
    if name == "pilot-agent" {
        return pilot_agent::main(args);
    }
    if name == "proxy" {
        return proxy::main(args);
    }
    output::log();
    Ok(node::internal(name, args))
}
