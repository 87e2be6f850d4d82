//! Deployments and Jobs: scaling, rolling out, taking back.

use testkit::Session;

crate::scenarios!(
    deployments_scale,
    a_new_image_rolls_out_and_back,
    rollouts_restart_pause_and_resume,
    a_rollout_never_drops_below_what_is_allowed,
    jobs_run_to_completion,
    failing_jobs_give_up,
    workloads_are_created_by_command,
);

const ECHO: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: docker.io/istio/tcp-echo-server:1.3
        args: ['9000', one]
        ports: [{containerPort: 9000}]
        readinessProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}
";

fn ready(s: &Session<'_>) {
    s.sh("kubectl rollout status deployment/web --timeout=60s").ok();
}

fn deployments_scale(s: &Session<'_>) {
    s.apply(ECHO);
    ready(s);
    assert_eq!(s.sh("kubectl scale deployment web --replicas=3").ok(), "deployment.apps/web scaled");
    ready(s);
    s.until_prints("kubectl get pods -l app=web --field-selector status.phase=Running -o name | wc -l", "3");
    let refused = s.sh("kubectl scale deployment web --replicas=1 --current-replicas=7").fails();
    assert!(refused.contains("Expected replicas to be 7, was 3"), "{refused}");
    s.sh("kubectl scale deployment web --replicas=0").ok();
    s.until_prints("kubectl get pods -l app=web -o name", "");
    s.until_prints("kubectl get deployment web -o jsonpath='{.status.replicas}'", "");
    assert_eq!(s.sh("kubectl get deployment web -o jsonpath='{.spec.replicas}'").ok(), "0");
}

fn a_new_image_rolls_out_and_back(s: &Session<'_>) {
    s.apply(ECHO);
    ready(s);
    assert_eq!(
        s.sh("kubectl set image deployment/web web=docker.io/istio/tcp-echo-server:1.2").ok(),
        "deployment.apps/web image updated"
    );
    ready(s);
    let image = "kubectl get deployment web -o jsonpath='{..containers[0].image}'";
    assert_eq!(s.sh(image).ok(), "docker.io/istio/tcp-echo-server:1.2");
    let history = s.sh("kubectl rollout history deployment/web").ok();
    let revisions: Vec<&str> = history.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(revisions[revisions.len() - 2..], ["1", "2"], "{history}");
    let first = s.sh("kubectl rollout history deployment/web --revision=1").ok();
    assert!(first.contains("tcp-echo-server:1.3"), "{first}");
    assert_eq!(s.sh("kubectl rollout undo deployment/web").ok(), "deployment.apps/web rolled back");
    ready(s);
    assert_eq!(s.sh(image).ok(), "docker.io/istio/tcp-echo-server:1.3");
    let history = s.sh("kubectl rollout history deployment/web").ok();
    let revisions: Vec<&str> = history.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(revisions[revisions.len() - 2..], ["2", "3"], "{history}");
    s.sh("kubectl rollout undo deployment/web --to-revision=2").ok();
    assert_eq!(s.sh(image).ok(), "docker.io/istio/tcp-echo-server:1.2");
    ready(s);
    s.until_prints("kubectl get rs -o jsonpath='{range .items[?(@.spec.replicas>0)]}{.spec.replicas}{end}'", "2");
}

fn rollouts_restart_pause_and_resume(s: &Session<'_>) {
    s.apply(ECHO);
    ready(s);
    let pods = "kubectl get pods -l app=web -o name | sort";
    let before = s.sh(pods).ok();
    assert_eq!(s.sh("kubectl rollout restart deployment/web").ok(), "deployment.apps/web restarted");
    ready(s);
    for pod in before.lines() {
        s.sh(&format!("kubectl wait {pod} --for=delete --timeout=30s")).ok();
    }
    let before = s.sh(pods).ok();
    assert_eq!(s.sh("kubectl rollout pause deployment/web").ok(), "deployment.apps/web paused");
    s.sh("kubectl set env deployment/web COLOUR=blue").ok();
    let refused = s.sh("kubectl rollout restart deployment/web").fails();
    assert!(refused.contains("can't restart paused deployment"), "{refused}");
    s.until_prints("kubectl get deployment web -o jsonpath='{.status.observedGeneration}' | grep -c .", "1");
    assert_eq!(s.sh(pods).ok(), before);
    s.sh("kubectl rollout resume deployment/web").ok();
    ready(s);
    s.until_prints(
        "kubectl get pods -l app=web -o jsonpath='{.items[*].spec.containers[0].env[0].value}'",
        "blue blue",
    );
}

