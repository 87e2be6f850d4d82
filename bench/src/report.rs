//! What was measured.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::comparison::Comparison;
use crate::statistics::{milliseconds, percentile};

/// The outcome of one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    rows: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) comparisons: Vec<Comparison>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) slopes: Vec<Slope>,
}

#[derive(Debug, Serialize)]
struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    /// What is asked of it, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// How something grows with something else.
#[derive(Debug, Serialize)]
pub(crate) struct Slope {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    /// What grows, and in what.
    pub(crate) with: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Report {
    pub(crate) fn new(scenario: &'static str) -> Report {
        Report { scenario, rows: Vec::new(), comparisons: Vec::new(), slopes: Vec::new() }
    }

    pub(crate) fn row(mut self, what: impl Into<String>, value: f64, unit: &'static str, target: &str) -> Report {
        let target = (!target.is_empty()).then(|| target.to_owned());
        self.rows.push(Row { what: what.into(), value, unit, target });
        self
    }

    /// The median and the largest of some times, in milliseconds.
    pub(crate) fn times(self, what: &str, times: &mut [Duration], target: &str) -> Report {
        times.sort();
        let report = self.row(format!("{what}, median"), milliseconds(percentile(times, 50.0)), "ms", target);
        report.row(format!("{what}, largest of {}", times.len()), milliseconds(percentile(times, 100.0)), "ms", "")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.scenario)?;
        for comparison in &self.comparisons {
            write!(f, "{comparison}")?;
        }
        for Row { what, value, unit, target } in &self.rows {
            let digits = if value.abs() < 10.0 { 2 } else { usize::from(*value < 100.0) };
            write!(f, "  {what:<60} {value:>10.digits$} {unit}")?;
            match target {
                Some(target) => writeln!(f, "   (target: {target})")?,
                None => writeln!(f)?,
            }
        }
        for Slope { what, unit, with, points } in &self.slopes {
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{x}: {y:.1}")).collect();
            writeln!(f, "  {what} by {with}: {} {unit}", points.join(", "))?;
        }
        Ok(())
    }
}
