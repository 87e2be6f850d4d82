//! The nouns: names, identities, addresses, selectors, the errors of the Kubernetes API, and Istio's objects.
//!
//! Nothing here performs I/O, reads a clock or is asynchronous.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod error;
pub mod istio;
pub mod name;
pub mod plan;
pub mod resource;
pub mod selector;

pub use error::{ApiError, Cause};
pub use name::NamespacedName;
pub use plan::{AddressPlan, ClusterIndex};
pub use resource::{GroupResource, GroupVersion, GroupVersionKind};
pub use selector::{FieldSelector, LabelSelector};
