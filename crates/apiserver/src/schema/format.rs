//! The string and number formats that Kubernetes checks in custom resources.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine;
use serde_json::Value;

/// A `format` that is checked; unknown ones say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    DateTime,
    Date,
    Duration,
    Ipv4,
    Ipv6,
    Cidr,
    Mac,
    Uuid,
    Uri,
    Email,
    Hostname,
    Byte,
    Int32,
    Int64,
}

const NAMES: &[(&str, Format)] = &[
    ("date-time", Format::DateTime),
    ("datetime", Format::DateTime),
    ("date", Format::Date),
    ("duration", Format::Duration),
    ("ipv4", Format::Ipv4),
    ("ipv6", Format::Ipv6),
    ("cidr", Format::Cidr),
    ("mac", Format::Mac),
    ("uuid", Format::Uuid),
    ("uri", Format::Uri),
    ("email", Format::Email),
    ("hostname", Format::Hostname),
    ("byte", Format::Byte),
    ("int32", Format::Int32),
    ("int64", Format::Int64),
];

impl Format {
    pub(super) fn named(name: &str) -> Option<Format> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }

    /// Whether `value` has the format; values of other types have no format to violate.
    pub(super) fn holds(self, value: &Value) -> bool {
        match (self, value) {
            (Format::Int32, Value::Number(n)) => {
                n.as_f64().is_none_or(|n| n >= f64::from(i32::MIN) && n <= f64::from(i32::MAX))
            }
            (Format::Int64, Value::Number(n)) => n.is_i64() || n.as_f64().is_some_and(|n| n.abs() < 9.2e18),
            (Format::Int32 | Format::Int64, _) => true,
            (_, Value::String(text)) => self.holds_text(text),
            _ => true,
        }
    }

    fn holds_text(self, text: &str) -> bool {
        match self {
            Format::DateTime => timestamp(text),
            Format::Date => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
            Format::Duration => go_duration(text),
            Format::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Format::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Format::Cidr => cidr(text),
            Format::Mac => mac(text),
            Format::Uuid => uuid::Uuid::try_parse(text).is_ok() && text.len() == 36,
            Format::Uri => uri(text),
            Format::Email => text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && hostname(host)),
            Format::Hostname => hostname(text),
            Format::Byte => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
            Format::Int32 | Format::Int64 => true,
        }
    }
}

/// RFC 3339 with a date, a time and an offset.
pub(super) fn timestamp(text: &str) -> bool {
    let separated = text.as_bytes().get(10).is_some_and(|b| matches!(b, b'T' | b't'));
    separated && text.parse::<jiff::Timestamp>().is_ok()
}

fn cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let longest = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= longest)
}

fn mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn uri(text: &str) -> bool {
    let named = |scheme: &str| {
        let letters = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        letters && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    let absolute = text.starts_with('/') || text.split_once(':').is_some_and(|(scheme, _)| named(scheme));
    absolute && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn hostname(text: &str) -> bool {
    let label = |l: &str| {
        let ends = !l.starts_with('-') && !l.ends_with('-');
        !l.is_empty() && l.len() <= 63 && ends && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// `1h30m`, `-1.5s`, `0`: numbers with units, as Go's `time.ParseDuration` reads them.
fn go_duration(text: &str) -> bool {
    let mut rest = text.trim_start_matches(['+', '-']);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() || text.len() - rest.len() > 1 {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (digits, tail) = rest.split_at(number);
        let unit =
            ["ns", "us", "µs", "ms", "s", "m", "h"].iter().filter(|u| tail.starts_with(**u)).max_by_key(|u| u.len());
        match unit {
            Some(unit) if digits.parse::<f64>().is_ok() => rest = tail.get(unit.len()..).unwrap_or_default(),
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_tell_good_values_from_bad_ones() {
        for (name, good, bad) in [
            ("date-time", "2026-11-21T09:00:00Z", "2026-11-21"),
            ("date-time", "2026-11-21T09:00:00.5+01:00", "2026-11-21 09:00:00Z"),
            ("date", "2026-11-21", "2026-13-21"),
            ("duration", "1h30m", "1 hour"),
            ("duration", "1.5s", "5"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "01:23:45:67:89:ab", "01:23:45"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
            ("uri", "https://example.com/a", "not a uri"),
            ("hostname", "a.example.com", "-a"),
            ("byte", "aGk=", "a"),
        ] {
            let format = Format::named(name).unwrap();
            assert!(format.holds(&good.into()), "{name}: {good}");
            assert!(!format.holds(&bad.into()), "{name}: {bad}");
        }
        assert!(!Format::Int32.holds(&serde_json::json!(3_000_000_000_i64)));
        assert!(Format::named("password").is_none());
    }
}
