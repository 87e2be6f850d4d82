//! Query parameters.

use std::borrow::Cow;
use std::time::Duration;

use api::{ApiError, Cause, FieldSelector, LabelSelector};
use serde_json::{Value, json};

use crate::store::Revision;

/// The parameters of a request, decoded and in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

/// What `resourceVersion` asks of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing: the newest state.
    Newest,
    /// `0`: any state.
    Any,
    /// A state, or one not older, by `resourceVersionMatch`.
    At(Revision),
}

/// What happens to unknown and duplicate fields of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl Query {
    pub(super) fn parse(text: &str) -> Query {
        let pairs = form_urlencoded::parse(text.as_bytes()).filter(|(key, _)| !key.is_empty());
        Query(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
    }

    /// The first value of a parameter, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// `1` and `true` in any case; a parameter without a value is true, as Kubernetes reads it.
    pub(super) fn flag(&self, name: &str) -> bool {
        let value = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        value.is_some_and(|v| !v.eq_ignore_ascii_case("false") && v != "0")
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let bad =
            |_| ApiError::bad_request(format!("invalid value {text:?} of the query parameter {name}: not a number"));
        text.parse().map(Some).map_err(bad)
    }

    pub(super) fn seconds(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.number(name)
    }

    pub(super) fn labels(&self) -> Result<LabelSelector, ApiError> {
        let text = self.get("labelSelector").unwrap_or_default();
        LabelSelector::parse(text).map_err(|e| ApiError::bad_request(e.to_string()))
    }

    pub(super) fn fields(&self) -> Result<FieldSelector, ApiError> {
        let text = self.get("fieldSelector").unwrap_or_default();
        FieldSelector::parse(text).map_err(|e| ApiError::bad_request(e.to_string()))
    }

    /// How many objects a page of a list holds.
    pub(super) fn limit(&self) -> Result<Option<usize>, ApiError> {
        Ok(self.number::<i64>("limit")?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0))
    }

    /// How long a watch lasts, if the client says.
    pub(super) fn watch_timeout(&self) -> Result<Option<Duration>, ApiError> {
        let seconds = self.number::<i64>("timeoutSeconds")?.and_then(|n| u64::try_from(n).ok());
        Ok(seconds.filter(|n| *n > 0).map(Duration::from_secs))
    }

    pub(super) fn resource_version(&self) -> Result<Asked, ApiError> {
        match self.get("resourceVersion") {
            None => Ok(Asked::Newest),
            Some("0") => Ok(Asked::Any),
            Some(text) => match text.parse() {
                Ok(revision) => Ok(Asked::At(Revision(revision))),
                Err(_) => {
                    let cause = Cause::invalid("resourceVersion", &json!(text), "must be a non-negative integer");
                    Err(options_error("ListOptions", &[cause]))
                }
            },
        }
    }

    /// `resourceVersionMatch=Exact`, checked against the rest of the request as Kubernetes checks it.
    pub(super) fn exact_match(&self) -> Result<bool, ApiError> {
        let Some(text) = self.get("resourceVersionMatch") else { return Ok(false) };
        let forbidden = |why: &str| Err(options_error("ListOptions", &[Cause::forbidden("resourceVersionMatch", why)]));
        if !matches!(text, "Exact" | "NotOlderThan") {
            let cause = Cause::unsupported("resourceVersionMatch", &json!(text), &["Exact", "NotOlderThan", ""]);
            return Err(options_error("ListOptions", &[cause]));
        }
        if self.get("continue").is_some() {
            return forbidden("resourceVersionMatch is forbidden when continue is provided");
        }
        match (text, self.resource_version()?) {
            ("Exact", Asked::Any) => forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""),
            (_, Asked::Newest) => forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"),
            (text, _) => Ok(text == "Exact"),
        }
    }

    pub(super) fn dry_run(&self) -> Result<bool, ApiError> {
        dry_run(
            self.0.iter().filter(|(key, value)| key == "dryRun" && !value.is_empty()).map(|(_, value)| value.as_str()),
        )
    }

    pub(super) fn field_validation(&self) -> Result<FieldValidation, ApiError> {
        match self.get("fieldValidation") {
            Some("Strict") => Ok(FieldValidation::Strict),
            Some("Warn") | None => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some(other) => {
                let cause = Cause::unsupported("fieldValidation", &json!(other), &["Ignore", "Strict", "Warn"]);
                Err(options_error("CreateOptions", &[cause]))
            }
        }
    }

    /// The field manager: the parameter, or the first word of the user agent, as Kubernetes names it.
    pub(super) fn field_manager<'a>(&'a self, headers: &'a http::HeaderMap) -> Result<Cow<'a, str>, ApiError> {
        if let Some(name) = self.get("fieldManager") {
            let invalid =
                |why: &str| Err(options_error("PatchOptions", &[Cause::invalid("fieldManager", &json!(name), why)]));
            if name.len() > 128 {
                return invalid("may not be more than 128 bytes");
            }
            if !name.chars().all(|c| !c.is_control()) {
                return invalid("should only contain printable characters");
            }
            return Ok(Cow::Borrowed(name));
        }
        let agent = headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let first = agent.split('/').next().unwrap_or_default();
        let short: String = first.chars().filter(|c| !c.is_control()).take(128).collect();
        Ok(if short.is_empty() { Cow::Borrowed("unknown") } else { Cow::Owned(short) })
    }
}

