//! What the demo's story needs: workloads, gateways and their certificates, in three clusters.

use anyhow::Context;
use control::gateways_of_values;
use pki::{Authority, PeerEnd};
use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::federation::Home;

/// Where the gateways are.
pub(super) const GATEWAYS: &str = "istio-private-gateways";
const BOOKINFO: &str = include_str!("../../samples/bookinfo/platform/kube/bookinfo.yaml");
const RULES: &str = include_str!("../../samples/bookinfo/networking/destination-rule-all-mtls.yaml");
const SLEEP: &str = include_str!("../../samples/sleep/sleep.yaml");
const ECHO: &str = include_str!("../../samples/tcp-echo/tcp-echo-services.yaml");
const HELLO_ECHO: &str = include_str!("../../samples/tcp-echo/tcp-hello-echo.yaml");
const CALLER: &str = include_str!("../../samples/federation/caller.yaml");
const C2_SERVICES: &str = include_str!("../../samples/federation/http/c2-services.yaml");

/// The three clusters, and where the others reach two of them.
pub(super) struct Stage {
    pub(super) c1: Cluster,
    pub(super) c2: Cluster,
    pub(super) c3: Cluster,
    c2_address: String,
    c3_address: String,
}

/// How many pods serve in the end, and the stage that they are.
pub(super) async fn set(home: &Home) -> anyhow::Result<(String, Stage)> {
    let [c1, c2, c3] =
        tokio::try_join!(Cluster::connect(home, "c1"), Cluster::connect(home, "c2"), Cluster::connect(home, "c3"),)
            .map(|(c1, c2, c3)| [c1, c2, c3])?;
    let authority = Authority::generate("example.com")?;
    let (one, two, three) =
        tokio::try_join!(set_c1(&c1, &authority), set_c2(&c2, &authority), set_c3(&c3, &authority))?;
    let (c2_address, c3_address) = tokio::try_join!(ingress(&c2), ingress(&c3))?;
    let seen = format!("{} pods in 3 clusters serve", one + two + three);
    Ok((seen, Stage { c1, c2, c3, c2_address, c3_address }))
}

impl Stage {
    /// The same text with the addresses that it leaves open.
    pub(super) fn addressed(&self, text: &str) -> String {
        text.replace("C2_ADDRESS", &self.c2_address).replace("C3_ADDRESS", &self.c3_address)
    }
}

async fn ingress(cluster: &Cluster) -> anyhow::Result<String> {
    cluster.address(GATEWAYS, "istio-private-ingressgateway").await
}

async fn set_c1(cluster: &Cluster, authority: &Authority) -> anyhow::Result<usize> {
    begin(cluster, "default").await?;
    let shop = async {
        cluster.apply(BOOKINFO, "app!=ratings,version notin (v2,v3)", "default").await?;
        cluster.apply(RULES, "", "default").await
    };
    let client = ("istio-private-egressgateway", PeerEnd::Client);
    let gateway = gateway(cluster, authority, "c1", client, include_str!("../../samples/federation/gateways/c1.yaml"));
    tokio::try_join!(shop, cluster.apply(SLEEP, "", "default"), gateway, callers(cluster, authority))?;
    cluster.serves(&["default", GATEWAYS]).await
}

async fn set_c2(cluster: &Cluster, authority: &Authority) -> anyhow::Result<usize> {
    begin(cluster, "bookinfo").await?;
    begin(cluster, "sample").await?;
    let shop = async {
        for part in ["account", "app=reviews,version in (v2,v3)", "app=ratings"] {
            cluster.apply(BOOKINFO, part, "bookinfo").await?;
        }
        cluster.apply(C2_SERVICES, "", "bookinfo").await
    };
    let server = ("istio-private-ingressgateway", PeerEnd::Server);
    let gateway = gateway(cluster, authority, "c2", server, include_str!("../../samples/federation/gateways/c2.yaml"));
    tokio::try_join!(shop, cluster.apply(ECHO, "version!=v2", "sample"), gateway)?;
    cluster.serves(&["bookinfo", "sample", GATEWAYS]).await
}

async fn set_c3(cluster: &Cluster, authority: &Authority) -> anyhow::Result<usize> {
    begin(cluster, "sample").await?;
    let server = ("istio-private-ingressgateway", PeerEnd::Server);
    let gateway = gateway(cluster, authority, "c3", server, include_str!("../../samples/federation/gateways/c3.yaml"));
    tokio::try_join!(cluster.apply(ECHO, "version!=v1", "sample"), cluster.apply(HELLO_ECHO, "", "sample"), gateway)?;
    cluster.serves(&["sample", GATEWAYS]).await
}

/// A namespace whose pods get sidecars, in a mesh whose proxies say what they did.
async fn begin(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let labels = json!({ "istio-injection": "enabled" });
    cluster.put(object("v1", "Namespace", namespace, json!({ "metadata": { "labels": labels } })), "").await?;
    let spec = json!({ "spec": { "accessLogging": [{ "providers": [{ "name": "envoy" }] }] } });
    cluster.put(object("telemetry.istio.io/v1", "Telemetry", "access-logs", spec), "istio-system").await
}

async fn gateway(
    cluster: &Cluster,
    authority: &Authority,
    name: &str,
    (role, end): (&str, PeerEnd),
    values: &str,
) -> anyhow::Result<()> {
    cluster.put(object("v1", "Namespace", GATEWAYS, json!({})), "").await?;
    let uri = format!("spiffe://{name}.example.com/{role}");
    let own = authority.issue_peer(&format!("{name}.example.com"), &uri, end)?;
    let key = own.key_pem.context("a new certificate has its key")?;
    let pair = json!({ "type": "kubernetes.io/tls", "stringData": { "tls.crt": own.chain_pem, "tls.key": key } });
    let roots = json!({ "stringData": { "example.com.crt": authority.certificate_pem() } });
    cluster.put(object("v1", "Secret", &format!("{name}-example-com-certs"), pair), GATEWAYS).await?;
    cluster.put(object("v1", "Secret", "example-com-ca-certs", roots), GATEWAYS).await?;
    for gateway in gateways_of_values(values, GATEWAYS)? {
        for manifest in gateway.manifests()? {
            cluster.put(manifest, GATEWAYS).await?;
        }
    }
    Ok(())
}

/// A pod without a sidecar that calls the gateways of other clusters itself, as c1 and as c4.
async fn callers(cluster: &Cluster, authority: &Authority) -> anyhow::Result<()> {
    let mut files = serde_json::Map::new();
    for name in ["c1", "c4"] {
        let uri = format!("spiffe://{name}.example.com/istio-private-egressgateway");
        // Both have one common name: nobody is to go by it.
        let pair = authority.issue_peer("c1.example.com", &uri, PeerEnd::Client)?;
        files.insert(format!("{name}.crt"), pair.chain_pem.into());
        files.insert(format!("{name}.key"), pair.key_pem.context("a new certificate has its key")?.into());
    }
    let secret = json!({ "stringData": files });
    cluster.put(object("v1", "Secret", "callers", secret), "default").await?;
    cluster.apply(CALLER, "", "default").await
}

fn object(version: &str, kind: &str, name: &str, rest: Value) -> Value {
    let mut object = rest;
    object["apiVersion"] = version.into();
    object["kind"] = kind.into();
    object["metadata"]["name"] = name.into();
    object
}
