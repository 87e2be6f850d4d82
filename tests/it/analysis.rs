//! `isthmus analyze`, over files and over a cluster.

use serde_json::Value;
use testkit::{Account, Federation, Session};

const ROUTES: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: reviews
spec:
  ports:
  - name: http
    port: 9080
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts:
  - reviews
  http:
  - route:
    - destination:
        host: reviews
        subset: v9
";

fn home() -> Federation {
    Federation::prepare(crate::binary(), Account::current())
}

#[test]
fn files_are_analyzed_without_a_cluster_with_lines_and_equal_exit_codes() {
    let home = home();
    let shell = home.shell();
    shell.sh_with_input("cat > routes.yaml", ROUTES.as_bytes()).ok();
    let run = |more: &str| shell.sh(&format!("$ISTHMUS analyze --use-kube=false routes.yaml {more}"));
    let text = run("");
    let expected = "Error [IST0101] (VirtualService default/reviews routes.yaml:21:9) Referenced host+subset in \
        destinationrule not found: \"reviews+v9\"";
    assert!(text.stdout().lines().any(|line| line == expected), "{}", text.transcript());
    assert!(text.stdout().contains("     21 |         subset: v9\n        |         ^\n"), "{}", text.transcript());
    assert!(text.stderr.contains("Error: Analyzers found issues when analyzing routes.yaml."), "{}", text.transcript());
    let others = ["-o json", "-o yaml", "-o sarif", "--failure-threshold info"];
    assert!(text.code == 79 && others.iter().all(|more| run(more).code == 79));
    let json: Value = serde_json::from_slice(&run("-o json").bytes).unwrap();
    let missing = json.as_array().unwrap().iter().find(|found| found["code"] == "IST0101").unwrap();
    assert_eq!((&missing["level"], &missing["reference"]), (&"Error".into(), &"routes.yaml:21".into()));
    let sarif: Value = serde_json::from_slice(&run("-o sarif").bytes).unwrap();
    let region = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"];
    assert_eq!(region["startLine"], 21);
    let suppressed = run("--suppress 'IST0101=VirtualService reviews.default' --output-threshold Warning");
    assert!(suppressed.code == 0 && !suppressed.stdout().contains("IST0101"), "{}", suppressed.transcript());
}

#[test]
fn what_is_sound_is_said_and_what_cannot_be_read_is_exit_code_3() {
    let home = home();
    let service = ROUTES.split("---").next().unwrap();
    let analyze = |text: &str| home.shell().sh_with_input("$ISTHMUS analyze --use-kube=false -", text.as_bytes());
    let sound = analyze(service);
    assert_eq!((sound.code, sound.stdout().as_str()), (0, ""), "{}", sound.transcript());
    assert!(sound.stderr.contains("✔ No validation issues found when analyzing -."), "{}", sound.transcript());
    let broken = analyze("a: [");
    assert!(broken.code == 3 && broken.stderr.contains("line 1"), "{}", broken.transcript());
}

#[test]
fn samples_are_analyzed_with_charts_values_skipped() {
    let home = home();
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/samples");
    let all = home.shell().sh(&format!("$ISTHMUS analyze --use-kube=false -R {samples}"));
    assert!([0, 79].contains(&all.code), "{}", all.transcript());
    assert!(all.stderr.contains("skipped: ") && all.stderr.contains("is no manifest"), "{}", all.transcript());
}

fn a_cluster_is_analyzed_with_what_would_be_applied(s: &Session<'_>) {
    s.apply(ROUTES);
    let analyze = |more: &str| s.federation.isthmus(&format!("analyze -c c1 -n {} {more}", s.namespace));
    let live = analyze("");
    let expected = format!("Error [IST0101] (VirtualService {}/reviews) Referenced host+subset", s.namespace);
    assert!(live.code == 79 && live.stdout().contains(&expected), "{}", live.transcript());
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews}\nspec: {host: reviews, subsets: \
        [{name: v9, labels: {version: v9}}]}\n";
    let file = s.write("rule.yaml", rule);
    let mended = analyze(&file.display().to_string());
    assert!(mended.code == 0 && !mended.stdout().contains("IST0101"), "{}", mended.transcript());
    s.sh("kubectl delete virtualservice,service reviews").ok();
    let clean = analyze("");
    let expected = format!("✔ No validation issues found when analyzing namespace: {}.", s.namespace);
    assert!(clean.code == 0 && clean.stderr.contains(&expected), "{}", clean.transcript());
}

crate::scenarios![a_cluster_is_analyzed_with_what_would_be_applied];
