//! The HTTP filter that authorizes requests.

use std::sync::Arc;

use envoy::envoy::extensions::filters::http::rbac::v3;

use crate::config::field::{Checked, Path, fields};
use crate::config::rbac::{Layer, rules_from};
use crate::rbac::Rules;

/// The RBAC HTTP filter.
#[derive(Debug, Clone)]
pub struct HttpRbac {
    /// What is enforced; `None` enforces nothing.
    pub rules: Option<Rules>,
    /// Goes before the names of the statistics of `rules`; may be empty.
    pub stat_prefix: Arc<str>,
    /// What is only counted and logged.
    pub shadow: Option<Rules>,
    /// Goes before the names of the statistics of `shadow`; may be empty.
    pub shadow_stat_prefix: Arc<str>,
}

impl HttpRbac {
    pub(super) fn from_message(at: &Path<'_>, message: v3::Rbac) -> Checked<HttpRbac> {
        fields!(at, message => v3::Rbac { rules, rules_stat_prefix, shadow_rules, shadow_rules_stat_prefix }
            refuse { matcher, shadow_matcher, track_per_rule_stats });
        let rules = rules.map(|r| rules_from(&at.field("rules"), r, Layer::Request));
        let shadow = shadow_rules.map(|r| rules_from(&at.field("shadow_rules"), r, Layer::Request));
        Ok(HttpRbac {
            rules: rules.transpose()?,
            stat_prefix: rules_stat_prefix.into(),
            shadow: shadow.transpose()?,
            shadow_stat_prefix: shadow_rules_stat_prefix.into(),
        })
    }
}