/// Checks the values of a `dryRun` option.
pub(super) fn dry_run<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<bool, ApiError> {
    let mut dry = false;
    for value in values {
        if value != "All" {
            let cause = Cause::unsupported("dryRun", &Value::from(value), &["All"]);
            return Err(options_error("CreateOptions", &[cause]));
        }
        dry = true;
    }
    Ok(dry)
}

/// 422 for the options of a request.
pub(super) fn options_error(kind: &str, causes: &[Cause]) -> ApiError {
    ApiError::invalid("meta.k8s.io", kind, "", causes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("?&labelSelector=a%3Db%2Cc&x=a+b&watch&allowWatchBookmarks=false");
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert_eq!(query.get("x"), Some("a b"));
        assert!(query.flag("watch") && !query.flag("allowWatchBookmarks") && !query.flag("other"));
    }

    #[test]
    fn bad_parameters_are_refused_as_kubernetes_refuses_them() {
        let error = Query::parse("dryRun=Some").dry_run().unwrap_err();
        assert_eq!(error.code, 422);
        assert!(error.message.ends_with("dryRun: Unsupported value: \"Some\": supported values: \"All\""), "{error}");
        assert_eq!(Query::parse("resourceVersion=x").resource_version().unwrap_err().code, 422);
        assert!(Query::parse("resourceVersionMatch=Exact").exact_match().is_err());
        assert!(Query::parse("resourceVersionMatch=Exact&resourceVersion=0").exact_match().is_err());
        assert!(Query::parse("resourceVersionMatch=Exact&resourceVersion=7").exact_match().unwrap());
        assert_eq!(Query::parse("limit=x").limit().unwrap_err().code, 400);
    }

    #[test]
    fn the_field_manager_falls_back_to_the_user_agent() {
        let mut headers = http::HeaderMap::new();
        assert_eq!(Query::default().field_manager(&headers).unwrap(), "unknown");
        headers.insert(http::header::USER_AGENT, http::HeaderValue::from_static("kubectl/v1.32.4 (linux)"));
        assert_eq!(Query::default().field_manager(&headers).unwrap(), "kubectl");
        assert_eq!(Query::parse("fieldManager=me").field_manager(&headers).unwrap(), "me");
        assert!(Query::parse(&format!("fieldManager={}", "x".repeat(129))).field_manager(&headers).is_err());
    }
}
