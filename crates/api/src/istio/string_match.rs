//! How a text is matched.

use serde::Deserialize;

/// How a text is matched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Fields")]
pub enum StringMatch {
    /// No pattern: the text must only be there.
    Present,
    /// The whole text.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// A regular expression (RE2) for the whole text.
    Regex(String),
}

/// As it is written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    exact: Option<String>,
    prefix: Option<String>,
    regex: Option<String>,
}

impl TryFrom<Fields> for StringMatch {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<StringMatch, &'static str> {
        match fields {
            Fields { exact: None, prefix: None, regex: None } => Ok(StringMatch::Present),
            Fields { exact: Some(text), prefix: None, regex: None } => Ok(StringMatch::Exact(text)),
            Fields { exact: None, prefix: Some(text), regex: None } => Ok(StringMatch::Prefix(text)),
            Fields { exact: None, prefix: None, regex: Some(text) } => Ok(StringMatch::Regex(text)),
            Fields { .. } => Err("only one of exact, prefix and regex may be given"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_pattern_or_none() {
        let read = |value| serde_json::from_value::<StringMatch>(value).map_err(|e| e.to_string());
        assert_eq!(read(json!({})), Ok(StringMatch::Present));
        assert_eq!(read(json!({"prefix": ""})), Ok(StringMatch::Prefix(String::new())));
        assert!(read(json!({"prefix": "a", "exact": "b"})).unwrap_err().contains("only one of"));
    }
}
