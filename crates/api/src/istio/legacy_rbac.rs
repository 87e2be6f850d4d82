//! Authorization as it was up to Istio 1.5 (rbac.istio.io/v1alpha1).

use serde::Deserialize;

use super::Spec;
use crate::selector::Labels;

/// What may be done to services of a namespace, by whoever is bound to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceRole {
    /// The rules; one must match.
    pub rules: Vec<AccessRule>,
}

impl Spec for ServiceRole {
    const GROUP: &'static str = "rbac.istio.io";
    const KIND: &'static str = "ServiceRole";
}

/// Matches a call if every list that is not empty does; a list matches if one of its values does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessRule {
    /// The services, by their full names; a `*` may stand at either end.
    pub services: Vec<String>,
    /// Hosts.
    pub hosts: Vec<String>,
    /// Hosts that do not match.
    #[serde(alias = "not_hosts")]
    pub not_hosts: Vec<String>,
    /// Paths.
    pub paths: Vec<String>,
    /// Paths that do not match.
    #[serde(alias = "not_paths")]
    pub not_paths: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// Methods that do not match.
    #[serde(alias = "not_methods")]
    pub not_methods: Vec<String>,
    /// Ports.
    pub ports: Vec<u16>,
    /// Ports that do not match.
    #[serde(alias = "not_ports")]
    pub not_ports: Vec<u16>,
    /// Further conditions, all of which must hold.
    pub constraints: Vec<Constraint>,
}

/// A condition on an attribute: `destination.port`, `request.headers[NAME]`, …
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Constraint {
    /// The attribute.
    pub key: String,
    /// One of them must match.
    pub values: Vec<String>,
}

/// Who has a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceRoleBinding {
    /// The callers; one must match.
    pub subjects: Vec<Subject>,
    /// The role.
    #[serde(alias = "role_ref")]
    pub role_ref: RoleRef,
    /// The role's name, instead of a reference.
    pub role: String,
    /// Whether the binding decides, or only counts what it would have let in.
    pub mode: EnforcementMode,
}

impl Spec for ServiceRoleBinding {
    const GROUP: &'static str = "rbac.istio.io";
    const KIND: &'static str = "ServiceRoleBinding";
}

/// Matches a caller if everything that is set does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Subject {
    /// An identity: `cluster.local/ns/default/sa/sleep`; `*` is anybody, and `allUsers` is, too.
    pub user: String,
    /// The claim `groups` of the request's token.
    pub group: String,
    /// Attributes of the caller: `source.namespace`, `source.ip`, `request.auth.claims[NAME]`, …
    pub properties: Labels,
    /// Identities.
    pub names: Vec<String>,
    /// Identities that do not match.
    #[serde(alias = "not_names")]
    pub not_names: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Groups that do not match.
    #[serde(alias = "not_groups")]
    pub not_groups: Vec<String>,
    /// Namespaces.
    pub namespaces: Vec<String>,
    /// Namespaces that do not match.
    #[serde(alias = "not_namespaces")]
    pub not_namespaces: Vec<String>,
    /// Addresses or CIDRs.
    pub ips: Vec<String>,
    /// Addresses or CIDRs that do not match.
    #[serde(alias = "not_ips")]
    pub not_ips: Vec<String>,
}

/// A role by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RoleRef {
    /// `ServiceRole`.
    pub kind: String,
    /// The name, in the binding's namespace.
    pub name: String,
}

/// Whether rules decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EnforcementMode {
    /// They do.
    #[default]
    Enforced,
    /// They only count.
    Permissive,
}

/// Which services roles are for; the mesh has one, named `default`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RbacConfig {
    /// All, some or none.
    pub mode: RbacMode,
    /// With ON_WITH_INCLUSION: these.
    pub inclusion: Option<RbacTarget>,
    /// With ON_WITH_EXCLUSION: not these.
    pub exclusion: Option<RbacTarget>,
    /// Whether roles decide.
    #[serde(alias = "enforcement_mode")]
    pub enforcement_mode: EnforcementMode,
}

impl Spec for RbacConfig {
    const GROUP: &'static str = "rbac.istio.io";
    const KIND: &'static str = "RbacConfig";
}

/// The same, of the whole cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ClusterRbacConfig(pub RbacConfig);

impl Spec for ClusterRbacConfig {
    const GROUP: &'static str = "rbac.istio.io";
    const KIND: &'static str = "ClusterRbacConfig";
}

/// All, some or none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RbacMode {
    /// None: everybody may do everything.
    #[default]
    Off,
    /// All.
    On,
    /// Only those that are included.
    OnWithInclusion,
    /// All but those that are excluded.
    OnWithExclusion,
}

/// Services, by name or by namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RbacTarget {
    /// Full names.
    pub services: Vec<String>,
    /// Namespaces.
    pub namespaces: Vec<String>,
}
