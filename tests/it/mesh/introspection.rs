//! What a sidecar says of itself, asked through `isthmus proxy-config`.

use serde_json::Value;
use testkit::Session;

use super::mesh;

fn a_sidecar_is_asked_what_it_has_been_told(s: &Session<'_>) {
    mesh(s);
    let namespace = &s.namespace;
    let ask = |part: &str| s.federation.isthmus(&format!("proxy-config {part} other.{namespace} -c c1")).ok();
    let host = format!("tcp-echo.{namespace}.svc.cluster.local");
    let name = format!("outbound|9000||{host}");
    let has_row = |table: &str, columns: &[&str]| {
        table.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().starts_with(columns))
    };
    let clusters = ask(&format!("clusters --fqdn {host}"));
    assert!(
        clusters.starts_with("SERVICE FQDN") && has_row(&clusters, &[&host, "9000", "-", "outbound", "EDS"]),
        "{clusters}"
    );
    let listeners = ask("listeners --port 9000");
    assert!(listeners.contains(&format!("Cluster: {name}")), "{listeners}");
    testkit::until("an endpoint of tcp-echo", std::time::Duration::from_secs(60), || {
        let endpoints = ask(&format!("endpoints --name '{name}'"));
        endpoints.lines().any(|line| line.contains(":9000") && line.contains("HEALTHY")).then_some(())
    });
    let secrets = ask("secrets");
    assert!(
        has_row(&secrets, &["ROOTCA", "CA", "ACTIVE"]) && has_row(&secrets, &["default", "Cert", "Chain"]),
        "{secrets}"
    );
    let document: Value = serde_json::from_str(&ask("listeners --port 9000 -o json")).unwrap();
    assert_eq!(document[0]["address"]["socket_address"]["port_value"], 9000);
    s.write("dump.json", &ask("all -o json"));
    let file = s.sh("$ISTHMUS proxy-config clusters --file dump.json").ok();
    assert!(has_row(&file, &[&host, "9000"]), "{file}");
    let legacy = s.federation.isthmus(&format!("proxy-config clusters legacy.{namespace} -c c1"));
    assert!(legacy.code == 3 && legacy.stderr.contains("legacy"), "{}", legacy.transcript());
}

/// The columns of the row that begins with a name.
fn row(table: &str, name: &str) -> Vec<String> {
    let row = table.lines().find(|line| line.split_whitespace().next() == Some(name));
    row.into_iter().flat_map(str::split_whitespace).map(str::to_owned).collect()
}

fn proxies_are_in_step_with_the_control_plane_and_hold_what_it_sent(s: &Session<'_>) {
    mesh(s);
    let namespace = &s.namespace;
    let ask = |what: &str| s.federation.isthmus(&format!("proxy-status {what}"));
    let name = format!("other.{namespace}");
    testkit::until("a proxy in step", std::time::Duration::from_secs(60), || {
        let row = row(&ask("").stdout(), &name);
        let (cluster, states) = (row.get(1)?, row.get(2..7)?);
        (cluster == "c1" && states == ["SYNCED", "SYNCED", "SYNCED", "SYNCED", "IGNORED"] && row[7] == "istiod.c1")
            .then_some(())
    });
    let document: Value = serde_json::from_str(&ask("-c c1 -o json").stdout()).unwrap();
    let proxy = document.as_array().unwrap().iter().find(|proxy| proxy["name"] == *name).unwrap();
    assert_eq!((&proxy["cluster"], &proxy["types"]["LDS"]["status"]), (&"c1".into(), &"SYNCED".into()));
    testkit::until("what is held to be what was sent", std::time::Duration::from_secs(60), || {
        let compared = ask(&format!("{name} -c c1"));
        println!("{}", compared.transcript());
        (compared.stdout() == "Clusters Match\nListeners Match\nRoutes Match" && compared.code == 0).then_some(())
    });
    let describe = |what: &str| s.federation.isthmus(&format!("describe {what} -n {namespace} -c c1")).ok();
    let pod = describe("pod other");
    assert!(pod.starts_with(&format!("Pod: other.{namespace}\n   Proxy: sidecar\n")), "{pod}");
    assert!(pod.contains("Effective PeerAuthentication:\n   Workload mTLS mode: PERMISSIVE"), "{pod}");
    let service = describe("svc/tcp-echo");
    assert!(service.starts_with("Service: ") && service.contains("9000/TCP targets pod port 9000"), "{service}");
    let document: Value = serde_json::from_str(&describe("tcp-echo -o json")).unwrap();
    assert_eq!(document[0]["ports"][0]["protocol"], "TCP");
    let legacy = ask(&format!("legacy -n {namespace} -c c1"));
    assert!(legacy.code == 3 && legacy.stderr.contains(&format!("legacy.{namespace}")), "{}", legacy.transcript());
    let page =
        s.sh("kubectl get --raw /api/v1/namespaces/istio-system/services/http:istiod:http-monitoring/proxy/debug");
    assert!(page.ok().contains("/debug/syncz"));
    let other = s.sh("kubectl get --raw /api/v1/namespaces/default/services/kubernetes:443/proxy/");
    assert!(other.code != 0 && other.stderr.contains("istiod:15014"), "{}", other.transcript());
}

super::alternately![
    a_sidecar_is_asked_what_it_has_been_told,
    proxies_are_in_step_with_the_control_plane_and_hold_what_it_sent,
];
