//! A write on its way into the store: options, decoding, admission, validation, field ownership.

use api::{ApiError, Cause};
use serde_json::Value;

use super::call::{self, Call};
use super::decode::{self, Decoded, Encoding};
use super::definition;
use super::metadata;
use super::object::{is_terminating, meta, metadata_mut};
use super::query::FieldValidation;
use super::{Server, namespace};
use crate::extension::{Operation, Phase, Review, UserInfo};
use crate::kind::Kind;
use crate::patch;

/// The largest object that is stored, as etcd limits it by default.
const OBJECT_LIMIT: usize = 3 << 19;

/// A write request with its options.
pub(super) struct Draft<'a> {
    pub(super) call: &'a Call,
    pub(super) dry_run: bool,
    pub(super) manager: String,
    /// RFC 3339: the one time of everything that this write stamps.
    pub(super) now: String,
    validation: FieldValidation,
    pub(super) warnings: Vec<String>,
}

/// Who comes to own the fields that a write changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ownership {
    /// The request's manager, by comparison with the old object.
    Tracked,
    /// Server-side apply has recorded it already.
    Applied,
}

impl<'a> Draft<'a> {
    pub(super) fn new(call: &'a Call) -> Result<Draft<'a>, ApiError> {
        Ok(Draft {
            call,
            dry_run: call.query.dry_run()?,
            manager: call.query.field_manager(&call.headers)?.into_owned(),
            now: call::now(),
            validation: call.query.field_validation()?,
            warnings: Vec::new(),
        })
    }

    /// Decodes a body that must be an object of the kind, without unknown fields and with defaults.
    pub(super) fn decode(&mut self, encoding: Encoding, body: &[u8]) -> Result<Value, ApiError> {
        let kind = &self.call.kind;
        let Decoded { mut value, duplicates } = decode::decode(encoding, body, &kind.names.kind)?;
        expect_kind(kind, &mut value)?;
        check_types(kind, &value)?;
        let unknown = kind.schema.prune(&mut value);
        self.complain(&unknown, &duplicates).map_err(|e| cannot_be_handled(kind, &e.message))?;
        kind.schema.default(&mut value);
        Ok(value)
    }

    /// Reports unknown and duplicate fields in the way that the request asked for.
    pub(super) fn complain(&mut self, unknown: &[String], duplicates: &[String]) -> Result<(), ApiError> {
        let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
        let complaints: Vec<String> =
            unknown.chain(duplicates.iter().map(|path| format!("duplicate field {path:?}"))).collect();
        match self.validation {
            FieldValidation::Strict if !complaints.is_empty() => {
                Err(ApiError::bad_request(format!("strict decoding error: {}", complaints.join(", "))))
            }
            FieldValidation::Warn => {
                self.warnings.extend(complaints);
                Ok(())
            }
            FieldValidation::Strict | FieldValidation::Ignore => Ok(()),
        }
    }

    /// Completes a new object: system metadata, admission, validation, ownership.
    pub(super) fn admit_new(&mut self, mut value: Value, ownership: Ownership) -> Result<Value, ApiError> {
        let call = self.call;
        metadata::stamp_new(&mut value, &self.now);
        if call.kind.has_status
            && let Some(fields) = value.as_object_mut()
        {
            fields.remove("status");
        }
        namespace::prepare_new(&call.kind, &mut value);
        self.review(Phase::Mutating, Operation::Create, None, &mut value, "")?;
        metadata::start_generation(&call.kind, &mut value);
        self.finish(None, value, "", ownership)
    }

    /// Completes a changed object. What the request may not touch is as it was.
    pub(super) fn admit_update(
        &mut self,
        old: &Value,
        mut value: Value,
        subresource: &str,
        ownership: Ownership,
    ) -> Result<Value, ApiError> {
        let kind = &self.call.kind;
        let causes = metadata::carry_over(old, &mut value);
        if !causes.is_empty() {
            return Err(invalid(kind, meta(old, "name"), &causes));
        }
        // Other subresources have computed the whole object themselves.
        if kind.has_status && matches!(subresource, "" | "status") {
            separate_status(old, &mut value, subresource);
        }
        self.review(Phase::Mutating, Operation::Update, Some(old), &mut value, subresource)?;
        metadata::count_generation(kind, old, &mut value);
        self.finish(Some(old), value, subresource, ownership)
    }

    fn finish(
        &mut self,
        old: Option<&Value>,
        mut value: Value,
        subresource: &str,
        ownership: Ownership,
    ) -> Result<Value, ApiError> {
        let kind = &self.call.kind;
        metadata::drop_empty(&mut value);
        let mut causes = metadata::check(kind, &value);
        causes.extend(old.map(|old| metadata::check_finalizers(old, &value)).unwrap_or_default());
        causes.extend(kind.schema.check(&value));
        if !causes.is_empty() {
            return Err(invalid(kind, meta(&value, "name"), &causes));
        }
        let operation = if old.is_some() { Operation::Update } else { Operation::Create };
        self.review(Phase::Validating, operation, old, &mut value, subresource)?;
        self.warnings.extend(definition::review(&self.call.server, kind, old, &mut value)?);
        if ownership == Ownership::Tracked {
            let manager = self.manager(subresource);
            patch::track(old, &mut value, &kind.schema, &manager.view());
        }
        if metadata_mut(&mut value).get("managedFields").is_some_and(|m| m.as_array().is_some_and(Vec::is_empty)) {
            metadata_mut(&mut value).remove("managedFields");
        }
        kind.to_storage(&mut value);
        check_size(&value)?;
        Ok(value)
    }

    pub(super) fn manager(&self, subresource: &str) -> Manager {
        Manager {
            name: self.manager.clone(),
            subresource: subresource.to_owned(),
            api_version: self.call.kind.version.to_string(),
            now: self.now.clone(),
        }
    }

    /// Asks the extensions. `value` is what will be stored.
    pub(super) fn review(
        &mut self,
        phase: Phase,
        operation: Operation,
        old: Option<&Value>,
        value: &mut Value,
        subresource: &str,
    ) -> Result<(), ApiError> {
        let call = self.call;
        let Draft { dry_run, warnings, .. } = self;
        call.server.review(&call.kind, &call.user, phase, operation, old, value, subresource, *dry_run, warnings)
    }
}

/// An owned [`patch::Manager`].
pub(super) struct Manager {
    name: String,
    subresource: String,
    api_version: String,
    now: String,
}

impl Manager {
    pub(super) fn view(&self) -> patch::Manager<'_> {
        let Manager { name, subresource, api_version, now } = self;
        patch::Manager { name, subresource, api_version, now }
    }
}

