//! Kinds that are applied.

use testkit::Session;

crate::of_the_api!(an_applied_definition_is_served, schemas_are_enforced, a_deleted_definition_takes_its_objects);

/// A definition of `Widget` in a group of this session's own, since definitions have no namespace.
fn definition(s: &Session<'_>) -> String {
    format!(
        "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: widgets.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{kind: Widget, plural: widgets, singular: widget, shortNames: [wd{namespace}], categories: [all]}}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {{status: {{}}, scale: {{specReplicasPath: .spec.size, statusReplicasPath: .status.size}}}}
    additionalPrinterColumns:
    - {{name: Size, type: integer, jsonPath: .spec.size}}
    - {{name: Colour, type: string, jsonPath: .spec.colour, priority: 1}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {{type: integer, minimum: 1, description: How large it is.}}
              colour: {{type: string, enum: [red, green], default: red}}
          status:
            type: object
            properties: {{size: {{type: integer}}}}
",
        group = group(s),
        namespace = s.namespace,
    )
}

fn group(s: &Session<'_>) -> String {
    format!("{}.example.com", s.namespace)
}

fn widget(s: &Session<'_>, spec: &str) -> String {
    format!("{{apiVersion: {}/v1, kind: Widget, metadata: {{name: first}}, spec: {{{spec}}}}}", group(s))
}

fn establish(s: &Session<'_>) {
    s.apply(&definition(s));
    s.sh(&format!("kubectl wait crd/widgets.{} --for=condition=Established --timeout=30s", group(s))).ok();
}

fn remove(s: &Session<'_>) {
    s.sh(&format!("kubectl delete crd widgets.{}", group(s))).ok();
}

fn an_applied_definition_is_served(s: &Session<'_>) {
    let group = group(s);
    establish(s);
    assert_eq!(s.apply(&widget(s, "size: 3")), format!("widget.{group}/first created"));
    assert_eq!(s.apply(&widget(s, "size: 4")), format!("widget.{group}/first configured"));
    let row = s.sh(&format!("kubectl get wd{}", s.namespace)).ok();
    let rows: Vec<Vec<&str>> = row.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((&rows[0], &rows[1]), (&vec!["NAME", "SIZE"], &vec!["first", "4"]));
    let wide = s.sh(&format!("kubectl get widgets.{group} -o wide --no-headers")).ok();
    assert_eq!(wide.split_whitespace().collect::<Vec<_>>(), ["first", "4", "red"], "the default is filled in");
    assert!(s.sh(&format!("kubectl api-resources --api-group={group}")).ok().contains("Widget"));
    assert!(s.sh(&format!("kubectl explain widgets.{group}.spec.size")).ok().contains("How large it is."));
    s.sh(&format!("kubectl scale widgets.{group} first --replicas=5")).ok();
    let status = format!("kubectl patch widgets.{group} first --subresource=status --type merge -p");
    s.sh(&format!("{status} '{{\"status\":{{\"size\":5}},\"spec\":{{\"size\":1}}}}'")).ok();
    let read = format!(
        "kubectl get widgets.{group} first -o jsonpath='{{.spec.size}} {{.status.size}} {{.metadata.generation}}'"
    );
    assert_eq!(s.sh(&read).ok(), "5 5 3", "only the spec has generations, and status cannot change it");
    remove(s);
}

fn schemas_are_enforced(s: &Session<'_>) {
    establish(s);
    let refused = |spec: &str| s.sh_with_input("kubectl apply -f -", widget(s, spec).as_bytes()).fails();
    let small = refused("size: 0");
    assert!(small.contains("The Widget \"first\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"), "{small}");
    let colour = refused("size: 1, colour: blue");
    assert!(
        colour.contains("spec.colour: Unsupported value: \"blue\": supported values: \"red\", \"green\""),
        "{colour}"
    );
    let missing = refused("colour: red");
    assert!(missing.contains("spec.size: Required value"), "{missing}");
    let wrong = refused("size: large");
    assert!(
        wrong.contains("spec.size: Invalid value: \"string\": spec.size in body must be of type integer"),
        "{wrong}"
    );
    let unknown = refused("size: 1, weight: 2");
    assert!(unknown.contains("unknown field \"spec.weight\""), "{unknown}");
    let strategic = s.apply(&widget(s, "size: 1"));
    assert!(strategic.ends_with("created"));
    let refused = s.sh(&format!("kubectl patch widgets.{} first --type strategic -p '{{}}'", group(s))).fails();
    assert!(refused.contains("application/strategic-merge-patch+json is not supported by"), "{refused}");
    remove(s);
}

fn a_deleted_definition_takes_its_objects(s: &Session<'_>) {
    establish(s);
    s.apply(&widget(s, "size: 1"));
    remove(s);
    let gone = s.sh(&format!("kubectl get widgets.{}", group(s))).fails();
    assert!(gone.contains("the server doesn't have a resource type"), "{gone}");
    establish(s);
    assert_eq!(s.sh(&format!("kubectl get widgets.{} -o name", group(s))).ok(), "");
    remove(s);
}
