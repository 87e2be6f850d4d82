//! Policies of authentication.istio.io/v1alpha1, said in today's words.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::istio::legacy_authentication::{PolicyJwt, PolicyPort, PolicyTlsMode, PrincipalBinding, Target};
use api::istio::{Hostname, JwtHeader, JwtRule, MeshPolicy, MutualTlsMode, Object, Policy};
use api::selector::Labels;

use super::by_age;
use crate::mesh::{DOMAIN, Services, Workloads};
use crate::{Code, Diagnostic, ObjectRef};

/// The only name of a policy for a whole namespace or mesh.
const DEFAULT: &str = "default";

/// What a policy says of some workloads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LegacyPolicy {
    pub(crate) object: ObjectRef,
    /// None for the whole mesh.
    pub(crate) namespace: Option<String>,
    pub(crate) selector: Labels,
    /// The workloads' ports; none is all.
    pub(crate) ports: BTreeSet<u16>,
    pub(crate) mode: MutualTlsMode,
    pub(crate) tokens: Vec<JwtRule>,
    pub(crate) token_required: bool,
}

/// What all policies say, oldest first.
pub(crate) fn legacy_policies(
    mesh: &[Arc<Object<MeshPolicy>>],
    policies: &[Arc<Object<Policy>>],
    services: &Services,
    workloads: &Workloads,
    found: &mut Vec<Diagnostic>,
) -> Vec<LegacyPolicy> {
    let mut all = Vec::new();
    for object in by_age(mesh) {
        let (name, spec) = (ObjectRef::of(object), &object.spec.0);
        if name.name != DEFAULT || !spec.targets.is_empty() {
            let message = "has no effect: the policy of the mesh is named default, and has no targets";
            found.push(name.error("metadata.name", Code::InvalidValue, message));
            continue;
        }
        all.push(LegacyPolicy { namespace: None, ..said(name, spec, found) });
    }
    for object in by_age(policies) {
        let (name, spec) = (ObjectRef::of(object), &object.spec);
        let whole = said(name.clone(), spec, found);
        if spec.targets.is_empty() && name.name != DEFAULT {
            let message = "has no effect: a policy without targets is named default";
            found.push(name.error("metadata.name", Code::InvalidValue, message));
        } else if spec.targets.is_empty() {
            all.push(whole.clone());
        }
        for (i, target) in spec.targets.iter().enumerate() {
            match of_target(&whole, target, services, workloads) {
                Ok(policy) => all.push(policy),
                Err(message) => {
                    found.push(name.error(format!("spec.targets[{i}]"), Code::ReferenceNotFound, message));
                }
            }
        }
    }
    all
}

/// What a policy says, whomever it is for.
fn said(object: ObjectRef, spec: &Policy, found: &mut Vec<Diagnostic>) -> LegacyPolicy {
    let Policy { targets: _, peers, peer_is_optional, origins, origin_is_optional, principal_binding } = spec;
    let mode = match peers.first().map(|peer| peer.mtls) {
        None => MutualTlsMode::Disable,
        Some(tls) if tls.allow_tls || tls.mode == PolicyTlsMode::Permissive => MutualTlsMode::Permissive,
        Some(_) if *peer_is_optional => MutualTlsMode::Permissive,
        Some(_) => MutualTlsMode::Strict,
    };
    if *principal_binding == PrincipalBinding::UseOrigin {
        let message = "has no effect: rules ask for the caller by source.principal, for the user by requestPrincipals";
        found.push(object.warning("spec.principalBinding", Code::NotSupported, message));
    }
    let tokens = origins.iter().filter_map(|origin| origin.jwt.as_ref());
    for (i, _) in tokens.clone().enumerate().filter(|(_, jwt)| !jwt.trigger_rules.is_empty()) {
        let message = "has no effect: requests of every path need a token";
        let field = format!("spec.origins[{i}].jwt.triggerRules");
        found.push(object.error(field, Code::NotSupported, message));
    }
    LegacyPolicy {
        namespace: Some(object.namespace.clone()),
        object,
        selector: Labels::new(),
        ports: BTreeSet::new(),
        mode,
        tokens: tokens.map(rule).collect(),
        token_required: !origin_is_optional,
    }
}

fn rule(jwt: &PolicyJwt) -> JwtRule {
    let PolicyJwt { issuer, audiences, jwks_uri, jwks, jwt_headers, jwt_params, trigger_rules: _ } = jwt;
    JwtRule {
        issuer: issuer.clone(),
        audiences: audiences.clone(),
        jwks_uri: jwks_uri.clone(),
        jwks: jwks.clone(),
        from_headers: jwt_headers.iter().map(|name| JwtHeader { name: name.clone(), ..JwtHeader::default() }).collect(),
        from_params: jwt_params.clone(),
        forward_original_token: true,
        ..JwtRule::default()
    }
}

/// The workloads behind a service, and the ports of theirs to which its ports lead.
fn of_target(
    whole: &LegacyPolicy,
    target: &Target,
    services: &Services,
    workloads: &Workloads,
) -> Result<LegacyPolicy, String> {
    let namespace = whole.object.namespace.as_str();
    let host = Hostname::resolve(&target.name, namespace, DOMAIN);
    let service = services.of_host(&host).first().ok_or_else(|| format!("there is no service {:?}", target.name))?;
    let selector = service.selector.clone().ok_or_else(|| format!("the service {:?} selects nothing", target.name))?;
    let mut ports = BTreeSet::new();
    for PolicyPort { number, name } in &target.ports {
        let named = |p: &&crate::mesh::Port| if name.is_empty() { p.number == *number } else { p.name == *name };
        let port = service.ports.iter().find(named);
        let port = port.ok_or_else(|| format!("the service {:?} has no port {number} {name}", target.name))?;
        let behind = workloads.of_namespace(namespace).filter(|w| api::istio::includes(&w.labels, &selector));
        let numbers = behind.filter_map(|workload| port.target.of(workload));
        ports.extend(numbers.chain(match &port.target {
            crate::mesh::Target::Number(number) => Some(*number),
            crate::mesh::Target::Name(_) => None,
        }));
    }
    if ports.is_empty() && !target.ports.is_empty() {
        return Err(format!("no workload of {:?} has these ports yet", target.name));
    }
    Ok(LegacyPolicy { selector, ports, ..whole.clone() })
}
