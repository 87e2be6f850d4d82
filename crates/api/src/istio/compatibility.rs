//! Versions of Istio.

use std::fmt;

use serde::Deserialize;

/// The version of Istio whose behaviour holds where versions disagree, as `MAJOR.MINOR` in quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Compatibility {
    major: u32,
    minor: u32,
}

impl Compatibility {
    /// Whether a Service of type ExternalName is only another name for the host that it names, as from Istio 1.21 on; before,
    /// it is a service with rules of its own.
    pub fn external_names_are_aliases(self) -> bool {
        self >= Compatibility { major: 1, minor: 21 }
    }
}

impl Default for Compatibility {
    /// The last version before any of the disagreements.
    fn default() -> Compatibility {
        Compatibility { major: 1, minor: 10 }
    }
}

impl TryFrom<String> for Compatibility {
    type Error = String;

    fn try_from(text: String) -> Result<Compatibility, String> {
        let number = |part: &str| part.parse().ok();
        let parsed = text.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
        let (major, minor) = parsed.ok_or_else(|| format!("{text:?} is no version of Istio, such as \"1.21\""))?;
        Ok(Compatibility { major, minor })
    }
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let of = |text: &str| Compatibility::try_from(text.to_owned());
        assert!(of("1.21").unwrap().external_names_are_aliases() && of("1.100").unwrap().external_names_are_aliases());
        assert!(!of("1.3").unwrap().external_names_are_aliases());
        assert!(!Compatibility::default().external_names_are_aliases());
        assert!(["1", "1.x", "", "1.2.3"].iter().all(|text| of(text).is_err()));
        assert_eq!(of("1.3").unwrap().to_string(), "1.3");
    }
}
