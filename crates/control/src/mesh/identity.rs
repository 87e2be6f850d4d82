//! Which pod a proxy belongs to, and whether it may say so.

use std::time::Duration;

use api::NamespacedName;
use api::istio::MeshConfig;
use envoy::envoy::config::core::v3 as core;
use envoy::envoy::config::core::v3::node::UserAgentVersionType;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pki::SpiffeId;
use prost_types::value::Kind;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use xds::Role;

use super::proxies::{Connected, Proxy};
use super::{ControlPlane, access};

/// A pod's proxy may be faster than the watch that tells of the pod.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts a proxy as connected once it has shown that it belongs to the pod that it names.
pub(super) async fn admit<'a>(
    plane: &'a ControlPlane,
    peer: &SpiffeId,
    node: &core::Node,
) -> Result<Connected<'a>, Status> {
    let identity = Identity::of(node).map_err(Status::invalid_argument)?;
    let name = &identity.pod;
    let latest = Instant::now() + PATIENCE;
    let mut changed = plane.0.changed.hear();
    let mut built = plane.0.built.subscribe();
    loop {
        let pod = plane.0.pods.get(name).filter(|_| *built.borrow_and_update());
        if let Some(pod) = pod {
            check(&pod, peer, plane.world().mesh.config()).map_err(Status::permission_denied)?;
            let uid = pod.uid().unwrap_or_default();
            let proxy = Proxy::new(node.id.clone(), identity, uid);
            return Ok(plane.0.proxies.join(proxy));
        }
        let news = async {
            tokio::select! {
                told = changed.changed() => told,
                built = built.changed() => built,
            }
        };
        match timeout_at(latest, news).await {
            Ok(Ok(())) => {}
            _ if !*built.borrow() => return Err(Status::unavailable("the mesh's objects have not been read yet")),
            _ => return Err(Status::permission_denied(format!("there is no pod {name}"))),
        }
    }
}

/// Who a proxy says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) role: Role,
    pub(super) pod: NamespacedName,
    /// Its program's name and version; empty if it does not say so.
    pub(super) program: String,
    /// The cluster that it is in; empty if it does not say so.
    pub(super) cluster: String,
}

impl Identity {
    /// Reads a node, whose id is `sidecar~IP~POD.NAMESPACE~DOMAIN` or `router~…`.
    fn of(node: &core::Node) -> Result<Identity, String> {
        let id = &node.id;
        let wrong = || format!("the node id {id:?} is not sidecar~IP~POD.NAMESPACE~DOMAIN, or router~…");
        let [kind, _, pod, _] = id.split('~').collect::<Vec<_>>()[..] else { return Err(wrong()) };
        let served = || format!("a proxy of type {kind:?} is not served; sidecars and routers are");
        let role = Role::of_type(kind).ok_or_else(served)?;
        // A pod's name may have dots, a namespace's has none.
        let (name, namespace) = pod.rsplit_once('.').ok_or_else(wrong)?;
        let pod = NamespacedName::new(namespace, name);
        Ok(Identity { role, pod, program: program(node), cluster: cluster(node) })
    }
}

fn check(pod: &Pod, peer: &SpiffeId, mesh: &MeshConfig) -> Result<(), String> {
    let namespace = pod.namespace().unwrap_or_default();
    let account = access::account(pod).name;
    let name = format!("{}/{}", namespace, pod.name_any());
    let mut domains = [&mesh.trust_domain].into_iter().chain(&mesh.trust_domain_aliases);
    if !domains.any(|domain| domain.0 == peer.trust_domain()) {
        return Err(format!("{peer} is not of the trust domain {}", mesh.trust_domain));
    }
    if peer.namespace() != namespace || peer.service_account() != account {
        return Err(format!("{peer} is not the identity of the pod {name}, whose service account is {account}"));
    }
    Ok(())
}

/// The program's name and version.
fn program(node: &core::Node) -> String {
    let version = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => version.clone(),
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
            let version = build.version.unwrap_or_default();
            format!("{}.{}.{}", version.major_number, version.minor_number, version.patch)
        }
        None => String::new(),
    };
    format!("{} {version}", node.user_agent_name).trim().to_owned()
}

fn cluster(node: &core::Node) -> String {
    let said = node.metadata.as_ref().and_then(|said| said.fields.get("CLUSTER_ID")?.kind.as_ref());
    match said {
        Some(Kind::StringValue(cluster)) => cluster.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;

    use super::*;

    #[test]
    fn a_node_id_names_its_pod() {
        let of = |id: &str| Identity::of(&core::Node { id: id.to_owned(), ..core::Node::default() });
        let pod = NamespacedName::new("foo", "sleep-5.x");
        let (program, cluster) = (String::new(), String::new());
        let sidecar = Identity { role: Role::Sidecar, pod: pod.clone(), program, cluster };
        let router = Identity { role: Role::Router, pod, ..sidecar.clone() };
        assert_eq!(of("sidecar~10.33.1.2~sleep-5.x.foo~foo.svc.cluster.local"), Ok(sidecar));
        assert_eq!(of("router~10.33.1.2~sleep-5.x.foo~foo.svc.cluster.local"), Ok(router));
        for id in ["", "sidecar~1~2", "waypoint~10.0.0.1~gw.ns~ns.svc", "sidecar~10.0.0.1~pod~ns.svc"] {
            assert!(of(id).is_err(), "{id}");
        }
    }

    #[test]
    fn an_identity_fits_one_account_of_one_namespace() {
        let mut pod = Pod { spec: Some(PodSpec::default()), ..Pod::default() };
        pod.metadata.namespace = Some("foo".to_owned());
        let mesh = MeshConfig {
            trust_domain_aliases: vec![api::istio::TrustDomain("old".to_owned())],
            ..MeshConfig::default()
        };
        let fits = |id: &str| check(&pod, &id.parse().unwrap(), &mesh).is_ok();
        assert!(fits("spiffe://cluster.local/ns/foo/sa/default") && fits("spiffe://old/ns/foo/sa/default"));
        assert!(!fits("spiffe://cluster.local/ns/bar/sa/default"));
        assert!(!fits("spiffe://cluster.local/ns/foo/sa/other"));
        assert!(!fits("spiffe://new/ns/foo/sa/default"));
    }
}
