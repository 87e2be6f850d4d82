//! Folders of `testdata/gateway`: `values.yaml` is what somebody writes, `out.yaml` what comes of it.

use std::path::{Path, PathBuf};

use super::*;

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/gateway");
    let mut all: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

fn rendered(values: &str) -> Result<String, GatewayError> {
    let mut documents = Vec::new();
    for gateway in gateways_of_values(values, "istio-private-gateways")? {
        documents.extend(gateway.manifests()?);
    }
    Ok(documents.iter().map(|d| serde_saphyr::to_string(d).unwrap()).collect::<Vec<_>>().join("---\n"))
}

/// With `UPDATE_GOLDEN=1` what is expected is written instead.
#[test]
fn values_become_the_manifests_that_are_expected() {
    for folder in folders() {
        let values = std::fs::read_to_string(folder.join("values.yaml")).unwrap();
        let output = rendered(&values).unwrap();
        let expected = folder.join("out.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&expected, &output).unwrap();
        }
        assert_eq!(output, std::fs::read_to_string(&expected).unwrap(), "{}", folder.display());
    }
}

#[test]
fn what_cannot_be_a_gateway_is_refused_by_its_field() {
    let wrong =
        |settings: &str| rendered(&format!("gateways: {{gw: {{enabled: true, {settings}}}}}")).unwrap_err().to_string();
    let port = "ports: [{name: tcp, port: 80}]";
    assert_eq!(wrong(""), "gateway gw: ports: a gateway needs at least one");
    assert_eq!(
        wrong("ports: [{name: a, port: 80}, {name: a, port: 81}]"),
        "gateway gw: ports[1].name: \"a\" is there already"
    );
    assert!(wrong("ports: [{name: a, port: 80, protocol: UDP}]").contains("ports[0].protocol: \"UDP\" is not spoken"));
    assert!(wrong(&format!("{port}, autoscaleMin: 6")).contains("autoscaleMin: 6 to 5 is no range"));
    assert!(wrong(&format!("{port}, sds: {{enabled: true}}")).starts_with("gateways.gw: unknown field `sds`"));
    let volume = |name: &str, path: &str| {
        wrong(&format!("{port}, secretVolumes: [{{name: {name}, secretName: s, mountPath: {path}}}]"))
    };
    assert!(volume("istio-token", "/certs").ends_with("secretVolumes[0].name: \"istio-token\" is there already"));
    assert!(volume("certs", "/etc/istio/proxy").ends_with("\"/etc/istio/proxy\" is there already"));
    assert!(volume("certs", "certs").ends_with("\"certs\" does not begin with /"));
    assert!(
        rendered("gateways: {enabled: false, gw: {enabled: true}}")
            .unwrap_err()
            .to_string()
            .contains("none is enabled")
    );
    assert!(
        rendered(
            "gateways: {gw: {enabled: true, podAnnotations: {proxy.istio.io/config: '['}, ports: [{name: a, port: 1}]}}"
        )
        .unwrap_err()
        .to_string()
        .starts_with("gateway gw: podAnnotations: invalid value")
    );
}
