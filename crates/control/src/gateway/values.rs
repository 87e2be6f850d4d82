//! The values of Istio's chart for gateways, as walkthroughs give them to `helm template`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Gateway, GatewayError, GatewaySettings};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Values {
    /// By name; the chart has `enabled` among them, which turns off all.
    gateways: BTreeMap<String, Value>,
}

/// The gateways that a chart's values enable.
///
/// # Errors
/// The text is not YAML, has a value that gateways here do not know, or enables none.
pub fn gateways_of_values(text: &str, namespace: &str) -> Result<Vec<Gateway>, GatewayError> {
    let values: Result<Values, _> = serde_saphyr::from_str(text);
    let Values { mut gateways } = values.map_err(|e| GatewayError::Values(e.without_snippet().to_string()))?;
    let all = match gateways.remove("enabled") {
        None | Some(Value::Bool(true)) => gateways,
        Some(Value::Bool(false)) => BTreeMap::new(),
        Some(other) => {
            return Err(GatewayError::Values(format!("gateways.enabled: {other} is neither true nor false")));
        }
    };
    let mut enabled = Vec::new();
    for (name, value) in all {
        let settings: GatewaySettings =
            serde_json::from_value(value).map_err(|e| GatewayError::Values(format!("gateways.{name}: {e}")))?;
        if settings.enabled {
            enabled.push(Gateway { name, namespace: namespace.to_owned(), settings });
        }
    }
    match enabled.is_empty() {
        true => Err(GatewayError::Values("gateways: none is enabled; give one `enabled: true`".to_owned())),
        false => Ok(enabled),
    }
}
