//! Data that a message carries or refers to.

use envoy::envoy::config::core::v3::DataSource;
use envoy::envoy::config::core::v3::data_source::Specifier;
use rustls::pki_types::pem::PemObject;

use super::field::{Checked, Path, fields};

/// The items in a PEM file, of which there must be one.
pub(super) fn pem_items<T: PemObject>(at: &Path<'_>, source: DataSource) -> Checked<Vec<T>> {
    let text = bytes(at, source)?;
    let items: Vec<T> =
        T::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|e| at.reject(format_args!("is not PEM: {e}")))?;
    if items.is_empty() { Err(at.reject("has no usable item in PEM")) } else { Ok(items) }
}

/// The bytes of a source, which must be in the message itself.
pub(super) fn bytes(at: &Path<'_>, source: DataSource) -> Checked<Vec<u8>> {
    fields!(at, source => DataSource { specifier } refuse { watched_directory });
    match at.required(specifier)? {
        Specifier::InlineBytes(bytes) => Ok(bytes),
        Specifier::InlineString(text) => Ok(text.into_bytes()),
        Specifier::Filename(_) => Err(at.field("filename").reject("is not supported; data must be inline")),
        Specifier::EnvironmentVariable(_) => {
            Err(at.field("environment_variable").reject("is not supported; data must be inline"))
        }
    }
}
