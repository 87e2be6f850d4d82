//! Which kind of proxy a pod gets.

use super::annotation::{Annotations, InjectionError};

/// The annotation that names the template.
const ANNOTATION: &str = "inject.istio.io/templates";

/// A kind of proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template {
    /// One beside an application, whose connections it carries.
    Sidecar,
    /// One alone, for connections between meshes or from outside.
    Gateway,
}

impl Template {
    pub(super) fn of(annotations: &Annotations<'_>) -> Result<Template, InjectionError> {
        match annotations.text(ANNOTATION) {
            None | Some("sidecar") => Ok(Template::Sidecar),
            Some("gateway") => Ok(Template::Gateway),
            Some(other) => {
                Err(annotations.refuse(ANNOTATION, other, "there are only the templates `sidecar` and `gateway`"))
            }
        }
    }

    /// What the agent is told to be.
    pub(super) fn role(self) -> &'static str {
        match self {
            Template::Sidecar => "sidecar",
            Template::Gateway => "router",
        }
    }
}
