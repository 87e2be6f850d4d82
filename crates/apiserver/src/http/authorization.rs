//! Whether a user may do something: role-based access control as Kubernetes evaluates it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::{ApiError, GroupResource};
use arc_swap::ArcSwapOption;
use serde_json::Value;

use super::Server;
use super::authentication::MASTERS;
use super::object::list_of_strings;
use crate::extension::UserInfo;
use crate::store::{Key, Store};

/// The API group of roles and bindings.
pub(super) const RBAC: &str = "rbac.authorization.k8s.io";

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action<'a> {
    /// Something to a resource; empty strings stand for what does not apply.
    Resource {
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        subresource: &'a str,
        namespace: &'a str,
        name: &'a str,
    },
    /// Something to another path, such as `/metrics`.
    Path { verb: &'a str, path: &'a str },
}

/// One rule of a role.
#[derive(Debug, Default, Clone)]
pub(super) struct Rule {
    pub(super) verbs: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) urls: Vec<String>,
}

/// The rules of one binding, and the namespace that they hold in; everywhere if there is none.
#[derive(Debug, Clone)]
struct Grant {
    namespace: Option<String>,
    rules: Arc<[Rule]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// Every binding, by subject.
struct Grants {
    generation: u64,
    by_subject: HashMap<Subject, Vec<Grant>>,
}

/// The compiled roles and bindings, rebuilt when one of them has changed since.
#[derive(Default)]
pub(super) struct Policy {
    /// Counts the writes to roles and bindings.
    generation: AtomicU64,
    compiled: ArcSwapOption<Grants>,
}

impl Policy {
    /// To be called after a write to `resource` was committed and before it is acknowledged.
    pub(super) fn written(&self, resource: &GroupResource) {
        if &*resource.group == RBAC {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    fn grants(&self, store: &Store) -> Arc<Grants> {
        // Read before the objects are: a write in between makes the next caller compile again.
        let generation = self.generation.load(Ordering::Acquire);
        if let Some(grants) = self.compiled.load_full().filter(|g| g.generation == generation) {
            return grants;
        }
        let grants = Arc::new(Grants { generation, by_subject: compile(store) });
        self.compiled.store(Some(grants.clone()));
        grants
    }
}

impl Server {
    /// 403 unless the user may do this.
    pub(super) fn authorize(&self, user: &UserInfo, action: &Action<'_>) -> Result<(), ApiError> {
        if self.allowed(user, action) { Ok(()) } else { Err(forbidden(user, action)) }
    }

    pub(super) fn allowed(&self, user: &UserInfo, action: &Action<'_>) -> bool {
        if user.groups.iter().any(|group| group == MASTERS) || everybody_may(user, action) {
            return true;
        }
        let grants = self.policy.grants(&self.store);
        grants.of(user).any(|grant| grant.holds_in(action) && grant.rules.iter().any(|rule| rule.allows(action)))
    }

    /// Every rule that the user has in a namespace, for `kubectl auth can-i --list`.
    pub(super) fn rules_of(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        let mut rules = own_rules();
        if user.groups.iter().any(|group| group == MASTERS) {
            let all = || vec!["*".to_owned()];
            rules.push(Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() });
            rules.push(Rule { verbs: all(), urls: all(), ..Rule::default() });
        }
        let grants = self.policy.grants(&self.store);
        let here = grants.of(user).filter(|g| g.namespace.as_deref().is_none_or(|n| n == namespace));
        rules.extend(here.flat_map(|grant| grant.rules.iter().cloned()));
        rules
    }
}

impl Grants {
    fn of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Grant> {
        let groups = user.groups.iter().cloned().map(Subject::Group);
        let subjects = std::iter::once(Subject::User(user.name.clone())).chain(groups);
        subjects.filter_map(|subject| self.by_subject.get(&subject)).flatten()
    }
}

impl Grant {
    fn holds_in(&self, action: &Action<'_>) -> bool {
        match (&self.namespace, action) {
            (None, _) => true,
            (Some(here), Action::Resource { namespace, .. }) => here == namespace,
            (Some(_), Action::Path { .. }) => false,
        }
    }
}

impl Rule {
    fn allows(&self, action: &Action<'_>) -> bool {
        let has = |list: &[String], item: &str| list.iter().any(|x| x == "*" || x == item);
        match *action {
            Action::Path { verb, path } => has(&self.verbs, verb) && self.urls.iter().any(|url| url_matches(url, path)),
            Action::Resource { verb, group, resource, subresource, name, .. } => {
                has(&self.verbs, verb)
                    && has(&self.groups, group)
                    && self.resources.iter().any(|r| resource_matches(r, resource, subresource))
                    && (self.names.is_empty() || self.names.iter().any(|n| n == name))
            }
        }
    }

