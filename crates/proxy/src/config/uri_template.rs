//! Paths with wildcards in them, as Envoy's URI templates have them.

use envoy::envoy::config::core::v3::TypedExtensionConfig;
use envoy::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use regex::Regex;

use super::field::{Checked, Path};

/// What one segment that `*` stands for is made of.
const SEGMENT: &str = r"[a-zA-Z0-9\-._~%!$&'()+,;:@]+";
/// What all segments that `**` stands for are made of.
const REST: &str = r"[a-zA-Z0-9\-._~%!$&'()+,;:@/]*";

/// A path in which `*` stands for one segment, and `**`, which must be the last, for any number of them.
#[derive(Debug, Clone)]
pub struct UriTemplate(Regex);

impl UriTemplate {
    /// Whether a path without its query matches.
    pub fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }

    pub(super) fn from_message(at: &Path<'_>, message: TypedExtensionConfig) -> Checked<UriTemplate> {
        // The name of an extension is free text.
        let TypedExtensionConfig { name: _, typed_config } = message;
        let at = at.field("typed_config");
        let any = at.required(typed_config)?;
        if any.type_url != "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig" {
            return Err(at.unknown_type(&any));
        }
        let UriTemplateMatchConfig { path_template } = at.decode(&any)?;
        let at = at.field("path_template");
        UriTemplate::parse(&path_template).map_err(|reason| at.reject(reason))
    }

    /// The error is a clause.
    fn parse(template: &str) -> Result<UriTemplate, String> {
        let segments = template.strip_prefix('/').ok_or("must begin with a slash")?;
        let count = segments.split('/').count();
        let mut expression = String::new();
        for (i, segment) in segments.split('/').enumerate() {
            expression.push('/');
            let wildcard = match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                // What a variable takes is read by rewrites only.
                Some(variable) => variable.split_once('=').map_or("*", |(_, pattern)| pattern),
                None => segment,
            };
            match wildcard {
                "*" => expression.push_str(SEGMENT),
                "**" if i + 1 == count => expression.push_str(REST),
                "**" => return Err("has ** before its end".to_owned()),
                literal if literal.contains(['*', '{', '}', '=']) => {
                    return Err(format!("has the segment {segment:?}, which is neither a text nor a wildcard"));
                }
                literal => expression.push_str(&regex::escape(literal)),
            }
        }
        envoy::re2::compile(&expression).map(UriTemplate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_segment_and_two_are_the_rest() {
        let cases = [
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/b/b/c", false),
            ("/a/*/c", "/a//c", false),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a", false),
            ("/a.b", "/axb", false),
            ("/{id}/x", "/7/x", true),
            ("/{rest=**}", "/7/x", true),
        ];
        for (template, path, expected) in cases {
            assert_eq!(UriTemplate::parse(template).unwrap().matches(path), expected, "{template} {path}");
        }
        for template in ["a", "/**/a", "/a*", "/{a"] {
            assert!(UriTemplate::parse(template).is_err(), "{template}");
        }
    }
}
