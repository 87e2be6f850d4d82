//! Kinds that are stored, so that manifests which hold them apply, and that nothing acts on: whoever creates one is told.

use api::ApiError;
use apiserver::{Operation, Review};

/// An admission that warns `effect`, which says what the object does not do.
pub(super) fn warn(effect: &'static str) -> impl Fn(&mut Review<'_>) -> Result<(), ApiError> {
    move |review| {
        if review.operation == Operation::Create {
            review.warnings.push(format!("{effect}: the object is stored and has no effect"));
        }
        Ok(())
    }
}
