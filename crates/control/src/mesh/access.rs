//! Which service accounts may read the Secrets of their namespace. As in Istio, a proxy is given certificates out of
//! Secrets only if its account may list them: whoever can start a pod beside a gateway does not get its key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::NamespacedName;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::JoinSet;
use tracing::warn;

use super::{ControlPlane, Signal};
use crate::engine::{self, Engine};
use crate::feed;

/// When a question that nobody answered is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// What is known of accounts that somebody has asked about.
#[derive(Default)]
pub(super) struct Access {
    accounts: Mutex<BTreeMap<NamespacedName, Option<bool>>>,
    /// Told when an answer is due, because an account or a role is new.
    due: Signal,
}

impl Access {
    /// Whether an account may list the Secrets of its namespace; `None` while that is not known yet.
    pub(super) fn may_list_secrets(&self, account: &NamespacedName) -> Option<bool> {
        if let Some(known) = self.accounts().get(account) {
            return *known;
        }
        self.accounts().insert(account.clone(), None);
        self.due.tell();
        None
    }

    /// Forgets accounts that nobody has any more.
    pub(super) fn sweep(&self, used: &BTreeSet<NamespacedName>) {
        self.accounts().retain(|account, _| used.contains(account));
    }

    fn accounts(&self) -> MutexGuard<'_, BTreeMap<NamespacedName, Option<bool>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service account of a pod.
pub(super) fn account(pod: &Pod) -> NamespacedName {
    let name = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    NamespacedName::new(pod.namespace().unwrap_or_default(), name)
}

/// Follows the roles, and keeps the answers right.
pub(super) fn start(plane: &ControlPlane, engine: &Engine, tasks: &mut JoinSet<()>) {
    follow::<Role>(plane, engine, tasks);
    follow::<RoleBinding>(plane, engine, tasks);
    follow::<ClusterRole>(plane, engine, tasks);
    follow::<ClusterRoleBinding>(plane, engine, tasks);
    tasks.spawn(keep(plane.clone(), engine.client.clone()));
}

fn follow<K>(plane: &ControlPlane, engine: &Engine, tasks: &mut JoinSet<()>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (plane, api) = (plane.clone(), Api::<K>::all(engine.client.clone()));
    tasks.spawn(async move { feed::follow(api, "", |_| plane.0.access.due.tell()).await });
}

async fn keep(plane: ControlPlane, client: Client) {
    let mut due = plane.0.access.due.hear();
    while due.changed().await.is_ok() {
        let accounts: Vec<NamespacedName> = plane.0.access.accounts().keys().cloned().collect();
        let (mut changed, mut failed) = (false, false);
        for account in accounts {
            match ask(&client, &account).await {
                Ok(answer) => {
                    let known = plane.0.access.accounts().insert(account, Some(answer));
                    changed |= known != Some(Some(answer));
                }
                // The answer that there is stays, and with none nothing is given out.
                Err(error) => {
                    warn!(%account, %error, "it is not known whether an account may list Secrets");
                    failed = true;
                }
            }
        }
        if changed {
            plane.wake();
        }
        if failed {
            tokio::time::sleep(RETRY).await;
            plane.0.access.due.tell();
        }
    }
}

async fn ask(client: &Client, account: &NamespacedName) -> Result<bool, kube::Error> {
    let NamespacedName { namespace, name } = account;
    let review = json!({
        "spec": {
            "user": format!("system:serviceaccount:{namespace}:{name}"),
            "groups": [
                "system:serviceaccounts",
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated",
            ],
            "resourceAttributes": { "namespace": namespace, "verb": "list", "resource": "secrets" },
        },
    });
    let review: SubjectAccessReview = serde_json::from_value(review).map_err(kube::Error::SerdeError)?;
    let answered = Api::all(client.clone()).create(&engine::post_params(), &review).await?;
    Ok(answered.status.is_some_and(|status| status.allowed))
}
