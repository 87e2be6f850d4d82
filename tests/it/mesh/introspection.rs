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

super::alternately![a_sidecar_is_asked_what_it_has_been_told];
