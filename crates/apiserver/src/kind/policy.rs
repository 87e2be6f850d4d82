//! Limits, budgets, priorities and autoscaling.

use k8s_openapi::api::{autoscaling, core::v1 as core, policy::v1 as policy, scheduling::v1 as scheduling};
use serde_json::{Value, json};

use super::cell::{self, column, integer, list_at, number_at, or, text, text_at};
use super::{Kind, builtin};

pub(super) fn kinds() -> Vec<Kind> {
    let quota = builtin::stored::<core::ResourceQuota>("resourcequota", &["quota"]).with_status().with_columns(
        vec![
            text("Request", "What is requested, of what is allowed."),
            text("Limit", "What limits add up to, of what is allowed."),
            cell::age_column(),
        ],
        |o, now| {
            let [requests, limits] = quotas(o);
            vec![requests.into(), limits.into(), cell::age(o, now)]
        },
    );
    let limits = builtin::stored::<core::LimitRange>("limitrange", &["limits"]);
    let budget =
        builtin::stored::<policy::PodDisruptionBudget>("poddisruptionbudget", &["pdb"]).with_status().with_columns(
            vec![
                text("Min Available", "How many pods must stay."),
                text("Max Unavailable", "How many pods may go."),
                integer("Allowed Disruptions", "How many pods may go now."),
                cell::age_column(),
            ],
            |o, now| {
                let bound = |p: &str| match o.pointer(p) {
                    Some(Value::String(s)) => s.clone(),
                    Some(Value::Number(n)) => n.to_string(),
                    _ => "N/A".to_owned(),
                };
                vec![
                    bound("/spec/minAvailable").into(),
                    bound("/spec/maxUnavailable").into(),
                    number_at(o, "/status/disruptionsAllowed").into(),
                    cell::age(o, now),
                ]
            },
        );
    let priority = builtin::stored::<scheduling::PriorityClass>("priorityclass", &["pc"]).with_columns(
        vec![
            integer("Value", "The priority."),
            column("Global-Default", "boolean", "Whether pods without a class have this priority.", 0),
            cell::age_column(),
            text("PreemptionPolicy", "Whether pods of this class may take others' place."),
        ],
        |o, now| {
            let default = o["globalDefault"] == true;
            vec![
                number_at(o, "/value").into(),
                default.into(),
                cell::age(o, now),
                text_at(o, "/preemptionPolicy").into(),
            ]
        },
    );
    let v2 = autoscaler(builtin::stored::<autoscaling::v2::HorizontalPodAutoscaler>(AUTOSCALER, &["hpa"]));
    let v1 = autoscaler(builtin::stored::<autoscaling::v1::HorizontalPodAutoscaler>(AUTOSCALER, &["hpa"])).stored_as(
        "v2",
        autoscaler_to_v2,
        autoscaler_to_v1,
    );
    let row = v2.row.clone();
    let v1 = Kind {
        row: std::sync::Arc::new(move |object, now| {
            let mut object = object.clone();
            autoscaler_to_v2(&mut object);
            row(&object, now)
        }),
        ..v1
    };
    vec![quota, limits, budget, priority, v1, v2]
}

const AUTOSCALER: &str = "horizontalpodautoscaler";

/// `name: used/hard` of the requests and of the limits.
fn quotas(quota: &Value) -> [String; 2] {
    let hard = quota.pointer("/status/hard").and_then(Value::as_object).into_iter().flatten();
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, most) in hard {
        let used = quota.pointer("/status/used").and_then(|u| u.get(name)).and_then(Value::as_str).unwrap_or("0");
        let entry = format!("{name}: {used}/{}", most.as_str().unwrap_or_default());
        if name.starts_with("limits.") { limits.push(entry) } else { requests.push(entry) }
    }
    requests.sort();
    limits.sort();
    [requests.join(", "), limits.join(", ")]
}

fn autoscaler(kind: Kind) -> Kind {
    kind.in_all().with_status().with_columns(
        vec![
            text("Reference", "What is scaled."),
            text("Targets", "The observed and the wanted value of each metric."),
            text("MinPods", "The fewest pods."),
            text("MaxPods", "The most pods."),
            integer("Replicas", "How many pods there are."),
            cell::age_column(),
        ],
        |o, now| {
            let reference =
                format!("{}/{}", text_at(o, "/spec/scaleTargetRef/kind"), text_at(o, "/spec/scaleTargetRef/name"));
            let least = o.pointer("/spec/minReplicas").and_then(Value::as_i64);
            vec![
                reference.into(),
                targets(o).into(),
                least.map_or_else(|| "<unset>".to_owned(), |n| n.to_string()).into(),
                number_at(o, "/spec/maxReplicas").to_string().into(),
                number_at(o, "/status/currentReplicas").into(),
                cell::age(o, now),
            ]
        },
    )
}

