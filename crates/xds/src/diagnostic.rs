//! What an object says without effect.

use std::fmt;

use api::istio::{Object, Spec};

/// An object has less effect than written, or another one than its author may expect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The object.
    pub object: ObjectRef,
    /// The field, for example `spec.rules[0].to[0].operation.methods`.
    pub field: String,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing it is.
    pub code: Code,
    /// What has no effect, and what would.
    pub message: String,
}

/// The name of an object with its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectRef {
    pub(crate) fn new(kind: &str, namespace: &str, name: &str) -> ObjectRef {
        ObjectRef { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The name of an object.
    pub fn of<S: Spec>(object: &Object<S>) -> ObjectRef {
        ObjectRef::new(S::KIND, &object.metadata.namespace, &object.metadata.name)
    }

    pub(crate) fn error(&self, field: impl Into<String>, code: Code, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Error, field, code, message)
    }

    pub(crate) fn warning(&self, field: impl Into<String>, code: Code, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Warning, field, code, message)
    }

    pub(crate) fn info(&self, field: impl Into<String>, code: Code, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Info, field, code, message)
    }

    fn diagnostic(
        &self,
        severity: Severity,
        field: impl Into<String>,
        code: Code,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic { object: self.clone(), field: field.into(), severity, code, message: message.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Info => "Info",
            Severity::Warning => "Warning",
            Severity::Error => "Error",
        };
        write!(f, "{severity} [{:?}] ({}) {}: {}", self.code, self.object, self.field, self.message)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Probably not what was meant.
    Warning,
    /// Certainly not what was meant; something is refused that was to be allowed, or not configured at all.
    Error,
}

/// What kind of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// An older object says something about the same.
    Conflict,
    /// A value that is not of the form that the field takes.
    InvalidValue,
    /// The object could not be read at all.
    Malformed,
    /// A field that exists in Istio and is not supported here.
    NotSupported,
    /// A selector, host or subset to which nothing corresponds.
    NothingSelected,
    /// A field of HTTP, where connections are only bytes.
    OnlyHttp,
    /// A host, port or subset that nothing defines.
    ReferenceNotFound,
    /// A field that no version of the kind has.
    UnknownField,
    /// A rule that an earlier one hides.
    Unreachable,
    /// A setting that protects less than it seems to.
    Unsafe,
}
