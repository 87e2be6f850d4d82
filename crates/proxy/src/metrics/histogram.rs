//! How values are distributed.

use super::{Counter, Kind};

/// The bounds of the buckets, in the order of their numbers: those that Envoy has unless it is told otherwise.
const BOUNDS: [(u64, &str); 19] = [
    // Values are whole, so that no value lies between this bound and the one that it stands for.
    (0, "0.5"),
    (1, "1"),
    (5, "5"),
    (10, "10"),
    (25, "25"),
    (50, "50"),
    (100, "100"),
    (250, "250"),
    (500, "500"),
    (1_000, "1000"),
    (2_500, "2500"),
    (5_000, "5000"),
    (10_000, "10000"),
    (30_000, "30000"),
    (60_000, "60000"),
    (300_000, "300000"),
    (600_000, "600000"),
    (1_800_000, "1.8e+06"),
    (3_600_000, "3.6e+06"),
];

/// How values are distributed. It has one writer.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BOUNDS.len()],
    sum: Counter,
    count: Counter,
}

impl Histogram {
    /// Adds a value.
    pub fn record(&self, value: u64) {
        let bucket = BOUNDS.iter().zip(&self.buckets).find(|((bound, _), _)| value <= *bound);
        if let Some((_, bucket)) = bucket {
            bucket.inc();
        }
        self.sum.add(value);
        self.count.inc();
    }

    pub(super) fn visit(&self, name: &'static str, tell: &mut dyn FnMut(&'static str, Kind, u64)) {
        let mut below = 0;
        for (bucket, number) in self.buckets.iter().zip(0..) {
            below += bucket.get();
            tell(name, Kind::Bucket(number), below);
        }
        tell(name, Kind::Sum, self.sum.get());
        tell(name, Kind::Count, self.count.get());
    }
}

/// The bound of a bucket, as Prometheus has it.
pub(super) fn bound(number: u8) -> &'static str {
    BOUNDS.get(usize::from(number)).map_or("+Inf", |(_, text)| text)
}
