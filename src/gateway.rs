//! Gateways to deploy.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use control::{Gateway, GatewayPort, GatewaySettings, SecretVolume, ServiceType, gateways_of_values};

use crate::{input, output};

#[derive(Args)]
pub(crate) struct GatewayArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the manifests of a gateway of its own: ServiceAccount, Role, RoleBinding, Service, Deployment, autoscaler
    #[command(after_help = "Examples:\n  \
        isthmus gateway render istio-private-ingressgateway -n istio-private-gateways --port https:15443 \\\n    \
        --secret-volume c2-example-com-certs:/etc/istio/c2.example.com/certs | kubectl apply -f -\n  \
        isthmus gateway render -n istio-private-gateways -f values.yaml   the values of Istio's chart for gateways")]
    Render(Box<RenderArgs>),
}

#[derive(Args)]
struct RenderArgs {
    /// The name of its Deployment and its Service; its service account is NAME-service-account
    #[arg(required_unless_present = "values")]
    name: Option<String>,
    /// Where it is to be
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// The values of Istio's chart for gateways, which say all the rest; `-` is standard input
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with_all = ["name", "Options"])]
    values: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
struct Options {
    /// A port of its Service and the port its pods listen on, by default the same; may be repeated
    #[arg(long = "port", value_name = "NAME:PORT[:TARGETPORT]", value_parser = port)]
    ports: Vec<GatewayPort>,
    /// A label, which Gateway objects select it by; may be repeated [default: app=NAME, istio=NAME without `istio-`]
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Who reaches it: its cluster, the nodes' networks too, or other clusters
    #[arg(long, value_enum, ignore_case = true, default_value = "LoadBalancer")]
    service_type: Type,
    /// A Secret whose items are to be files of its pods, and the directory for them; may be repeated
    #[arg(long = "secret-volume", value_name = "SECRET:MOUNTPATH", value_parser = secret_volume)]
    secret_volumes: Vec<SecretVolume>,
    /// So many pods, and no autoscaler
    #[arg(long, value_name = "N", conflicts_with = "autoscale")]
    replicas: Option<u32>,
    /// How many pods an autoscaler may make of it
    #[arg(long, value_name = "MIN:MAX", value_parser = range, default_value = "1:5")]
    autoscale: (u32, u32),
    /// The image of its proxy, if not the usual one
    #[arg(long)]
    image: Option<String>,
}

/// A type of Service, under the name that Kubernetes has for it.
#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Type {
    #[value(name = "ClusterIP")]
    ClusterIp,
    NodePort,
    LoadBalancer,
}

pub(crate) fn gateway(args: GatewayArgs) -> anyhow::Result<ExitCode> {
    let Action::Render(args) = args.action;
    let RenderArgs { name, namespace, values, options } = *args;
    let gateways = match (values, name) {
        (Some(path), _) => {
            let (shown, text) = input::read(&path)?;
            gateways_of_values(&text, &namespace).context(shown)?
        }
        (None, name) => vec![Gateway { name: name.unwrap_or_default(), namespace, settings: settings(options) }],
    };
    let mut documents = Vec::new();
    for gateway in &gateways {
        for object in gateway.manifests()? {
            documents.push(serde_saphyr::to_string(&object)?);
        }
    }
    output::write_stdout(documents.join("---\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn settings(options: Options) -> GatewaySettings {
    let Options { ports, labels, service_type, secret_volumes, replicas, autoscale, image } = options;
    GatewaySettings {
        enabled: true,
        ports,
        labels: labels.into_iter().collect(),
        service_type: match service_type {
            Type::ClusterIp => ServiceType::ClusterIP,
            Type::NodePort => ServiceType::NodePort,
            Type::LoadBalancer => ServiceType::LoadBalancer,
        },
        secret_volumes,
        replica_count: replicas,
        autoscale_enabled: replicas.is_none(),
        autoscale_min: autoscale.0,
        autoscale_max: autoscale.1,
        image,
        ..GatewaySettings::default()
    }
}

fn port(text: &str) -> Result<GatewayPort, String> {
    let number = |text: &str| match text.parse::<u16>() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("{text:?} is not a port, a number of 1 to 65535")),
    };
    let mut parts = text.split(':');
    let (name, port, target, rest) = (parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(name), Some(port), None) = (name, port, rest) else {
        return Err("write it as https:443 or https:443:8443".to_owned());
    };
    let target_port = target.map(number).transpose()?;
    Ok(GatewayPort { name: name.to_owned(), port: number(port)?, target_port, node_port: None, protocol: None })
}

fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or_else(|| "write it as istio=private-ingressgateway".to_owned());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned()))
}

fn secret_volume(text: &str) -> Result<SecretVolume, String> {
    let (secret, path) = text.split_once(':').ok_or_else(|| "write it as my-certs:/etc/istio/my-certs".to_owned())?;
    // A volume's name has no dots, a Secret's may.
    Ok(SecretVolume { name: secret.replace('.', "-"), secret_name: secret.to_owned(), mount_path: path.to_owned() })
}

fn range(text: &str) -> Result<(u32, u32), String> {
    let pair = text.split_once(':').and_then(|(min, max)| Some((min.parse().ok()?, max.parse().ok()?)));
    pair.ok_or_else(|| "write it as 1:5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_have_another_number_in_the_pod() {
        let numbers = |text: &str| port(text).map(|port| (port.name, port.port, port.target_port));
        assert_eq!(numbers("https:443:8443"), Ok(("https".to_owned(), 443, Some(8443))));
        assert_eq!(numbers("tcp:31400"), Ok(("tcp".to_owned(), 31400, None)));
        for wrong in ["443", "https:0", "https:443:x", "https:443:1:2"] {
            assert!(numbers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_becomes_a_volume_even_if_its_name_has_dots() {
        let volume = secret_volume("c1.example.com:/etc/certs").unwrap();
        assert_eq!((volume.name.as_str(), volume.secret_name.as_str()), ("c1-example-com", "c1.example.com"));
        assert!(secret_volume("certs").is_err() && label("app").is_err() && range("5").is_err());
    }
}
