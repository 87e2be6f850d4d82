//! What was measured.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The outcome of one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    scenario: &'static str,
    rows: Vec<Row>,
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

impl Report {
    pub(crate) fn new(scenario: &'static str) -> Report {
        Report { scenario, rows: Vec::new() }
    }

    pub(crate) fn row(mut self, what: impl Into<String>, value: f64, unit: &'static str, target: &str) -> Report {
        let target = (!target.is_empty()).then(|| target.to_owned());
        self.rows.push(Row { what: what.into(), value, unit, target });
        self
    }

    /// The median and the largest of some times, in milliseconds.
    pub(crate) fn times(self, what: &str, times: &mut [Duration], target: &str) -> Report {
        times.sort();
        let report = self.row(format!("{what}, median"), milliseconds(percentile(times, 50)), "ms", target);
        report.row(format!("{what}, largest of {}", times.len()), milliseconds(percentile(times, 100)), "ms", "")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.scenario)?;
        for Row { what, value, unit, target } in &self.rows {
            let digits = if *value < 100.0 { 1 } else { 0 };
            write!(f, "  {what:<50} {value:>10.digits$} {unit}")?;
            match target {
                Some(target) => writeln!(f, "   (target: {target})")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// Of sorted times, the one that `percent` of them do not exceed.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_those_measured() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(100));
        assert_eq!(percentile(&times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&times, 100), Duration::from_millis(200));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
