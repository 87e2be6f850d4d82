use serde_json::json;

use super::*;

fn record(attempt: u32, exit: Option<Exit>) -> Record {
    let at = Timestamp::UNIX_EPOCH;
    Record {
        id: "f".repeat(64),
        name: "main".to_owned(),
        attempt,
        image: "busybox".to_owned(),
        image_id: "sha256:0".to_owned(),
        started_at: at,
        ended: exit.map(|exit| Ended { at, exit, failure: None, message: "last words".to_owned() }),
    }
}

fn status_of(records: &[Record], ready: bool, restarting: bool, outcome: Option<Outcome>) -> serde_json::Value {
    let pod: Pod =
        serde_json::from_value(json!({ "spec": { "containers": [{ "name": "main", "image": "busybox" }] } })).unwrap();
    let spec = &pod.spec.as_ref().unwrap().containers[0];
    let seen = Seen {
        spec,
        role: Role::Main,
        records,
        waiting: ("CrashLoopBackOff", "back-off"),
        started: true,
        ready,
        restarting,
    };
    let report = Report {
        pod: &pod,
        before: &PodStatus::default(),
        containers: vec![seen],
        address: Some(Ipv4Addr::new(10, 33, 0, 11)),
        host: Ipv4Addr::LOCALHOST,
        outcome,
        verdict: None,
        sandbox: true,
        gone: false,
        now: Timestamp::UNIX_EPOCH,
    };
    serde_json::to_value(report.status()).unwrap()
}

fn condition<'a>(status: &'a serde_json::Value, kind: &str) -> &'a serde_json::Value {
    status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap()
}

#[test]
fn a_running_pod_is_ready_when_its_containers_are() {
    let status = status_of(&[record(0, None)], true, false, None);
    assert_eq!((&status["phase"], &status["podIP"]), (&json!("Running"), &json!("10.33.0.11")));
    assert_eq!(condition(&status, "Ready")["status"], "True");
    let status = status_of(&[record(0, None)], false, false, None);
    let ready = condition(&status, "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("ContainersNotReady")));
    assert_eq!(ready["message"], "containers with unready status: [main]");
}

#[test]
fn a_crashing_container_waits_and_tells_its_last_state() {
    let status = status_of(&[record(0, Some(Exit::Code(1))), record(1, Some(Exit::Signal(9)))], false, true, None);
    let container = &status["containerStatuses"][0];
    assert_eq!(container["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(container["lastState"]["terminated"]["message"], "last words");
    assert_eq!((&container["restartCount"], &status["phase"]), (&json!(1), &json!("Running")));
}

#[test]
fn a_pod_that_is_over_says_how() {
    let status = status_of(&[record(0, Some(Exit::Code(0)))], false, false, Some(Outcome::Succeeded));
    assert_eq!(status["phase"], "Succeeded");
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    assert_eq!(condition(&status, "Ready")["reason"], "PodCompleted");
    assert_eq!(condition(&status, "Initialized")["status"], "True");
    let status = status_of(&[record(0, Some(Exit::Code(2)))], false, false, Some(Outcome::Failed));
    assert_eq!((&status["phase"], &condition(&status, "Ready")["status"]), (&json!("Failed"), &json!("False")));
}

#[test]
fn a_pod_whose_container_has_not_run_is_pending() {
    let status = status_of(&[], false, false, None);
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(status["qosClass"], "BestEffort");
}
