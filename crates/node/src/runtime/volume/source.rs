//! What a volume's files are made from: ConfigMaps, Secrets, the pod itself, and service account tokens.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Secret, ServiceAccount, ServiceAccountTokenProjection,
    Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};

use super::payload::Payload;
use crate::runtime::kubelet::field::Facts;

const DEFAULT_MODE: i32 = 0o644;
/// Seconds a token lasts unless the pod asks for something else.
const TOKEN_LIFETIME: i64 = 3600;

/// Where a pod's volumes take their files from.
pub(crate) struct Sources<'a> {
    pub(crate) client: kube::Client,
    pub(crate) namespace: &'a str,
    pub(crate) facts: Facts<'a>,
    /// `fsGroup`, when it can be mapped.
    pub(crate) group: Option<u32>,
}

/// A service account token that is in use.
pub(super) struct Token {
    value: String,
    pub(super) refresh_at: Timestamp,
}

type Tokens = BTreeMap<(String, String), Token>;

/// The data of a ConfigMap or a Secret, and how it is called in messages.
struct Keys {
    kind: &'static str,
    data: BTreeMap<String, Vec<u8>>,
}

impl Sources<'_> {
    pub(super) async fn payload(&self, volume: &Volume, tokens: &mut Tokens) -> Result<Payload, String> {
        let mut payload = Payload::default();
        if let Some(source) = &volume.config_map {
            let keys = self.config_map(&source.name, source.optional).await?;
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            keys.project(source.items.as_deref(), mode, source.optional == Some(true), &mut payload)?;
        } else if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let keys = self.secret(name, source.optional).await?;
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            keys.project(source.items.as_deref(), mode, source.optional == Some(true), &mut payload)?;
        } else if let Some(source) = &volume.downward_api {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            self.downward(source.items.as_deref().unwrap_or_default(), mode, &mut payload)?;
        } else if let Some(source) = &volume.projected {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            for projection in source.sources.iter().flatten() {
                self.project(&volume.name, projection, mode, tokens, &mut payload).await?;
            }
        } else {
            return Err(format!("{} is not supported by this node", kind_of(volume)));
        }
        Ok(payload)
    }

    async fn project(
        &self,
        volume: &str,
        projection: &VolumeProjection,
        mode: i32,
        tokens: &mut Tokens,
        payload: &mut Payload,
    ) -> Result<(), String> {
        if let Some(source) = &projection.config_map {
            let keys = self.config_map(&source.name, source.optional).await?;
            keys.project(source.items.as_deref(), mode, source.optional == Some(true), payload)?;
        }
        if let Some(source) = &projection.secret {
            let keys = self.secret(&source.name, source.optional).await?;
            keys.project(source.items.as_deref(), mode, source.optional == Some(true), payload)?;
        }
        if let Some(source) = &projection.downward_api {
            self.downward(source.items.as_deref().unwrap_or_default(), mode, payload)?;
        }
        if let Some(source) = &projection.service_account_token {
            let token = self.token(volume, source, tokens).await?;
            // Only root may read the token when every container is root; other users must be able to.
            payload.add(&source.path, token.into_bytes(), if self.runs_as_root() { 0o600 } else { mode })?;
        }
        if projection.cluster_trust_bundle.is_some() {
            return Err("clusterTrustBundle is not supported by this node".to_owned());
        }
        Ok(())
    }

    fn runs_as_root(&self) -> bool {
        let spec = self.facts.pod.spec.as_ref();
        let pod = spec.and_then(|s| s.security_context.as_ref()).and_then(|c| c.run_as_user);
        let of = |c: &Container| c.security_context.as_ref().and_then(|s| s.run_as_user).or(pod).unwrap_or(0) == 0;
        spec.is_some_and(|s| s.containers.iter().chain(s.init_containers.iter().flatten()).all(of))
    }

    async fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Keys, String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), self.namespace);
        let kind = "configmap";
        let found = api.get_opt(name).await.map_err(|e| e.to_string())?;
        let map = found_or_optional(found, kind, name, optional)?;
        let text = map.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
        let binary = map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
        Ok(Keys { kind, data: text.chain(binary).collect() })
    }

    async fn secret(&self, name: &str, optional: Option<bool>) -> Result<Keys, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
        let kind = "secret";
        let found = api.get_opt(name).await.map_err(|e| e.to_string())?;
        let secret = found_or_optional(found, kind, name, optional)?;
        Ok(Keys { kind, data: secret.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect() })
    }

    fn downward(&self, files: &[DownwardAPIVolumeFile], mode: i32, payload: &mut Payload) -> Result<(), String> {
        for file in files {
            let value = match (&file.field_ref, &file.resource_field_ref) {
                (Some(field), _) => self.facts.field(field)?,
                (None, Some(resource)) => self.facts.resource(resource, &Container::default())?,
                (None, None) => return Err(format!("{:?} has neither fieldRef nor resourceFieldRef", file.path)),
            };
            payload.add(&file.path, value.into_bytes(), file.mode.unwrap_or(mode))?;
        }
        Ok(())
    }

    /// A token of the pod's service account, made anew when four fifths of its time are over.
    async fn token(
        &self,
        volume: &str,
        source: &ServiceAccountTokenProjection,
        tokens: &mut Tokens,
    ) -> Result<String, String> {
        let key = (volume.to_owned(), source.path.clone());
        let now = Timestamp::now();
        if let Some(token) = tokens.get(&key).filter(|token| token.refresh_at > now) {
            return Ok(token.value.clone());
        }
        let pod = self.facts.pod;
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
        };
        let request = TokenRequest {
            metadata: ObjectMeta::default(),
            spec: TokenRequestSpec {
                audiences: source.audience.iter().cloned().collect(),
                bound_object_ref: Some(bound),
                expiration_seconds: Some(source.expiration_seconds.unwrap_or(TOKEN_LIFETIME)),
            },
            status: None,
        };
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), self.namespace);
        let failed = |e: kube::Error| format!("failed to fetch token: {e}");
        let answer: TokenRequest =
            api.create_subresource("token", account, &PostParams::default(), &request).await.map_err(failed)?;
        let status = answer.status.ok_or_else(|| "failed to fetch token: the answer has none".to_owned())?;
        let lifetime = status.expiration_timestamp.0.duration_since(now);
        let refresh_at = now + SignedDuration::from_secs(lifetime.as_secs().max(10) * 4 / 5);
        tokens.insert(key, Token { value: status.token.clone(), refresh_at });
        Ok(status.token)
    }
}

