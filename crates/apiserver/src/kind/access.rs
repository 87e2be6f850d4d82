//! Who may do what: accounts, roles, and the reviews that answer questions about them.

use api::GroupVersion;
use k8s_openapi::api::{authentication, authorization, core, rbac};
use serde_json::Value;

use super::cell::{self, list_at, text, text_at, wide};
use super::{Kind, builtin};

pub(super) fn kinds() -> Vec<Kind> {
    let token = GroupVersion::parse("authentication.k8s.io/v1");
    let account = builtin::stored::<core::v1::ServiceAccount>("serviceaccount", &["sa"])
        .with_subresource("token", token, "TokenRequest", &["create"])
        .with_columns(vec![text("Secrets", "How many secrets the account lists."), cell::age_column()], |o, now| {
            vec![cell::count_at(o, "/secrets").into(), cell::age(o, now)]
        });
    vec![
        account,
        builtin::stored::<rbac::v1::Role>("role", &[]),
        builtin::stored::<rbac::v1::ClusterRole>("clusterrole", &[]),
        binding(builtin::stored::<rbac::v1::RoleBinding>("rolebinding", &[])),
        binding(builtin::stored::<rbac::v1::ClusterRoleBinding>("clusterrolebinding", &[])),
        builtin::review::<authentication::v1::TokenReview>("tokenreview"),
        builtin::review::<authentication::v1::SelfSubjectReview>("selfsubjectreview"),
        builtin::review::<authorization::v1::SubjectAccessReview>("subjectaccessreview"),
        builtin::review::<authorization::v1::SelfSubjectAccessReview>("selfsubjectaccessreview"),
        builtin::review::<authorization::v1::LocalSubjectAccessReview>("localsubjectaccessreview"),
        builtin::review::<authorization::v1::SelfSubjectRulesReview>("selfsubjectrulesreview"),
    ]
}

fn binding(kind: Kind) -> Kind {
    kind.with_columns(
        vec![
            text("Role", "What is granted."),
            cell::age_column(),
            wide("Users", "To which users."),
            wide("Groups", "To which groups."),
            wide("ServiceAccounts", "To which service accounts."),
        ],
        |o, now| {
            let role = format!("{}/{}", text_at(o, "/roleRef/kind"), text_at(o, "/roleRef/name"));
            let subjects = |kind: &str| subjects(o, kind).into();
            vec![role.into(), cell::age(o, now), subjects("User"), subjects("Group"), subjects("ServiceAccount")]
        },
    )
}

fn subjects(binding: &Value, kind: &str) -> String {
    let subjects = list_at(binding, "/subjects").iter().filter(|s| s["kind"] == kind);
    let names: Vec<String> = subjects
        .map(|s| match text_at(s, "/namespace") {
            "" => text_at(s, "/name").to_owned(),
            namespace => format!("{namespace}/{}", text_at(s, "/name")),
        })
        .collect();
    names.join(", ")
}
