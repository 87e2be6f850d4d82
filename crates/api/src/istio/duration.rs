//! Lengths of time, as text.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// A length of time in Go's form, of which protobuf's JSON form is a part: `10s`, `1m30s`, `1.5h`, `250ms`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

/// The longest, which is Envoy's: 2^63 nanoseconds, 292 years.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(9_223_372_036);

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Duration, String> {
        let refused = || format!("{text:?} is not a duration such as 10s, 1m30s or 250ms");
        let mut total = std::time::Duration::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refused)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let seconds = match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(refused()),
            };
            let number: f64 = number.parse().map_err(|_| refused())?;
            let part = std::time::Duration::try_from_secs_f64(number * seconds).map_err(|_| refused())?;
            total = total.checked_add(part).filter(|t| *t <= LONGEST).ok_or_else(refused)?;
            rest = tail;
        }
        if text.is_empty() { Err(refused()) } else { Ok(Duration(total)) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let millis = |text: &str| text.parse::<Duration>().map(|d| d.0.as_millis());
        assert_eq!(millis("10s"), Ok(10_000));
        assert_eq!(millis("1m30.5s"), Ok(90_500));
        assert_eq!(millis("1h2ms"), Ok(3_600_002));
        assert_eq!(millis("0s"), Ok(0));
        for text in ["", "10", "s", "-1s", "1d", "1s1", "1..s", "99999999999999h", "∞s"] {
            assert!(millis(text).is_err(), "{text}");
        }
    }
}