fn found_or_optional<T: Default>(
    found: Option<T>,
    kind: &str,
    name: &str,
    optional: Option<bool>,
) -> Result<T, String> {
    match found {
        Some(object) => Ok(object),
        None if optional == Some(true) => Ok(T::default()),
        None => Err(format!("{kind} {name:?} not found")),
    }
}

impl Keys {
    /// Adds the keys that are asked for, or all of them.
    fn project(
        self,
        items: Option<&[KeyToPath]>,
        mode: i32,
        optional: bool,
        payload: &mut Payload,
    ) -> Result<(), String> {
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            return self.data.into_iter().try_for_each(|(key, bytes)| payload.add(&key, bytes, mode));
        };
        for item in items {
            match self.data.get(&item.key) {
                Some(bytes) => payload.add(&item.path, bytes.clone(), item.mode.unwrap_or(mode))?,
                None if optional => {}
                None => return Err(format!("{} references non-existent {} key: {}", self.kind, self.kind, item.key)),
            }
        }
        Ok(())
    }
}

/// The name of a volume's kind, for refusing it.
fn kind_of(volume: &Volume) -> String {
    let fields = serde_json::to_value(volume).unwrap_or_default();
    let kind = fields.as_object().into_iter().flatten().map(|(key, _)| key).find(|key| *key != "name");
    kind.map_or_else(|| "a volume without a source".to_owned(), |kind| format!("a volume of type {kind}"))
}
