//! What a proxy by itself is told by a file: Envoy's bootstrap, with static resources and where to follow a control plane.

use std::net::SocketAddr;

use envoy::TypeUrl;
use envoy::envoy::config::bootstrap::v3;
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::core::v3::Node;
use envoy::envoy::config::core::v3::api_config_source::ApiType;
use envoy::envoy::config::core::v3::grpc_service::TargetSpecifier;
use envoy::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::Any;

use super::field::{Checked, Path, Rejected, fields};
use super::{address, tls};
use crate::{Offered, Update};

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// The fields that are read. Any other is refused: a file that asks for more than it gets is a mistake.
const FIELDS: [&str; 4] = ["node", "static_resources", "dynamic_resources", "admin"];

/// The contents of a bootstrap file.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// Who the proxy is.
    pub node: Node,
    /// Where its administration listens, if anywhere.
    pub admin: Option<SocketAddr>,
    /// Where a control plane is followed, in clear, if anywhere.
    pub control_plane: Option<SocketAddr>,
    /// The static resources, in the order in which they are to be applied.
    pub resources: Vec<Update>,
}

impl Bootstrap {
    /// Reads a bootstrap in the JSON form of protobuf.
    pub fn parse(text: &str) -> Result<Bootstrap, Rejected> {
        let at = &Path::ROOT;
        let pool = DescriptorPool::decode(envoy::DESCRIPTORS).expect("the descriptors are whole");
        let descriptor = pool.get_message_by_name(BOOTSTRAP).expect("the bootstrap is among them");
        let mut reader = serde_json::Deserializer::from_str(text);
        let message =
            DynamicMessage::deserialize(descriptor, &mut reader).map_err(|e| at.reject(format_args!("{e}")))?;
        reader.end().map_err(|e| at.reject(format_args!("{e}")))?;
        if let Some((field, _)) = message.fields().find(|(field, _)| !FIELDS.contains(&field.name())) {
            return Err(at.field(field.name()).reject("is not supported"));
        }
        let message = message.transcode_to().map_err(|e| at.reject(format_args!("{e}")))?;
        Bootstrap::new(at, message)
    }

    fn new(at: &Path<'_>, message: v3::Bootstrap) -> Checked<Bootstrap> {
        let v3::Bootstrap { node, static_resources, dynamic_resources, admin, .. } = message;
        let fixed = static_resources.unwrap_or_default();
        fields!(at, fixed => v3::bootstrap::StaticResources { listeners, clusters, secrets });
        let at_dynamic = at.field("dynamic_resources");
        let control_plane = dynamic_resources.map(|dynamic| control_plane(&at_dynamic, dynamic, &clusters));
        let resources = vec![
            update(TypeUrl::Secret, secrets, |s| &s.name),
            update(TypeUrl::Cluster, clusters, |c| &c.name),
            update(TypeUrl::Listener, listeners, |l| &l.name),
        ];
        let admin = admin.map(|admin| address::socket_addr(&at.field("admin").field("address"), admin.address));
        let (admin, control_plane) = (admin.transpose()?, control_plane.transpose()?);
        Ok(Bootstrap { node: node.unwrap_or_default(), admin, control_plane, resources })
    }
}

/// Where the cluster that `ads_config` names has its first endpoint.
fn control_plane(at: &Path<'_>, message: v3::bootstrap::DynamicResources, clusters: &[Cluster]) -> Checked<SocketAddr> {
    fields!(at, message => v3::bootstrap::DynamicResources { lds_config, cds_config, ads_config }
        refuse { lds_resources_locator, cds_resources_locator });
    for (field, source) in [("lds_config", lds_config), ("cds_config", cds_config)] {
        source.map(|source| tls::ads(&at.field(field), source)).transpose()?;
    }
    let at = at.field("ads_config");
    let config = at.required(ads_config)?;
    if at.field("api_type").enumeration::<ApiType>(config.api_type)? != ApiType::DeltaGrpc {
        return Err(at.field("api_type").reject("only DELTA_GRPC is supported"));
    }
    let services = at.field("grpc_services");
    let Some(TargetSpecifier::EnvoyGrpc(service)) =
        config.grpc_services.into_iter().next().and_then(|service| service.target_specifier)
    else {
        return Err(services.reject("one with envoy_grpc is required"));
    };
    let name = service.cluster_name;
    let cluster = clusters.iter().find(|cluster| cluster.name == name);
    let Some(cluster) = cluster.filter(|cluster| cluster.transport_socket.is_none()) else {
        return Err(services.reject(format_args!("there is no static cluster {name:?} without TLS")));
    };
    let assigned = cluster.load_assignment.iter().flat_map(|assignment| &assignment.endpoints);
    let first = assigned.flat_map(|locality| &locality.lb_endpoints).next();
    match first.and_then(|endpoint| endpoint.host_identifier.clone()) {
        Some(HostIdentifier::Endpoint(endpoint)) => address::socket_addr(&services, endpoint.address),
        _ => Err(services.reject(format_args!("cluster {name:?} has no endpoint"))),
    }
}