impl Server {
    /// Runs the admissions that are registered for the kind and the phase, in order.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of a review")]
    pub(super) fn review(
        &self,
        kind: &Kind,
        user: &UserInfo,
        phase: Phase,
        operation: Operation,
        old: Option<&Value>,
        object: &mut Value,
        subresource: &str,
        dry_run: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let resource = kind.served_as();
        let (namespace, name) = (meta(object, "namespace").to_owned(), meta(object, "name").to_owned());
        for admission in &self.extensions.admission {
            let concerned = admission.resources.is_empty() || admission.resources.contains(&resource);
            if !concerned || admission.phase != phase {
                continue;
            }
            (admission.review)(&mut Review {
                operation,
                resource: &resource,
                subresource,
                namespace: &namespace,
                name: &name,
                old,
                object,
                warnings,
                user,
                dry_run,
                store: &self.store,
            })?;
        }
        Ok(())
    }
}

/// 400 unless the object says that it is of the kind; one that says nothing is taken for it if the kind is built in.
pub(super) fn expect_kind(kind: &Kind, value: &mut Value) -> Result<(), ApiError> {
    let (version, name) = (kind.version.to_string(), kind.names.kind.as_str());
    for (field, expected) in [("apiVersion", version.as_str()), ("kind", name)] {
        if value[field].as_str().is_none_or(str::is_empty) {
            if !kind.builtin {
                let message =
                    format!("Object 'Kind' or 'apiVersion' is missing in the object (must be of type {name})");
                return Err(ApiError::bad_request(message));
            }
            value[field] = expected.into();
        }
    }
    if value["apiVersion"] != version.as_str() {
        let message = format!(
            "the API version in the data ({}) does not match the expected API version ({version})",
            value["apiVersion"].as_str().unwrap_or_default()
        );
        return Err(ApiError::bad_request(message));
    }
    if value["kind"] != name {
        let given = value["kind"].as_str().unwrap_or_default();
        let message = format!("{given} in version {:?} cannot be handled as a {name}", kind.version.version);
        return Err(ApiError::bad_request(format!("{message}: the kind in the data does not match the path")));
    }
    Ok(())
}

/// 400 for values that Kubernetes could not decode.
pub(super) fn check_types(kind: &Kind, value: &Value) -> Result<(), ApiError> {
    kind.schema.decode_error(&kind.names.kind, value).map_or(Ok(()), |why| Err(ApiError::bad_request(why)))
}

fn cannot_be_handled(kind: &Kind, why: &str) -> ApiError {
    let name = &kind.names.kind;
    ApiError::bad_request(format!("{name} in version {:?} cannot be handled as a {name}: {why}", kind.version.version))
}

/// 422 with what is wrong with an object.
pub(super) fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> ApiError {
    ApiError::invalid(&kind.version.group, &kind.names.kind, name, causes)
}

/// A write to the object leaves its status alone, and a write to the status everything else.
fn separate_status(old: &Value, value: &mut Value, subresource: &str) {
    let (keep, from) = if subresource == "status" {
        let mut whole = old.clone();
        match value.get("status") {
            Some(status) => whole["status"] = status.clone(),
            None => drop(whole.as_object_mut().and_then(|fields| fields.remove("status"))),
        }
        // The resourceVersion was compared already; ownership goes on from what the client sent.
        if let Some(managed) = value["metadata"].get("managedFields") {
            whole["metadata"]["managedFields"] = managed.clone();
        }
        *value = whole;
        return;
    } else {
        (old.get("status"), value)
    };
    if let Some(fields) = from.as_object_mut() {
        match keep {
            Some(status) => drop(fields.insert("status".to_owned(), status.clone())),
            None => drop(fields.remove("status")),
        }
    }
}

fn check_size(value: &Value) -> Result<(), ApiError> {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            if self.0 > OBJECT_LIMIT { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    match serde_json::to_writer(Count(0), value) {
        Ok(()) => Ok(()),
        Err(_) => Err(ApiError::new(413, "RequestEntityTooLarge", "etcdserver: request is too large")),
    }
}

/// Whether an update leaves everything as it was; times in managedFields do not count.
pub(super) fn is_no_op(old: &Value, new: &Value) -> bool {
    let timeless = |value: &Value| {
        let mut value = value.clone();
        for entry in value["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
            entry.as_object_mut().map(|entry| entry.remove("time"));
        }
        value
    };
    old == new || timeless(old) == timeless(new)
}

/// Whether an update completes a deletion: nothing holds the object any more.
pub(super) fn completes_deletion(value: &Value) -> bool {
    let metadata = &value["metadata"];
    is_terminating(value)
        && metadata["finalizers"].as_array().is_none_or(Vec::is_empty)
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0
        && !namespace::is_held(value)
}
