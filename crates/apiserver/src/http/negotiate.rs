//! What the client wants the answer to look like.

use api::ApiError;
use http::HeaderMap;
use http::header::ACCEPT;

use crate::kind::Discovery;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Json,
    Yaml,
}

/// In which form objects are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Object,
    /// Rows and columns for people.
    Table,
    /// Only `metadata`.
    Metadata,
}

/// The answer to an `Accept` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) syntax: Syntax,
    pub(super) form: Form,
    pub(super) pretty: bool,
}

impl Format {
    pub(super) const JSON: Format = Format { syntax: Syntax::Json, form: Form::Object, pretty: false };

    /// The first acceptable entry of the header wins, as clients list them by preference.
    pub(super) fn of(headers: &HeaderMap) -> Result<Format, ApiError> {
        let mut entries = entries(headers).peekable();
        if entries.peek().is_none() {
            return Ok(Format::JSON);
        }
        let format = entries.find_map(|entry| format_of(&entry));
        format.ok_or_else(|| ApiError::not_acceptable("application/json, application/yaml"))
    }

    pub(super) fn content_type(self) -> &'static str {
        match self.syntax {
            Syntax::Json => "application/json",
            Syntax::Yaml => "application/yaml",
        }
    }
}

/// One media range with its parameters.
struct Entry<'a> {
    range: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Entry<'a> {
    fn parse(text: &'a str) -> Entry<'a> {
        let mut parts = text.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        Entry { range, parameters: parts.filter_map(|p| p.split_once('=')).collect() }
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }
}

fn entries(headers: &HeaderMap) -> impl Iterator<Item = Entry<'_>> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).filter(|e| !e.is_empty()).map(Entry::parse)
}

fn format_of(entry: &Entry<'_>) -> Option<Format> {
    let syntax = match entry.range.to_ascii_lowercase().as_str() {
        "application/json" | "*/*" | "application/*" => Syntax::Json,
        "application/yaml" => Syntax::Yaml,
        _ => return None,
    };
    let form = match entry.parameter("as") {
        None => Form::Object,
        Some(kind) => {
            let meta = entry.parameter("g") == Some("meta.k8s.io") && entry.parameter("v") == Some("v1");
            match kind {
                "Table" if meta => Form::Table,
                "PartialObjectMetadata" | "PartialObjectMetadataList" if meta => Form::Metadata,
                _ => return None,
            }
        }
    };
    Some(Format { syntax, form, pretty: entry.parameter("pretty") == Some("1") })
}

/// The form of discovery that the client reads: the first that it names and the server knows.
pub(super) fn discovery(headers: &HeaderMap) -> Discovery {
    let form = |entry: Entry<'_>| match (entry.parameter("as"), entry.parameter("v")) {
        _ if entry.range != "application/json" => None,
        (None, _) => Some(Discovery::Plain),
        (Some("APIGroupDiscoveryList"), Some("v2")) => Some(Discovery::V2),
        (Some("APIGroupDiscoveryList"), Some("v2beta1")) => Some(Discovery::V2Beta1),
        _ => None,
    };
    entries(headers).find_map(form).unwrap_or(Discovery::Plain)
}

/// Whether the client takes the protobuf form of OpenAPI v2.
pub(super) fn openapi_protobuf(headers: &HeaderMap) -> bool {
    entries(headers).any(|entry| entry.range.starts_with("application/com.github.proto-openapi.spec.v2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(accept: &str) -> Result<Format, u16> {
        let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
        Format::of(&headers).map_err(|e| e.code)
    }

    #[test]
    fn what_kubectl_and_kube_rs_ask_for_is_understood() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                     application/json";
        assert_eq!(format(table).unwrap().form, Form::Table);
        let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(format(metadata).unwrap().form, Form::Metadata);
        assert_eq!(format("application/vnd.kubernetes.protobuf,application/json").unwrap(), Format::JSON);
        assert_eq!(format("application/yaml").unwrap().syntax, Syntax::Yaml);
        assert_eq!(format("*/*").unwrap(), Format::JSON);
        assert_eq!(format("text/html"), Err(406));
        assert_eq!(Format::of(&HeaderMap::new()), Ok(Format::JSON));
    }
}