fn update<M: Message>(type_url: TypeUrl, messages: Vec<M>, name: impl Fn(&M) -> &String) -> Update {
    let offer = |message: M| Offered {
        name: name(&message).clone(),
        version: "static".to_owned(),
        message: Some(Any { type_url: type_url.as_str().to_owned(), value: message.encode_to_vec() }),
    };
    Update { type_url, resources: messages.into_iter().map(offer).collect(), removed: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_resources_become_updates() {
        let text = r#"{
            "node": {"id": "n"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15000}}},
            "static_resources": {"clusters": [{"name": "a"}, {"name": "b"}], "listeners": [{"name": "l"}]}
        }"#;
        let bootstrap = Bootstrap::parse(text).unwrap();
        assert_eq!((bootstrap.node.id.as_str(), bootstrap.admin), ("n", Some(([127, 0, 0, 1], 15000).into())));
        let names = |t: TypeUrl| -> Vec<String> {
            let of_type = bootstrap.resources.iter().filter(|u| u.type_url == t);
            of_type.flat_map(|u| u.resources.iter().map(|r| r.name.clone())).collect()
        };
        assert_eq!(
            (names(TypeUrl::Cluster), names(TypeUrl::Listener)),
            (vec!["a".into(), "b".into()], vec!["l".into()])
        );
    }

    #[test]
    fn a_control_plane_is_an_endpoint_of_a_static_cluster() {
        let text = |cluster: &str, kind: &str| {
            format!(
                r#"{{"static_resources": {{"clusters": [{{"name": "c", "load_assignment": {{"cluster_name": "c",
                   "endpoints": [{{"lb_endpoints": [{{"endpoint": {{"address": {{"socket_address":
                   {{"address": "127.0.0.1", "port_value": 15010}}}}}}}}]}}]}}}}]}},
                   "dynamic_resources": {{"lds_config": {{"ads": {{}}, "resource_api_version": "V3"}},
                   "ads_config": {{"api_type": "{kind}",
                   "grpc_services": [{{"envoy_grpc": {{"cluster_name": "{cluster}"}}}}]}}}}}}"#
            )
        };
        let bootstrap = Bootstrap::parse(&text("c", "DELTA_GRPC")).unwrap();
        assert_eq!(bootstrap.control_plane, Some(([127, 0, 0, 1], 15010).into()));
        let refused = |cluster, kind| Bootstrap::parse(&text(cluster, kind)).unwrap_err().to_string();
        let ads = "dynamic_resources.ads_config";
        assert_eq!(refused("c", "GRPC"), format!("{ads}.api_type: only DELTA_GRPC is supported"));
        assert_eq!(
            refused("d", "DELTA_GRPC"),
            format!("{ads}.grpc_services: there is no static cluster \"d\" without TLS")
        );
    }

    #[test]
    fn what_is_not_read_is_refused() {
        let refused = |text: &str| Bootstrap::parse(text).unwrap_err().to_string();
        assert_eq!(refused(r#"{"dynamic_resources": {}}"#), "dynamic_resources.ads_config: is required");
        assert_eq!(refused(r#"{"overload_manager": {}}"#), "overload_manager: is not supported");
        assert!(refused(r#"{"bogus": 1}"#).contains("bogus"));
        assert!(refused(r#"{} trailing"#).contains("trailing"));
        let no_address = r#"{"admin": {"address": {"pipe": {"path": "/x"}}}}"#;
        assert_eq!(refused(no_address), "admin.address.pipe: is not supported");
    }
}