/// `cpu: 10%/80%` for each metric; the first two, and how many more there are.
fn targets(object: &Value) -> String {
    let current = list_at(object, "/status/currentMetrics");
    let shown: Vec<String> = list_at(object, "/spec/metrics")
        .iter()
        .enumerate()
        .map(|(index, metric)| {
            let kind = text_at(metric, "/type");
            // Each type has its details in a field of nearly the same name.
            let field = kind.get(..1).map(|first| first.to_lowercase() + kind.get(1..).unwrap_or_default());
            let part = field.and_then(|field| metric.get(field)).unwrap_or(&Value::Null);
            let now = current.get(index).and_then(|m| m.as_object()).and_then(|m| m.values().find(|v| v.is_object()));
            let name = or(text_at(part, "/name"), text_at(part, "/metric/name"));
            let value = format!("{}/{}", amount(now.map(|n| &n["current"])), amount(part.get("target")));
            if kind == "Resource" { format!("{name}: {value}") } else { value }
        })
        .collect();
    match shown.as_slice() {
        [] => "<none>".to_owned(),
        [first, second, _, ..] => format!("{first}, {second} + {} more...", shown.len() - 2),
        few => few.join(", "),
    }
}

fn amount(value: Option<&Value>) -> String {
    let Some(value) = value else { return "<unknown>".to_owned() };
    if let Some(percent) = value.get("averageUtilization").and_then(Value::as_i64) {
        return format!("{percent}%");
    }
    let quantity = ["averageValue", "value"].into_iter().find_map(|f| value.get(f)?.as_str());
    quantity.unwrap_or("<unknown>").to_owned()
}

const CPU: &str = "/spec/targetCPUUtilizationPercentage";

/// Version 1 knows one metric, the use of the processor.
fn autoscaler_to_v2(object: &mut Value) {
    if let Some(percent) = object.pointer(CPU).filter(|p| p.is_i64()).cloned() {
        let target = json!({ "type": "Utilization", "averageUtilization": percent });
        object["spec"]["metrics"] = json!([{ "type": "Resource", "resource": { "name": "cpu", "target": target } }]);
    }
    if let Some(percent) = object.pointer("/status/currentCPUUtilizationPercentage").filter(|p| p.is_i64()).cloned() {
        let current = json!({ "averageUtilization": percent });
        object["status"]["currentMetrics"] =
            json!([{ "type": "Resource", "resource": { "name": "cpu", "current": current } }]);
    }
    remove(object, "spec", "targetCPUUtilizationPercentage");
    remove(object, "status", "currentCPUUtilizationPercentage");
}

fn autoscaler_to_v1(object: &mut Value) {
    let of_cpu = |list: &[Value], field: &str| {
        let cpu = list.iter().find(|m| text_at(m, "/resource/name") == "cpu")?;
        cpu.pointer(&format!("/resource/{field}/averageUtilization")).cloned()
    };
    let target = of_cpu(list_at(object, "/spec/metrics"), "target");
    let current = of_cpu(list_at(object, "/status/currentMetrics"), "current");
    if let Some(percent) = target {
        object["spec"]["targetCPUUtilizationPercentage"] = percent;
    }
    if let Some(percent) = current {
        object["status"]["currentCPUUtilizationPercentage"] = percent;
    }
    for (part, field) in
        [("spec", "metrics"), ("spec", "behavior"), ("status", "currentMetrics"), ("status", "conditions")]
    {
        remove(object, part, field);
    }
}

fn remove(object: &mut Value, part: &str, field: &str) {
    if let Some(fields) = object.get_mut(part).and_then(Value::as_object_mut) {
        fields.remove(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_keeps_its_target_between_versions() {
        let v1 = json!({"spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}});
        let mut object = v1.clone();
        autoscaler_to_v2(&mut object);
        assert_eq!(targets(&object), "cpu: <unknown>/80%");
        autoscaler_to_v1(&mut object);
        assert_eq!(object, v1);
    }
}
