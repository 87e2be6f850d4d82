//! What makes pods: Deployments, ReplicaSets, Jobs.

use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch};
use serde_json::Value;

use super::cell::{self, integer, number_at, text, text_at, wide};
use super::{Column, Kind, builtin};

pub(super) fn kinds() -> Vec<Kind> {
    let deployment = builtin::stored::<apps::Deployment>("deployment", &["deploy"])
        .in_all()
        .with_status()
        .with_scale()
        .with_columns(
            with_template_columns(vec![
                text("Ready", "How many pods are ready, of how many wanted."),
                text("Up-to-date", "How many pods have the wanted template."),
                text("Available", "How many pods have been ready long enough."),
                cell::age_column(),
            ]),
            deployment_row,
        );
    let replica_set = builtin::stored::<apps::ReplicaSet>("replicaset", &["rs"])
        .in_all()
        .with_status()
        .with_scale()
        .with_fields(&["status.replicas"])
        .with_columns(replica_columns(), |o, now| replica_row(o, now, cell::selector(o.pointer("/spec/selector"))));
    let job = builtin::stored::<batch::Job>("job", &[])
        .in_all()
        .with_status()
        .with_fields(&["status.successful"])
        .with_columns(
            with_template_columns(vec![
                text("Status", "Whether the job runs, is complete or has failed."),
                text("Completions", "How many pods succeeded, of how many wanted."),
                text("Duration", "How long the job has run."),
                cell::age_column(),
            ]),
            job_row,
        );
    vec![deployment, replica_set, job]
}

fn with_template_columns(mut columns: Vec<Column>) -> Vec<Column> {
    columns.extend([
        wide("Containers", "The names of the template's containers."),
        wide("Images", "The images of the template's containers."),
        wide("Selector", "Which pods belong to the object."),
    ]);
    columns
}

fn template_cells(object: &Value, selector: String) -> [Value; 3] {
    let [names, images] = cell::containers("/spec/template", object);
    [names, images, selector.into()]
}

fn deployment_row(object: &Value, now: i64) -> Vec<Value> {
    let ready = format!("{}/{}", number_at(object, "/status/readyReplicas"), number_at(object, "/spec/replicas"));
    let mut cells = vec![
        ready.into(),
        number_at(object, "/status/updatedReplicas").into(),
        number_at(object, "/status/availableReplicas").into(),
        cell::age(object, now),
    ];
    cells.extend(template_cells(object, cell::selector(object.pointer("/spec/selector"))));
    cells
}

fn replica_columns() -> Vec<Column> {
    with_template_columns(vec![
        integer("Desired", "How many pods are wanted."),
        integer("Current", "How many pods there are."),
        integer("Ready", "How many pods are ready."),
        cell::age_column(),
    ])
}

fn replica_row(object: &Value, now: i64, selector: String) -> Vec<Value> {
    let mut cells = vec![
        number_at(object, "/spec/replicas").into(),
        number_at(object, "/status/replicas").into(),
        number_at(object, "/status/readyReplicas").into(),
        cell::age(object, now),
    ];
    cells.extend(template_cells(object, selector));
    cells
}

fn job_row(job: &Value, now: i64) -> Vec<Value> {
    let mut cells =
        vec![job_status(job).into(), completions(job).into(), job_duration(job, now).into(), cell::age(job, now)];
    cells.extend(template_cells(job, cell::selector(job.pointer("/spec/selector"))));
    cells
}

fn job_status(job: &Value) -> &'static str {
    let deleted = !text_at(job, "/metadata/deletionTimestamp").is_empty();
    match () {
        () if cell::condition(job, "Complete") => "Complete",
        () if cell::condition(job, "Failed") => "Failed",
        () if deleted => "Terminating",
        () if cell::condition(job, "Suspended") => "Suspended",
        () if cell::condition(job, "FailureTarget") => "FailureTarget",
        () if cell::condition(job, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = number_at(job, "/status/succeeded");
    match (job.pointer("/spec/completions").and_then(Value::as_i64), number_at(job, "/spec/parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn job_duration(job: &Value, now: i64) -> String {
    let Some(start) = cell::seconds(text_at(job, "/status/startTime")) else { return String::new() };
    let end = cell::seconds(text_at(job, "/status/completionTime")).unwrap_or(now);
    cell::duration(end - start)
}
