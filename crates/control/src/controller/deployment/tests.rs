//! Deployments in a world where ReplicaSets do at once what they are told and pods become available when the test
//! says so.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DeploymentStatus, ReplicaSetStatus};
use serde_json::{Value, json};

use super::plan::replicas;
use super::*;

struct World {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    second: i64,
    created: i64,
}

impl World {
    fn new(spec: Value) -> World {
        let mut whole = json!({
            "replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}},
        });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let object = json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1}, "spec": whole,
        });
        let deployment = serde_json::from_value(object).unwrap();
        World { deployment, sets: BTreeMap::new(), second: 0, created: 0 }
    }

    fn change(&mut self, change: impl FnOnce(&mut Value)) {
        let mut object = serde_json::to_value(&self.deployment).unwrap();
        change(&mut object["spec"]);
        self.deployment = serde_json::from_value(object).unwrap();
        let generation = self.deployment.metadata.generation.unwrap();
        self.deployment.metadata.generation = Some(generation + 1);
    }

    fn image(&mut self, image: &str) {
        self.change(|spec| spec["template"]["spec"]["containers"][0]["image"] = image.into());
    }

    /// One reconciliation; whether it did anything.
    fn step(&mut self) -> bool {
        let sets: Vec<Arc<ReplicaSet>> = self.sets.values().cloned().map(Arc::new).collect();
        let now = Timestamp::from_second(self.second).unwrap();
        let snapshot = Snapshot { deployment: &self.deployment, sets: &sets, pods: &[], now };
        let plan = plan::plan(&snapshot);
        let changed = !plan.actions.is_empty() || self.deployment.status.as_ref() != Some(&plan.status);
        self.deployment.status = Some(plan.status);
        plan.actions.into_iter().for_each(|action| self.apply(action));
        changed
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Create(mut set) => {
                self.created += 1;
                set.metadata.uid = Some(format!("s{}", self.created));
                let at = Timestamp::from_second(self.created).unwrap();
                set.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
                self.sets.insert(set.name_any(), *set);
            }
            Action::Scale { set, replicas, annotations } => {
                let set = self.sets.get_mut(&set.name_any()).unwrap();
                set.metadata.annotations = Some(annotations);
                set.spec.as_mut().unwrap().replicas = Some(replicas);
            }
            Action::AnnotateSet { set, annotations } => {
                self.sets.get_mut(&set.name_any()).unwrap().metadata.annotations = Some(annotations);
            }
            Action::Delete(set) => drop(self.sets.remove(&set.name_any())),
            Action::SetRevision(number) => {
                let annotations = self.deployment.metadata.annotations.get_or_insert_default();
                annotations.insert(revision::REVISION.to_owned(), number.to_string());
            }
        }
    }

    /// The sets have the pods they ask for; of new pods, those of images that work become available.
    fn run_pods(&mut self, works: impl Fn(&str) -> bool) {
        for set in self.sets.values_mut() {
            let wanted = replicas(set);
            let image = image_of(set);
            let before = set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or_default();
            let available = if works(&image) { wanted } else { before.min(wanted) };
            set.status = Some(ReplicaSetStatus {
                replicas: wanted,
                ready_replicas: Some(available).filter(|n| *n > 0),
                available_replicas: Some(available).filter(|n| *n > 0),
                observed_generation: set.metadata.generation,
                ..ReplicaSetStatus::default()
            });
        }
    }

    /// Runs until nothing changes any more; checks that the bounds hold all the way.
    fn settle(&mut self, works: impl Fn(&str) -> bool, bounds: std::ops::RangeInclusive<i32>) {
        for _ in 0..100 {
            self.second += 1;
            let changed = self.step();
            let total: i32 = self.sets.values().map(replicas).sum();
            assert!(total <= *bounds.end(), "{total} pods are too many");
            let kept = |set: &ReplicaSet| plan::available(set).min(replicas(set));
            let available: i32 = self.sets.values().map(kept).sum();
            assert!(available >= *bounds.start(), "{available} available pods are too few");
            let before: Vec<_> = self.sets.values().map(|set| set.status.clone()).collect();
            self.run_pods(&works);
            let after: Vec<_> = self.sets.values().map(|set| set.status.clone()).collect();
            if !changed && before == after {
                return;
            }
        }
        panic!("the deployment does not settle: {:#?}", self.deployment.status);
    }

    fn sizes(&self) -> BTreeMap<String, i32> {
        self.sets.values().map(|set| (image_of(set), replicas(set))).collect()
    }

    fn revisions(&self) -> BTreeMap<String, i64> {
        self.sets.values().map(|set| (image_of(set), revision::number(set))).collect()
    }

    fn status(&self) -> &DeploymentStatus {
        self.deployment.status.as_ref().unwrap()
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let conditions = self.status().conditions.as_ref().unwrap();
        let found = conditions.iter().find(|c| c.type_ == kind).unwrap();
        (found.status.clone(), found.reason.clone().unwrap())
    }
}

fn image_of(set: &ReplicaSet) -> String {
    let template = set.spec.as_ref().unwrap().template.as_ref().unwrap();
    template.spec.as_ref().unwrap().containers[0].image.clone().unwrap()
}

fn pairs<T: Clone>(pairs: &[(&str, T)]) -> BTreeMap<String, T> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

