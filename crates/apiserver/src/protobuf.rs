//! Request bodies in `application/vnd.kubernetes.protobuf`, which kubectl's `create` subcommands send.
//! CONTRACT STUB.

use api::ApiError;
use serde_json::Value;

/// Decodes `k8s\0` + `runtime.Unknown` into the JSON form of its object, with `apiVersion` and `kind`.
pub(crate) fn decode(body: &[u8]) -> Result<Value, ApiError> {
    let _ = body;
    unimplemented!()
}
