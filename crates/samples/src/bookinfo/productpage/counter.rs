//! How often which service gave which status, as Prometheus reads it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;

/// Requests by the service that was asked and the status that it gave.
#[derive(Debug, Default)]
pub(super) struct Counter(Mutex<BTreeMap<(&'static str, u16), u64>>);

impl Counter {
    pub(super) fn count(&self, service: &'static str, status: StatusCode) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((service, status.as_u16())).or_default() += 1;
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("# HELP request_result_total Results of requests\n# TYPE request_result_total counter\n")?;
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().try_for_each(|((service, status), count)| {
            writeln!(f, "request_result_total{{destination_app=\"{service}\",response_code=\"{status}\"}} {count}")
        })
    }
}
