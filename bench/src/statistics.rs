//! Many measurements in few numbers.

use std::time::Duration;

use serde::Serialize;

/// The middle of some measurements, and how far they go.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values.get(middle)? + values[middle - 1]) / 2.0 };
        Some(Spread { median, low: *values.first()?, high: *values.last()? })
    }
}

/// Of sorted times, the one that `percent` of them do not exceed.
pub(crate) fn percentile(sorted: &[Duration], percent: f64) -> Duration {
    let index = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(index.saturating_sub(1)).copied().unwrap_or_default()
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_those_measured() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50.0), Duration::from_millis(100));
        assert_eq!(percentile(&times, 99.0), Duration::from_millis(198));
        assert_eq!(percentile(&times, 99.9), Duration::from_millis(200));
        assert_eq!(percentile(&[], 50.0), Duration::ZERO);
    }

    #[test]
    fn the_median_of_an_even_number_is_between_two() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, low: 1.0, high: 4.0 }));
        assert_eq!(Spread::of(vec![2.0]), Some(Spread { median: 2.0, low: 2.0, high: 2.0 }));
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