    fn of(rule: &Value) -> Rule {
        Rule {
            verbs: list_of_strings(&rule["verbs"]),
            groups: list_of_strings(&rule["apiGroups"]),
            resources: list_of_strings(&rule["resources"]),
            names: list_of_strings(&rule["resourceNames"]),
            urls: list_of_strings(&rule["nonResourceURLs"]),
        }
    }
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    match rule.split_once('/') {
        _ if rule == "*" => true,
        None => subresource.is_empty() && rule == resource,
        Some((parent, sub)) => sub == subresource && (parent == "*" || parent == resource),
    }
}

fn url_matches(rule: &str, path: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => rule == path,
    }
}

/// What Kubernetes grants to everybody who is authenticated (`system:discovery` and `system:basic-user`).
fn own_rules() -> Vec<Rule> {
    let list = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let reviews = list(&["selfsubjectaccessreviews", "selfsubjectrulesreviews"]);
    let create = list(&["create"]);
    let authorization = list(&["authorization.k8s.io"]);
    let authentication = list(&["authentication.k8s.io"]);
    let myself = list(&["selfsubjectreviews"]);
    let urls = list(&[
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
    ]);
    vec![
        Rule { verbs: create.clone(), groups: authorization, resources: reviews, ..Rule::default() },
        Rule { verbs: create, groups: authentication, resources: myself, ..Rule::default() },
        Rule { verbs: list(&["get"]), urls, ..Rule::default() },
    ]
}

fn everybody_may(user: &UserInfo, action: &Action<'_>) -> bool {
    static OWN: std::sync::LazyLock<Vec<Rule>> = std::sync::LazyLock::new(own_rules);
    user.groups.iter().any(|group| group == "system:authenticated") && OWN.iter().any(|rule| rule.allows(action))
}

fn compile(store: &Store) -> HashMap<Subject, Vec<Grant>> {
    let mut grants: HashMap<Subject, Vec<Grant>> = HashMap::new();
    let mut roles: HashMap<Key, Arc<[Rule]>> = HashMap::new();
    for resource in ["rolebindings", "clusterrolebindings"] {
        for object in store.list(&GroupResource::new(RBAC, resource), None).1 {
            let binding = object.value();
            let namespace = (resource == "rolebindings").then(|| object.key.namespace.clone());
            let Some(role) = role_key(&binding["roleRef"], namespace.as_deref()) else { continue };
            let rules = roles.entry(role.clone()).or_insert_with(|| rules(store, &role)).clone();
            for subject in binding["subjects"].as_array().into_iter().flatten() {
                if let Some(subject) = subject_of(subject, namespace.as_deref()) {
                    grants
                        .entry(subject)
                        .or_default()
                        .push(Grant { namespace: namespace.clone(), rules: rules.clone() });
                }
            }
        }
    }
    grants
}

fn role_key(role: &Value, namespace: Option<&str>) -> Option<Key> {
    let name = role["name"].as_str()?.to_owned();
    let (resource, namespace) = match role["kind"].as_str()? {
        "ClusterRole" => ("clusterroles", ""),
        // A cluster-wide binding cannot refer to a role of one namespace.
        "Role" => ("roles", namespace?),
        _ => return None,
    };
    Some(Key { resource: GroupResource::new(RBAC, resource), namespace: namespace.to_owned(), name })
}

fn rules(store: &Store, role: &Key) -> Arc<[Rule]> {
    let role = store.get(role).map(|object| object.value()).unwrap_or_default();
    role["rules"].as_array().into_iter().flatten().map(Rule::of).collect()
}

fn subject_of(subject: &Value, namespace: Option<&str>) -> Option<Subject> {
    let name = subject["name"].as_str()?;
    match subject["kind"].as_str()? {
        "User" => Some(Subject::User(name.to_owned())),
        "Group" => Some(Subject::Group(name.to_owned())),
        "ServiceAccount" => {
            let namespace = subject["namespace"].as_str().filter(|n| !n.is_empty()).or(namespace)?;
            Some(Subject::User(format!("system:serviceaccount:{namespace}:{name}")))
        }
        _ => None,
    }
}

/// The refusal in Kubernetes's words.
fn forbidden(user: &UserInfo, action: &Action<'_>) -> ApiError {
    let who = &user.name;
    let (verb, group, resource, subresource, namespace, name) = match *action {
        Action::Resource { verb, group, resource, subresource, namespace, name } => {
            (verb, group, resource, subresource, namespace, name)
        }
        Action::Path { verb, path } => {
            let message = format!("forbidden: User {who:?} cannot {verb} path {path:?}");
            return ApiError::new(403, "Forbidden", message);
        }
    };
    let full = if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
    let place = match namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let why = format!("User {who:?} cannot {verb} resource {full:?} in API group {group:?} {place}");
    let mut error = ApiError::forbidden(group, resource, name, &why);
    if name.is_empty() {
        error.message = format!("{} is forbidden: {why}", GroupResource::new(group, resource));
    }
    error
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource<'a>(verb: &'a str, resource: &'a str, subresource: &'a str, name: &'a str) -> Action<'a> {
        Action::Resource { verb, group: "", resource, subresource, namespace: "default", name }
    }

    #[test]
    fn a_rule_allows_what_it_names() {
        let rule = Rule::of(&json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log", "*/scale"],
            "resourceNames": ["a"]}));
        assert!(rule.allows(&resource("get", "pods", "", "a")));
        assert!(rule.allows(&resource("get", "pods", "log", "a")));
        assert!(rule.allows(&resource("get", "deployments", "scale", "a")));
        assert!(!rule.allows(&resource("get", "pods", "exec", "a")));
        assert!(!rule.allows(&resource("list", "pods", "", "a")));
        assert!(!rule.allows(&resource("get", "pods", "", "b")));
        assert!(!rule.allows(&resource("get", "pods", "", "")));
    }

    #[test]
    fn urls_match_exactly_or_by_prefix() {
        let rule = Rule::of(&json!({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/debug/*"]}));
        for (path, expected) in [("/metrics", true), ("/metrics/x", false), ("/debug/x", true), ("/debug", false)] {
            assert_eq!(rule.allows(&Action::Path { verb: "get", path }), expected, "{path}");
        }
    }

    #[test]
    fn refusals_are_worded_as_kubernetes_words_them() {
        let user = UserInfo { name: "system:serviceaccount:default:default".to_owned(), ..UserInfo::default() };
        assert_eq!(
            forbidden(&user, &resource("list", "pods", "", "")).message,
            "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \
             \"\" in the namespace \"default\""
        );
        assert_eq!(
            forbidden(&user, &Action::Path { verb: "get", path: "/metrics" }).message,
            "forbidden: User \"system:serviceaccount:default:default\" cannot get path \"/metrics\""
        );
    }
}
