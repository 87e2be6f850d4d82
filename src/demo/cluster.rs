//! One cluster of the demo, as its API server shows it.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use api::LabelSelector;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{
    Api, ApiResource, AttachParams, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams,
};
use kube::core::GroupVersionKind;
use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::federation::Home;
use crate::objects;

/// How long pods may take to serve.
const START: Duration = Duration::from_secs(60);
/// How long anything else may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(25);

/// A client of one cluster.
#[derive(Clone)]
pub(super) struct Cluster {
    client: kube::Client,
}

impl Cluster {
    pub(super) async fn connect(home: &Home, name: &str) -> anyhow::Result<Cluster> {
        Ok(Cluster { client: objects::connect(home, Some(name)).await?.0 })
    }

    /// Applies the objects of a manifest that `selector` selects, in their order. Those that name no namespace go to
    /// `namespace`.
    pub(super) async fn apply(&self, manifest: &str, selector: &str, namespace: &str) -> anyhow::Result<()> {
        let selector = LabelSelector::parse(selector)?;
        for object in serde_saphyr::from_multiple::<Value>(manifest)? {
            let labels = serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default();
            if selector.matches(&labels) {
                self.put(object, namespace).await?;
            }
        }
        Ok(())
    }

    /// Server-side apply of one object.
    pub(super) async fn put(&self, object: Value, namespace: &str) -> anyhow::Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind, name) =
            (text(&object["apiVersion"]), text(&object["kind"]), text(&object["metadata"]["name"]));
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let own = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
        let api: Api<DynamicObject> = match kind.as_str() {
            "Namespace" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), own, &resource),
        };
        let params = PatchParams::apply("isthmus-demo").force();
        let applied = api.patch(&name, &params, &Patch::Apply(&object)).await;
        applied.map(drop).with_context(|| format!("{kind} {name} cannot be applied"))
    }

    /// Waits until every Deployment of the namespaces has as many pods that serve as it wants; says how many.
    pub(super) async fn serves(&self, namespaces: &[&str]) -> anyhow::Result<usize> {
        within(START, async || {
            let mut pods = 0;
            for namespace in namespaces {
                let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
                for deployment in api.list(&ListParams::default()).await? {
                    let name = deployment.metadata.name.unwrap_or_default();
                    let wanted = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
                    let status = deployment.status.unwrap_or_default();
                    if status.available_replicas.unwrap_or_default() < wanted {
                        bail!("deployment {namespace}/{name} has no pod that serves");
                    }
                    pods += usize::try_from(wanted)?;
                }
            }
            Ok(pods)
        })
        .await
    }

    /// The address at which other clusters reach a Service.
    pub(super) async fn address(&self, namespace: &str, service: &str) -> anyhow::Result<String> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        until(async || {
            let status = api.get(service).await?.status.and_then(|status| status.load_balancer);
            let first = status.and_then(|balancer| balancer.ingress?.into_iter().next()?.ip);
            first.with_context(|| format!("service {service} has no address"))
        })
        .await
    }

    /// Runs a script in the first pod with a label; what it prints.
    pub(super) async fn run(&self, at: &Place, script: &str) -> anyhow::Result<String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), at.namespace);
        let params = AttachParams::default().container(at.container).stderr(false);
        let mut process = api.exec(&self.pod(at).await?.name_any(), ["sh", "-c", script], &params).await?;
        let mut printed = String::new();
        process.stdout().context("standard output is attached")?.read_to_string(&mut printed).await?;
        process.join().await?;
        Ok(printed.trim_end().to_owned())
    }

    /// Runs a script, again and again, until it prints what is `right`, and gives that.
    pub(super) async fn until<T>(
        &self,
        at: &Place,
        script: &str,
        right: impl Fn(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        until(async || {
            let printed = self.run(at, script).await?;
            right(&printed).ok_or_else(|| anyhow!("{} prints {printed:?}", at.container))
        })
        .await
    }

    /// Waits until one of the pods with a label has logged a line with `text`, and gives the last one.
    pub(super) async fn logged(&self, at: &Place, text: &str) -> anyhow::Result<String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), at.namespace);
        let params = LogParams { container: Some("istio-proxy".to_owned()), ..LogParams::default() };
        until(async || {
            for pod in api.list(&ListParams::default().labels(at.label)).await? {
                let log = api.logs(&pod.name_any(), &params).await?;
                if let Some(line) = log.lines().rev().find(|line| line.contains(text)) {
                    return Ok(line.to_owned());
                }
            }
            bail!("no pod with {} has logged {text:?}", at.label)
        })
        .await
    }

    /// Kills the first pod with a label.
    pub(super) async fn kill(&self, at: &Place) -> anyhow::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), at.namespace);
        api.delete(&self.pod(at).await?.name_any(), &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }

    /// The policies of its namespace that the first pod with a label is held to.
    pub(super) async fn policies(&self, at: &Place) -> anyhow::Result<Vec<String>> {
        let resource = objects::resource("security.istio.io", "v1", "AuthorizationPolicy", "authorizationpolicies");
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), at.namespace, &resource);
        let labels = self.pod(at).await?.metadata.labels.unwrap_or_default();
        let selects = |policy: &DynamicObject| {
            let wanted = policy.data["spec"]["selector"]["matchLabels"].as_object();
            wanted.into_iter().flatten().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
        };
        let policies = api.list(&ListParams::default()).await?.items.into_iter().filter(selects);
        let names = policies.filter_map(|policy| policy.metadata.name);
        Ok(names.map(|name| format!("{}/{name}", at.namespace)).collect())
    }

    async fn pod(&self, at: &Place) -> anyhow::Result<Pod> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), at.namespace);
        let pods = api.list(&ListParams::default().labels(at.label)).await?;
        let lives = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
        pods.items.into_iter().find(lives).with_context(|| format!("there is no pod with {}", at.label))
    }
}

/// A container of the pods with a label.
pub(super) struct Place {
    pub(super) namespace: &'static str,
    pub(super) label: &'static str,
    pub(super) container: &'static str,
}

/// Tries until it succeeds; the error is that of the last attempt.
pub(super) async fn until<T>(attempt: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    within(PATIENCE, attempt).await
}

async fn within<T>(patience: Duration, mut attempt: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let end = Instant::now() + patience;
    loop {
        match attempt().await {
            Err(_) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
            result => return result,
        }
    }
}