fn a_rollout_never_drops_below_what_is_allowed(s: &Session<'_>) {
    s.apply(&ECHO.replace("replicas: 2", "replicas: 2\n  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}"));
    ready(s);
    let watch =
        s.start("kubectl get deployment web --watch -o jsonpath='{.status.readyReplicas} {.status.replicas}{\"\\n\"}'");
    watch.line_with("2 2");
    s.sh("kubectl set image deployment/web web=docker.io/istio/tcp-echo-server:1.2").ok();
    ready(s);
    for line in watch.lines() {
        let numbers: Vec<u32> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert!(numbers[0] >= 2 && numbers[1] <= 3, "{:?}", watch.lines());
    }
    let stuck = "kubectl set image deployment/web web=example.com/unknown:1";
    s.sh(stuck).ok();
    s.until_prints("kubectl get pods -l app=web -o jsonpath='{..waiting.reason}' | tr ' ' '\\n' | grep -c -E 'ErrImagePull|ImagePullBackOff'", "1");
    assert_eq!(s.sh("kubectl get deployment web -o jsonpath='{.status.readyReplicas}'").ok(), "2");
    let late = s.sh("kubectl rollout status deployment/web --timeout=1s").fails();
    assert!(late.contains("1 out of 2 new replicas have been updated"), "{late}");
}

fn jobs_run_to_completion(s: &Session<'_>) {
    s.sh("kubectl create job once --image=busybox -- sh -c 'echo done'").ok();
    s.sh("kubectl wait job/once --for=condition=Complete --timeout=60s").ok();
    assert_eq!(s.sh("kubectl logs job/once").ok(), "done");
    let row = s.sh("kubectl get job once --no-headers").ok();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>()[..3], ["once", "Complete", "1/1"], "{row}");
    let many = "
apiVersion: batch/v1
kind: Job
metadata: {name: many}
spec:
  completions: 3
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: one, image: busybox, command: [sh, -c, 'true']}]
";
    s.apply(many);
    s.sh("kubectl wait job/many --for=condition=Complete --timeout=60s").ok();
    assert_eq!(s.sh("kubectl get job many -o jsonpath='{.status.succeeded}'").ok(), "3");
    s.sh("kubectl delete job many").ok();
    s.until_prints("kubectl get pods -l job-name=many -o name", "");
}

fn failing_jobs_give_up(s: &Session<'_>) {
    let failing = "
apiVersion: batch/v1
kind: Job
metadata: {name: failing}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: one, image: busybox, command: [sh, -c, 'exit 3']}]
";
    s.apply(failing);
    s.sh("kubectl wait job/failing --for=condition=Failed --timeout=60s").ok();
    assert_eq!(
        s.sh("kubectl get job failing -o jsonpath='{.status.conditions[?(@.type==\"Failed\")].reason}'").ok(),
        "BackoffLimitExceeded"
    );
    assert_eq!(s.sh("kubectl get pods -l job-name=failing -o jsonpath='{..terminated.exitCode}'").ok(), "3");
}

fn workloads_are_created_by_command(s: &Session<'_>) {
    assert_eq!(
        s.sh("kubectl create deployment web --image=docker.io/istio/tcp-echo-server:1.3 --port=9000").ok(),
        "deployment.apps/web created"
    );
    assert_eq!(s.sh("kubectl expose deployment web --port=80 --target-port=9000").ok(), "service/web exposed");
    assert_eq!(
        s.sh("kubectl run one --image=busybox --restart=Never --command -- sh -c 'echo hi; sleep 600'").ok(),
        "pod/one created"
    );
    s.sh("kubectl wait pod/one --for=condition=Ready --timeout=60s").ok();
    assert_eq!(
        s.sh("kubectl run two --image=busybox --rm -i --restart=Never --quiet --command -- echo attached").ok(),
        "attached"
    );
    assert_eq!(
        s.sh("kubectl autoscale deployment web --min=1 --max=3").ok(),
        "horizontalpodautoscaler.autoscaling/web autoscaled"
    );
    s.sh("kubectl delete pod one --grace-period=0 --force").ok();
    assert!(s.sh("kubectl get pod one").fails().contains("NotFound"));
}
