//! Findings that somebody has decided not to hear of.

use serde_json::Value;

use super::Finding;

/// The annotation with which an object names codes that are not to be told of it: a list, or `*`.
const ANNOTATION: &str = "galley.istio.io/analyze-suppress";

/// What is not to be told: `CODE=KIND NAME.NAMESPACE`, where a `*` in either stands for anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    code: String,
    object: String,
}

impl std::str::FromStr for Suppression {
    type Err = String;

    fn from_str(text: &str) -> Result<Suppression, String> {
        match text.split_once('=') {
            Some((code, object)) if !code.is_empty() && object.contains(' ') => {
                Ok(Suppression { code: code.to_owned(), object: object.to_owned() })
            }
            _ => Err(format!("{text:?} is not of the form CODE=KIND NAME.NAMESPACE, for example IST0103=Pod web.shop")),
        }
    }
}

impl Suppression {
    /// Whether the finding is not to be told.
    pub fn covers(&self, finding: &Finding) -> bool {
        let object = &finding.object;
        let name = match object.namespace.as_str() {
            "" => format!("{} {}", object.kind, object.name),
            namespace => format!("{} {}.{namespace}", object.kind, object.name),
        };
        matches(&self.code, finding.code) && matches(&self.object, &name)
    }

    /// What an object's own annotation says about a finding of it.
    pub fn by_annotation(object: &Value, finding: &Finding) -> bool {
        let listed = object["metadata"]["annotations"][ANNOTATION].as_str().unwrap_or_default();
        listed.split(',').map(str::trim).any(|code| code == "*" || code == finding.code)
    }
}

/// Whether a text has the form of a pattern, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut open = false;
    for part in parts {
        open = true;
        let Some((_, after)) = rest.split_once(part) else { return false };
        // The last part must be at the end, wherever else it may be.
        rest = after;
    }
    rest.is_empty() || (open && pattern.ends_with('*')) || ends(pattern, text)
}

fn ends(pattern: &str, text: &str) -> bool {
    pattern.rsplit_once('*').is_some_and(|(_, last)| !last.is_empty() && text.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let cases = [
            ("Pod a.b", true),
            ("Pod *", true),
            ("* a.b", true),
            ("Pod *.b", true),
            ("Pod *.c", false),
            ("Pod a", false),
        ];
        for (pattern, expected) in cases {
            assert_eq!(matches(pattern, "Pod a.b"), expected, "{pattern}");
        }
        assert!(matches("*.b", "x.b.b") && !matches("a*", "ba"));
        assert!("IST0101".parse::<Suppression>().is_err() && "IST0101=Pod a.b".parse::<Suppression>().is_ok());
    }
}
