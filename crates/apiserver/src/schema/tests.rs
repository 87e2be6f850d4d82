use serde_json::json;

use super::*;
use crate::kind::Registry;

fn builtin(group: &str, plural: &str) -> Arc<Schema> {
    Arc::clone(&Registry::builtin().find(group, "v1", plural).unwrap().schema)
}

#[test]
fn unknown_fields_of_a_built_in_kind_are_named_by_path() {
    let mut deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "labels": {"x": "y"}, "bogus": 1},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "bogus": 1, "resources": {"limits": {"cpu": 1}}}]}}},
    });
    let removed = builtin("apps", "deployments").prune(&mut deployment);
    assert_eq!(removed, ["metadata.bogus", "spec.template.spec.containers[0].bogus"]);
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"], 1);
}