#[test]
fn a_rolling_update_stays_within_its_bounds_and_ends_with_the_new_version() {
    let mut world = World::new(json!({}));
    world.settle(|_| true, 0..=4);
    assert_eq!(world.sizes(), pairs(&[("v1", 4)]));
    assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
    world.image("v2");
    world.settle(|_| true, 3..=5);
    assert_eq!(world.sizes(), pairs(&[("v1", 0), ("v2", 4)]));
    assert_eq!(world.status().updated_replicas, Some(4));
    assert_eq!(world.status().observed_generation, Some(2));
    assert_eq!(world.condition("Available"), ("True".into(), "MinimumReplicasAvailable".into()));
}

#[test]
fn a_version_that_does_not_work_replaces_only_what_may_be_missing() {
    let mut world = World::new(json!({}));
    world.settle(|_| true, 0..=4);
    world.image("broken");
    world.settle(|image| image == "v1", 3..=5);
    assert_eq!(world.sizes(), pairs(&[("v1", 3), ("broken", 2)]));
    assert_eq!(world.condition("Progressing").1, "ReplicaSetUpdated");
    world.second += 601;
    world.step();
    assert_eq!(world.condition("Progressing"), ("False".into(), "ProgressDeadlineExceeded".into()));
}

#[test]
fn going_back_reuses_the_old_set_under_a_new_number() {
    let mut world = World::new(json!({}));
    world.settle(|_| true, 0..=4);
    world.image("v2");
    world.settle(|_| true, 3..=5);
    assert_eq!(world.revisions(), pairs(&[("v1", 1), ("v2", 2)]));
    world.image("v1");
    world.settle(|_| true, 3..=5);
    assert_eq!(world.sizes(), pairs(&[("v1", 4), ("v2", 0)]));
    assert_eq!(world.revisions(), pairs(&[("v1", 3), ("v2", 2)]));
    assert_eq!(world.deployment.annotations()[revision::REVISION], "3");
    let back = world.sets.values().find(|set| image_of(set) == "v1").unwrap();
    assert_eq!(back.annotations()["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn history_is_kept_up_to_its_limit() {
    let mut world = World::new(json!({"revisionHistoryLimit": 2}));
    for image in ["v1", "v2", "v3", "v4", "v5"] {
        world.image(image);
        world.settle(|_| true, 0..=5);
    }
    assert_eq!(world.revisions(), pairs(&[("v3", 3), ("v4", 4), ("v5", 5)]));
}

#[test]
fn recreate_removes_all_old_pods_before_it_makes_new_ones() {
    let mut world = World::new(json!({"strategy": {"type": "Recreate"}}));
    world.settle(|_| true, 0..=4);
    world.image("v2");
    world.step();
    assert_eq!(world.sizes(), pairs(&[("v1", 0)]));
    world.settle(|_| true, 0..=4);
    assert_eq!(world.sizes(), pairs(&[("v1", 0), ("v2", 4)]));
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(json!({}));
    world.settle(|_| true, 0..=4);
    world.change(|spec| spec["paused"] = true.into());
    world.image("v2");
    world.change(|spec| spec["replicas"] = 6.into());
    world.settle(|_| true, 4..=6);
    assert_eq!(world.sizes(), pairs(&[("v1", 6)]));
    assert_eq!(world.condition("Progressing"), ("Unknown".into(), "DeploymentPaused".into()));
    world.change(|spec| spec["paused"] = false.into());
    world.settle(|_| true, 5..=7);
    assert_eq!(world.sizes(), pairs(&[("v1", 0), ("v2", 6)]));
}

#[test]
fn scaling_during_an_update_keeps_the_proportions() {
    let mut world = World::new(json!({"replicas": 10,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}));
    world.settle(|_| true, 0..=10);
    world.image("broken");
    world.settle(|image| image == "v1", 8..=13);
    assert_eq!(world.sizes(), pairs(&[("v1", 8), ("broken", 5)]));
    world.change(|spec| spec["replicas"] = 15.into());
    world.step();
    assert_eq!(world.sizes(), pairs(&[("v1", 11), ("broken", 7)]));
}

#[test]
fn a_deployment_of_none_is_complete() {
    let mut world = World::new(json!({"replicas": 0}));
    world.settle(|_| true, 0..=0);
    assert_eq!(world.condition("Progressing").1, "NewReplicaSetAvailable");
    assert_eq!(world.status().replicas, None);
}

#[test]
fn the_name_of_a_set_depends_on_nothing_but_its_template() {
    let mut world = World::new(json!({}));
    world.step();
    let name = world.sets.keys().next().unwrap().clone();
    let mut other = World::new(json!({"replicas": 1, "revisionHistoryLimit": 3}));
    other.step();
    assert_eq!(other.sets.keys().next(), Some(&name));
    let hash = name.strip_prefix("web-").unwrap();
    let set = &world.sets[&name];
    assert_eq!(set.spec.as_ref().unwrap().selector.match_labels.as_ref().unwrap()[revision::HASH], hash);
    let mut collided = World::new(json!({}));
    collided.deployment.status = Some(DeploymentStatus { collision_count: Some(1), ..DeploymentStatus::default() });
    collided.step();
    assert_ne!(collided.sets.keys().next(), Some(&name));
}
