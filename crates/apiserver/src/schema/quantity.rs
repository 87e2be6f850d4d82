//! Quantities: numbers with a binary or decimal suffix or an exponent, such as `500m`, `1.5Gi` and `1e3`.

/// The three ways of writing a quantity, which its canonical form keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Decimal,
    Binary,
    Exponent,
}

const DECIMAL: &[(&str, i32)] =
    &[("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: &[&str] = &["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// Nothing finer than this power of ten is kept: finer values are rounded up.
const FINEST: i32 = -9;

/// The form in which Kubernetes writes a quantity: no fraction, the largest suffix, and the style it was written in.
/// `None` if `text` is no quantity.
pub(super) fn canonical(text: &str) -> Option<String> {
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let suffix = unsigned.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = unsigned.get(..unsigned.len() - suffix.len())?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let (style, power, binary) = scale(suffix)?;
    // Numbers beyond what a quantity can hold are left as they are written.
    let Some(nano) = nanos(whole, fraction, power, binary) else { return Some(text.to_owned()) };
    let sign = if negative && nano > 0 { "-" } else { "" };
    Some(format!("{sign}{}", print(nano, style)))
}

/// The style of a suffix, its power of ten and its power of 1024.
fn scale(suffix: &str) -> Option<(Style, i32, u32)> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Style::Decimal, *power, 0));
    }
    if let Some(at) = BINARY.iter().position(|name| *name == suffix) {
        return Some((Style::Binary, 0, u32::try_from(at).ok()? + 1));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Style::Exponent, exponent, 0))
}

/// The value in units of [`FINEST`], rounded up.
fn nanos(whole: &str, fraction: &str, power: i32, binary: u32) -> Option<i128> {
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let mantissa: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let scaled = mantissa.checked_mul(1024_i128.checked_pow(binary)?)?;
    let shift = power.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_sub(FINEST)?;
    if scaled == 0 {
        return Some(0);
    }
    let factor = 10_i128.checked_pow(shift.unsigned_abs());
    match (shift >= 0, factor) {
        (true, factor) => scaled.checked_mul(factor?),
        (false, Some(factor)) => Some((scaled + factor - 1) / factor),
        // Far below the finest unit, and rounded up to it.
        (false, None) => Some(1),
    }
}

fn print(nano: i128, style: Style) -> String {
    const UNIT: i128 = 1_000_000_000;
    // Small binary quantities may have a fraction, which only the decimal style can write.
    if style == Style::Binary && nano >= 1024 * UNIT {
        let mut value = (nano + UNIT - 1) / UNIT;
        let mut suffix = "";
        for name in BINARY {
            if value % 1024 != 0 {
                break;
            }
            value /= 1024;
            suffix = name;
        }
        return format!("{value}{suffix}");
    }
    let (mut value, mut power) = (nano, FINEST);
    while value != 0 && value % 1000 == 0 && (power < 18 || style == Style::Exponent) {
        value /= 1000;
        power += 3;
    }
    match (value, style) {
        (0, _) => "0".to_owned(),
        (value, Style::Exponent) if power != 0 => format!("{value}e{power}"),
        (value, _) => {
            let suffix = DECIMAL.iter().find(|(_, p)| *p == power).map_or("", |(name, _)| name);
            format!("{value}{suffix}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_as_kubernetes_writes_them() {
        for (text, expected) in [
            ("0.5", "500m"),
            ("1", "1"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("512Ki", "512Ki"),
            ("0.5Gi", "512Mi"),
            ("1000", "1k"),
            ("128974848", "128974848"),
            ("1e3", "1e3"),
            ("12E6", "12e6"),
            ("0", "0"),
            ("00.1", "100m"),
            ("-1.5", "-1500m"),
            ("0.1n", "1n"),
            ("100Ki", "100Ki"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            (".5", "500m"),
            ("5.", "5"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "much", "1.2.3", "1 Gi", "1gi", "Gi", ".", "e3", "1e", "--1", "+-1"] {
            assert_eq!(canonical(text), None, "{text}");
        }
        assert_eq!(canonical(&"9".repeat(80)), Some("9".repeat(80)));
        assert_eq!(canonical("1e-2147483648").as_deref(), Some("1e-9"));
    }
}
