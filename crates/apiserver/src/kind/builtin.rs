//! The built-in kinds, and how one is described.

use std::any::TypeId;
use std::sync::Arc;

use api::GroupVersion;
use k8s_openapi::{ListableResource, NamespaceResourceScope, Resource};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use super::{Column, Convert, Kind, Names, Row, ScalePaths, Source, Subresource, Verbs, cell};
use super::{access, cluster, event, pod, policy, service, workload};
use crate::schema::Schema;

/// Every built-in kind. Kinds that nothing acts on are left out, so that creating one fails instead of doing nothing.
pub(super) fn kinds() -> Vec<Kind> {
    let groups = [cluster::kinds(), pod::kinds(), service::kinds(), workload::kinds(), event::kinds()];
    groups.into_iter().chain([policy::kinds(), access::kinds()]).flatten().collect()
}

const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

/// A stored kind with a name and an age; the methods below say what else it has.
pub(super) fn stored<T>(singular: &str, short: &[&str]) -> Kind
where
    T: ListableResource + JsonSchema,
    T::Scope: 'static,
{
    let mut kind = described::<T>(singular, T::LIST_KIND);
    kind.names.short = short.iter().map(|s| (*s).to_owned()).collect();
    kind
}

/// A kind that is only created, and answered at once.
pub(super) fn review<T>(singular: &str) -> Kind
where
    T: Resource + JsonSchema,
    T::Scope: 'static,
{
    Kind { verbs: Verbs::CreateOnly, ..described::<T>(singular, "") }
}

fn described<T>(singular: &str, list_kind: &str) -> Kind
where
    T: Resource + JsonSchema,
    T::Scope: 'static,
{
    let version = GroupVersion { group: T::GROUP.to_owned(), version: T::VERSION.to_owned() };
    let definition = T::schema_name().into_owned();
    let generate = |generator: &mut SchemaGenerator| {
        generator.subschema_for::<T>();
    };
    Kind {
        names: Names {
            kind: T::KIND.to_owned(),
            list_kind: list_kind.to_owned(),
            plural: T::URL_PATH_SEGMENT.to_owned(),
            singular: singular.to_owned(),
            ..Names::default()
        },
        namespaced: TypeId::of::<T::Scope>() == TypeId::of::<NamespaceResourceScope>(),
        verbs: Verbs::All,
        storage_version: version.clone(),
        version,
        has_status: false,
        scale: None,
        subresources: Vec::new(),
        builtin: true,
        schema: Arc::new(Schema::builtin(&definition, generate)),
        columns: vec![cell::name_column(), cell::text("Created At", "When the object was created.")],
        row: Arc::new(|o, _| vec![cell::name(o), cell::text_at(o, "/metadata/creationTimestamp").into()]),
        selectable_fields: Vec::new(),
        deprecation: None,
        source: Source::Builtin { definition, generate },
        conversion: None,
    }
}

impl Kind {
    /// Shown by `kubectl get all`.
    pub(super) fn in_all(mut self) -> Kind {
        self.names.categories = vec!["all".to_owned()];
        self
    }

    pub(super) fn with_status(mut self) -> Kind {
        self.has_status = true;
        let (version, kind) = (self.version.clone(), self.names.kind.clone());
        self.with_subresource("status", version, &kind, STATUS_VERBS)
    }

    pub(super) fn with_scale(mut self) -> Kind {
        self.scale = Some(ScalePaths {
            spec_replicas: "spec.replicas".to_owned(),
            status_replicas: "status.replicas".to_owned(),
            selector: Some("spec.selector".to_owned()),
        });
        self.with_subresource("scale", GroupVersion::parse("autoscaling/v1"), "Scale", STATUS_VERBS)
    }

    pub(super) fn with_subresource(
        mut self,
        name: &str,
        version: GroupVersion,
        kind: &str,
        verbs: &'static [&'static str],
    ) -> Kind {
        self.subresources.push(Subresource { name: name.to_owned(), version, kind: kind.to_owned(), verbs });
        self.subresources.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }

    /// The columns after the name, and their cells.
    pub(super) fn with_columns(
        self,
        columns: Vec<Column>,
        row: impl Fn(&Value, i64) -> Vec<Value> + Send + Sync + 'static,
    ) -> Kind {
        let row: Row = Arc::new(move |object, now| {
            let mut cells = vec![cell::name(object)];
            cells.extend(row(object, now));
            cells
        });
        let columns = std::iter::once(cell::name_column()).chain(columns).collect();
        Kind { columns, row, ..self }
    }

    pub(super) fn with_fields(mut self, fields: &[&str]) -> Kind {
        self.selectable_fields = fields.iter().map(|f| (*f).to_owned()).collect();
        self
    }

    /// Stored in another version of the same kind.
    pub(super) fn stored_as(self, version: &str, to: Convert, from: Convert) -> Kind {
        let storage_version = GroupVersion { group: self.version.group.clone(), version: version.to_owned() };
        Kind { storage_version, conversion: Some((to, from)), ..self }
    }
}
