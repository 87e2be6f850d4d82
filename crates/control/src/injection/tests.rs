//! Folders of `testdata/injection`: `in.yaml` is what somebody writes, `out.yaml` what `kube-inject` makes of it.

use std::path::{Path, PathBuf};

use api::istio::MeshConfig;

use super::*;
use crate::DataPlane;

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/injection");
    let mut all: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// With `UPDATE_GOLDEN=1` what is expected is written instead.
#[test]
fn manifests_become_what_is_expected() {
    for folder in folders() {
        let input = std::fs::read_to_string(folder.join("in.yaml")).unwrap();
        let output = inject_manifest(&input).unwrap_or_else(|e| format!("{e}\n"));
        let expected = folder.join("out.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&expected, &output).unwrap();
        }
        assert_eq!(output, std::fs::read_to_string(&expected).unwrap(), "{}", folder.display());
        if !output.starts_with("document ") {
            assert_eq!(
                inject_manifest(&output).unwrap(),
                output,
                "{}: a second time changes nothing",
                folder.display()
            );
        }
    }
}

fn pod(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn variable<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let proxy = pod["spec"]["containers"].as_array().unwrap().iter().find(|c| c["name"] == PROXY).unwrap();
    proxy["env"].as_array().unwrap().iter().find(|v| v["name"] == name)?["value"].as_str()
}

#[test]
fn a_cluster_completes_what_was_injected_anywhere() {
    let (mesh, _) = MeshConfig::from_yaml(
        "trustDomain: td\ndefaultConfig: {concurrency: 2, discoveryAddress: a, proxyMetadata: {A: mesh, B: mesh}}",
    )
    .unwrap();
    let mut injected = pod("
metadata:
  name: p
  annotations: {proxy.istio.io/config: '{concurrency: 4, proxyMetadata: {A: own}}'}
spec: {containers: [{name: app, image: i}]}");
    let workload = Workload { api_version: "v1", kind: "Pod", name: "p", namespace: "ns" };
    inject(&mut injected, &workload, &Map::new()).unwrap();
    assert_eq!(variable(&injected, "TRUST_DOMAIN"), None, "what is injected anywhere does not know");
    let data_plane = DataPlane::Envoy("/bin/envoy".into());
    complete(&mut injected, &Settings { cluster: "c1", data_plane: &data_plane, mesh: &mesh });
    let expected = [
        ("ISTIO_META_CLUSTER_ID", "c1"),
        ("TRUST_DOMAIN", "td"),
        ("ISTIO_META_MESH_ID", "td"),
        ("ISTHMUS_DATA_PLANE", "envoy"),
        ("ISTHMUS_ENVOY", "/bin/envoy"),
        ("A", "own"),
        ("B", "mesh"),
    ];
    for (name, value) in expected {
        assert_eq!(variable(&injected, name), Some(value), "{name}");
    }
    let config: Value = serde_json::from_str(variable(&injected, "PROXY_CONFIG").unwrap()).unwrap();
    let own = json!({"concurrency": 4, "discoveryAddress": "a", "proxyMetadata": {"A": "own", "B": "mesh"}});
    assert_eq!(config, own);
    let once = injected.clone();
    complete(&mut injected, &Settings { cluster: "c2", data_plane: &DataPlane::Native, mesh: &mesh });
    assert_eq!(injected, once, "what is said already stays");
}

#[test]
fn the_mesh_may_hold_up_applications_until_the_proxy_is_ready() {
    let defaults = json!({"holdApplicationUntilProxyStarts": true});
    let names = |annotation: &str| {
        let mut pod = pod("spec: {containers: [{name: app, image: i}]}");
        pod["metadata"] = json!({"annotations": {"proxy.istio.io/config": annotation}});
        let workload = Workload { api_version: "v1", kind: "Pod", name: "p", namespace: "ns" };
        inject(&mut pod, &workload, defaults.as_object().unwrap()).unwrap();
        let containers = pod["spec"]["containers"].as_array().unwrap();
        containers.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["istio-proxy", "app"]);
    assert_eq!(names("holdApplicationUntilProxyStarts: false"), ["app", "istio-proxy"]);
}
