//! Who makes a request: client certificates, service account tokens, impersonation.

use std::collections::BTreeMap;

use api::{ApiError, GroupResource};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Server;
use super::authorization::Action;
use super::object::Head;
use crate::extension::UserInfo;
use crate::store::Key;

/// The group of those who may do everything.
pub(super) const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
const ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Default)]
pub(super) enum Peer {
    /// Somebody who has to show a token.
    #[default]
    Unknown,
    /// The user and groups of a verified client certificate.
    Certificate(String, Vec<String>),
    /// A caller in this process, who is believed.
    InProcess(UserInfo),
}

impl Server {
    /// The user, or `None` for a client without credentials. Credentials that do not hold are 401.
    pub(super) fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<Option<UserInfo>, ApiError> {
        let user = match peer {
            Peer::InProcess(user) => return Ok(Some(user.clone())),
            Peer::Certificate(name, groups) => {
                authenticated(UserInfo { name: name.clone(), groups: groups.clone(), ..UserInfo::default() })
            }
            Peer::Unknown => match bearer(headers) {
                None => return Ok(None),
                Some(token) => self.token_user(token, &[pki::ISSUER]).ok_or_else(ApiError::unauthorized)?.0,
            },
        };
        self.impersonate(user, headers).map(Some)
    }

    /// The user of a service account token for at least one of `audiences`, and which of them it is for. The account,
    /// and the pod if the token is bound to one, must still be those that the token was made for.
    pub(super) fn token_user<'a>(&self, token: &str, audiences: &[&'a str]) -> Option<(UserInfo, Vec<&'a str>)> {
        let now = jiff::Timestamp::now().as_second();
        let refused = |why: &dyn std::fmt::Display| tracing::debug!(%why, "a bearer token was refused");
        let claims = self.token_key.verify(token, now).inspect_err(|e| refused(e)).ok()?;
        let shared: Vec<&str> = audiences.iter().copied().filter(|a| claims.audiences.iter().any(|c| c == a)).collect();
        if shared.is_empty() {
            refused(&"it is for another audience");
            return None;
        }
        let exists = |resource: &str, name: &str, uid: &str| {
            let resource = GroupResource::new("", resource);
            let key = Key { resource, namespace: claims.namespace.clone(), name: name.to_owned() };
            self.store.get(&key).is_some_and(|object| Head::of(&object).metadata.uid == uid)
        };
        if !exists("serviceaccounts", &claims.service_account, &claims.service_account_uid) {
            refused(&"its service account is gone");
            return None;
        }
        let mut extra = BTreeMap::new();
        if let Some((name, uid)) = &claims.pod {
            if !exists("pods", name, uid) {
                refused(&"the pod that it is bound to is gone");
                return None;
            }
            extra.insert("authentication.kubernetes.io/pod-name".to_owned(), vec![name.clone()]);
            extra.insert("authentication.kubernetes.io/pod-uid".to_owned(), vec![uid.clone()]);
        }
        let name = format!("{ACCOUNT_PREFIX}{}:{}", claims.namespace, claims.service_account);
        let groups = account_groups(&claims.namespace);
        Some((authenticated(UserInfo { name, groups, uid: claims.service_account_uid, extra }), shared))
    }

    /// Applies the `Impersonate-*` headers, each of which the user must be allowed to use.
    fn impersonate(&self, user: UserInfo, headers: &HeaderMap) -> Result<UserInfo, ApiError> {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let extra = impersonated_extra(headers);
        let groups = headers.get_all("impersonate-group").iter().filter_map(|v| v.to_str().ok());
        let groups: Vec<String> = groups.map(str::to_owned).collect();
        let uid = text("impersonate-uid").unwrap_or_default();
        let Some(name) = text("impersonate-user") else {
            if groups.is_empty() && extra.is_empty() && uid.is_empty() {
                return Ok(user);
            }
            let message = format!("requested {groups:?} without impersonating a user");
            return Err(ApiError::new(400, "BadRequest", message));
        };
        let check = |group: &str, resource: &str, namespace: &str, name: &str| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let action = Action::Resource { verb: "impersonate", group, resource, subresource, namespace, name };
            self.authorize(&user, &action)
        };
        let account = name.strip_prefix(ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
        match account {
            Some((namespace, account)) => check("", "serviceaccounts", namespace, account)?,
            None => check("", "users", "", &name)?,
        }
        for group in &groups {
            check("", "groups", "", group)?;
        }
        for (key, values) in &extra {
            for value in values {
                check("authentication.k8s.io", &format!("userextras/{key}"), "", value)?;
            }
        }
        if !uid.is_empty() {
            check("authentication.k8s.io", "uids", "", &uid)?;
        }
        let groups = match account {
            Some((namespace, _)) if groups.is_empty() => account_groups(namespace),
            _ => groups,
        };
        Ok(authenticated(UserInfo { name, groups, uid, extra }))
    }
}

fn authenticated(mut user: UserInfo) -> UserInfo {
    if !user.groups.iter().any(|g| g == AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

fn account_groups(namespace: &str) -> Vec<String> {
    vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")]
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn impersonated_extra(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix("impersonate-extra-") else { continue };
        let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
        if let Ok(value) = value.to_str() {
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    extra
}
