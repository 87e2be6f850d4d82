//! `pilot-agent istio-iptables`: the init container of an injected pod. Its options are those of Istio 1.2x.

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::Parser;
use ipnet::{IpNet, Ipv4Net};
use node::{Capture, Selection};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the sidecar takes outbound connections
    #[arg(short = 'p', long = "envoy-port", default_value_t = 15001)]
    outbound_port: u16,
    /// Where the sidecar takes inbound connections
    #[arg(short = 'z', long = "inbound-capture-port", default_value_t = 15006)]
    inbound_port: u16,
    /// The port of the sidecar's that takes tunnels
    #[arg(short = 'e', long = "inbound-tunnel-port", default_value_t = 15008)]
    tunnel_port: u16,
    /// The sidecar's users
    #[arg(short = 'u', long = "proxy-uid", default_value = "1337")]
    users: String,
    /// The sidecar's groups [default: the numbers of its users]
    #[arg(short = 'g', long = "proxy-gid")]
    groups: Option<String>,
    /// REDIRECT
    #[arg(short = 'm', long = "istio-inbound-interception-mode", default_value = "REDIRECT")]
    mode: String,
    /// Inbound ports to capture, or *
    #[arg(short = 'b', long = "istio-inbound-ports", default_value = "")]
    inbound_ports: String,
    /// Inbound ports to leave alone when all are captured
    #[arg(short = 'd', long = "istio-local-exclude-ports", default_value = "")]
    excluded_inbound_ports: String,
    /// Outbound ranges to capture, or *
    #[arg(short = 'i', long = "istio-service-cidr", default_value = "")]
    ranges: String,
    /// Outbound ranges to leave alone
    #[arg(short = 'x', long = "istio-service-exclude-cidr", default_value = "")]
    excluded_ranges: String,
    /// Outbound ports to capture whatever their range
    #[arg(short = 'q', long = "istio-outbound-ports", default_value = "")]
    outbound_ports: String,
    /// Outbound ports to leave alone
    #[arg(short = 'o', long = "istio-local-outbound-ports-exclude", default_value = "")]
    excluded_outbound_ports: String,
    /// Interfaces to leave alone
    #[arg(short = 'c', long = "istio-exclude-interfaces", default_value = "")]
    excluded_interfaces: String,
    /// Interfaces of virtual machines: there are none in these pods
    #[arg(short = 'k', long = "kube-virt-interfaces", default_value = "")]
    virtual_machines: String,
    /// Accepted, and without effect: there is little to log
    #[arg(long = "log_output_level")]
    _log_level: Option<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let capture = capture(args)?;
    capture.install()?;
    let Capture { outbound_port, inbound_port, .. } = capture;
    println!("outbound TCP connections are led to port {outbound_port}, inbound ones to port {inbound_port}");
    Ok(ExitCode::SUCCESS)
}

fn capture(args: Args) -> anyhow::Result<Capture> {
    if args.mode != "REDIRECT" {
        bail!("-m {}: only REDIRECT is supported; remove the annotation sidecar.istio.io/interceptionMode", args.mode);
    }
    if !args.virtual_machines.is_empty() {
        bail!("-k {}: interfaces of virtual machines are not supported", args.virtual_machines);
    }
    let users = list("-u", &args.users)?;
    let inbound = match args.inbound_ports.as_str() {
        "*" => Selection::All,
        ports => Selection::Only(list("-b", ports)?),
    };
    let outbound = match args.ranges.as_str() {
        "*" => Selection::All,
        ranges => Selection::Only(ipv4("-i", ranges)?),
    };
    Ok(Capture {
        outbound_port: args.outbound_port,
        inbound_port: args.inbound_port,
        tunnel_port: args.tunnel_port,
        groups: args.groups.map_or_else(|| Ok(users.clone()), |groups| list("-g", &groups))?,
        users,
        outbound,
        excluded_outbound: ipv4("-x", &args.excluded_ranges)?,
        outbound_ports: list("-q", &args.outbound_ports)?,
        excluded_outbound_ports: list("-o", &args.excluded_outbound_ports)?,
        inbound,
        excluded_inbound_ports: list("-d", &args.excluded_inbound_ports)?,
        excluded_interfaces: list("-c", &args.excluded_interfaces)?,
    })
}

/// What an init container with these arguments captures.
pub(crate) fn captured_by(arguments: &[String]) -> anyhow::Result<Capture> {
    capture(Line::try_parse_from(arguments)?.args)
}

/// A whole command line.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// The ranges that a pod can reach: it has no IPv6 address, so those of IPv6 select nothing.
fn ipv4(option: &str, text: &str) -> anyhow::Result<Vec<Ipv4Net>> {
    let only_ipv4 = |range| if let IpNet::V4(range) = range { Some(range) } else { None };
    Ok(list::<IpNet>(option, text)?.into_iter().filter_map(only_ipv4).collect())
}

fn list<T: FromStr>(option: &str, text: &str) -> anyhow::Result<Vec<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| item.parse().with_context(|| format!("{option} {text}: {item:?} cannot be read"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Capture> {
        let words = line.split(' ').map(|word| if word == "''" { "" } else { word });
        captured_by(&std::iter::once("istio-iptables").chain(words).map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn connections_are_captured_as_it_says() {
        let capture = parse("-i 10.0.0.0/8 -x 10.9.0.0/16 -q 443 -o 3306 -b * -d 15020").unwrap();
        let out = |to: &str| capture.takes_outbound(to.parse().unwrap());
        assert!(out("10.1.2.3:80") && out("192.0.2.1:443"));
        assert!(!out("192.0.2.1:80") && !out("10.9.1.1:443") && !out("10.1.2.3:3306"));
        assert!(capture.takes_inbound(80) && !capture.takes_inbound(15020) && !capture.takes_inbound(15008));
        let some = parse("-i * -b 80").unwrap();
        assert!(some.takes_inbound(80) && !some.takes_inbound(81) && some.takes_outbound("1.1.1.1:1".parse().unwrap()));
    }

    #[test]
    fn the_init_container_of_istios_template_is_understood() {
        let line = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x '' -b * -d 15090,15021,15020";
        let expected = Capture {
            outbound_port: 15001,
            inbound_port: 15006,
            tunnel_port: 15008,
            users: vec![1337],
            groups: vec![1337],
            outbound: Selection::All,
            excluded_outbound: Vec::new(),
            outbound_ports: Vec::new(),
            excluded_outbound_ports: Vec::new(),
            inbound: Selection::All,
            excluded_inbound_ports: vec![15090, 15021, 15020],
            excluded_interfaces: Vec::new(),
        };
        assert_eq!(parse(line).unwrap(), expected);
        let some = parse("-i 10.0.0.0/8,fd00::/8 -b 80,443 -g 7 -o 3306 --log_output_level=default:info").unwrap();
        assert_eq!(some.outbound, Selection::Only(vec!["10.0.0.0/8".parse().unwrap()]));
        assert_eq!((some.inbound, some.groups), (Selection::Only(vec![80, 443]), vec![7]));
        assert_eq!(some.excluded_outbound_ports, [3306]);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (line, word) in [
            ("-m TPROXY", "TPROXY"),
            ("-k tap0", "-k"),
            ("-i 10.0.0", "-i 10.0.0: \"10.0.0\""),
            ("-d 99999", "-d"),
            ("--redirect-dns", "--redirect-dns"),
        ] {
            let error = format!("{:#}", parse(line).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
