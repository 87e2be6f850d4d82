//! Python's `kubernetes` client, unchanged.

#[test]
fn lists_watches_and_patches() {
    if !testkit::program("python3") || !testkit::kubectl() {
        return;
    }
    let Some(federation) = crate::current_user() else { return };
    let s = federation.session("c1");
    if s.sh("python3 -c 'import kubernetes'").code != 0 {
        return testkit::skip("python3 has no module kubernetes (pip install kubernetes)");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/client.py");
    let seen = s.sh(&format!("python3 {script} c1 {}", s.namespace)).ok();
    let expected = "\
listed ['first']
watched ADDED second 1
watched MODIFIED second 2
watched DELETED second 2
patched docker.io/istio/tcp-echo-server:1.3 ['9000', 'ho']
json {'value': '3'}
missing 404 Not Found";
    assert_eq!(seen, expected);
}
