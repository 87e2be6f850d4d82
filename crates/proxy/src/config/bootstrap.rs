//! What a proxy without a control plane is told by a file: Envoy's bootstrap, as far as it is static.

use std::net::SocketAddr;

use envoy::TypeUrl;
use envoy::envoy::config::bootstrap::v3;
use envoy::envoy::config::core::v3::Node;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::Any;

use super::address;
use super::field::{Checked, Path, Rejected, fields};
use crate::{Offered, Update};

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// The fields that are read. Any other is refused: a file that asks for more than it gets is a mistake.
const FIELDS: [&str; 3] = ["node", "static_resources", "admin"];

/// The contents of a bootstrap file.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// Who the proxy is.
    pub node: Node,
    /// Where its administration listens, if anywhere.
    pub admin: Option<SocketAddr>,
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
        let v3::Bootstrap { node, static_resources, admin, .. } = message;
        let fixed = static_resources.unwrap_or_default();
        fields!(at, fixed => v3::bootstrap::StaticResources { listeners, clusters, secrets });
        let resources = vec![
            update(TypeUrl::Secret, secrets, |s| &s.name),
            update(TypeUrl::Cluster, clusters, |c| &c.name),
            update(TypeUrl::Listener, listeners, |l| &l.name),
        ];
        let admin = admin.map(|admin| address::socket_addr(&at.field("admin").field("address"), admin.address));
        Ok(Bootstrap { node: node.unwrap_or_default(), admin: admin.transpose()?, resources })
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
    fn what_is_not_read_is_refused() {
        let refused = |text: &str| Bootstrap::parse(text).unwrap_err().to_string();
        assert_eq!(refused(r#"{"dynamic_resources": {}}"#), "dynamic_resources: is not supported");
        assert!(refused(r#"{"bogus": 1}"#).contains("bogus"));
        assert!(refused(r#"{} trailing"#).contains("trailing"));
        let no_address = r#"{"admin": {"address": {"pipe": {"path": "/x"}}}}"#;
        assert_eq!(refused(no_address), "admin.address.pipe: is not supported");
    }
}
