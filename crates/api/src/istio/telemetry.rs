//! What proxies tell of the traffic.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Spec, WorkloadSelector};

/// Says what workloads' proxies report: of the mesh in the root namespace, of a namespace, or of what is selected.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Telemetry {
    /// The workloads; absent or empty is the whole scope.
    pub selector: Option<WorkloadSelector>,
    /// Traces.
    pub tracing: Vec<Tracing>,
    /// Metrics.
    pub metrics: Vec<Metrics>,
    /// Access logs.
    #[serde(alias = "access_logging")]
    pub access_logging: Vec<AccessLogging>,
}

impl Spec for Telemetry {
    const GROUP: &'static str = "telemetry.istio.io";
    const KIND: &'static str = "Telemetry";
}

/// One of the mesh's extension providers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ProviderRef {
    /// Its name.
    pub name: String,
}

/// Which side of a call is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkloadMode {
    /// Both.
    #[default]
    ClientAndServer,
    /// The caller's.
    Client,
    /// The called one's.
    Server,
}

/// A side, wrapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SideSelector {
    /// The side.
    pub mode: WorkloadMode,
}

/// Access logs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AccessLogging {
    /// Of which calls.
    pub r#match: Option<SideSelector>,
    /// Who gets them; none is what the wider scope says.
    pub providers: Vec<ProviderRef>,
    /// Whether there are none.
    pub disabled: Option<bool>,
    /// Which are kept.
    pub filter: Option<AccessLogFilter>,
}

/// Which entries of an access log are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AccessLogFilter {
    /// In the Common Expression Language.
    pub expression: String,
}

/// Traces.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tracing {
    /// Of which calls.
    pub r#match: Option<SideSelector>,
    /// Who gets them; none is what the wider scope says.
    pub providers: Vec<ProviderRef>,
    /// How many of a hundred calls are traced that nobody has decided about.
    #[serde(alias = "random_sampling_percentage")]
    pub random_sampling_percentage: Option<f64>,
    /// Whether spans are not reported.
    #[serde(alias = "disable_span_reporting")]
    pub disable_span_reporting: Option<bool>,
    /// Further tags of spans.
    #[serde(alias = "custom_tags")]
    pub custom_tags: BTreeMap<String, CustomTag>,
    /// Whether Istio's own tags are set.
    #[serde(alias = "enable_istio_tags")]
    pub enable_istio_tags: Option<bool>,
}

/// The value of a span's tag; one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CustomTag {
    /// Always the same.
    pub literal: Option<TagLiteral>,
    /// A variable of the proxy's environment.
    pub environment: Option<TagSource>,
    /// A header of the request.
    pub header: Option<TagSource>,
}

/// A tag's constant value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TagLiteral {
    /// The value.
    pub value: String,
}

/// Where a tag's value comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TagSource {
    /// The name of the variable or header.
    pub name: String,
    /// The value where there is none.
    #[serde(alias = "default_value")]
    pub default_value: String,
}

/// Metrics.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metrics {
    /// Who gets them.
    pub providers: Vec<ProviderRef>,
    /// What is counted in another way than Istio does.
    pub overrides: Vec<Value>,
    /// How often metrics are reported.
    #[serde(alias = "reporting_interval")]
    pub reporting_interval: Option<String>,
}
