//! Shares of requests.

use envoy::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy::envoy::r#type::v3::FractionalPercent;
use envoy::envoy::r#type::v3::fractional_percent::DenominatorType;

use super::field::{Checked, Path, fields};

/// A share: so many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    numerator: u32,
    denominator: u32,
}

impl Fraction {
    /// Everything.
    pub const ALL: Fraction = Fraction { numerator: 100, denominator: 100 };

    /// Whether a random number, uniform over all of `u64`, falls into the share.
    pub fn includes(self, random: u64) -> bool {
        random % u64::from(self.denominator) < u64::from(self.numerator)
    }

    /// The share in percent; more than everything is everything.
    pub fn percent(self) -> f64 {
        100.0 * f64::from(self.numerator.min(self.denominator)) / f64::from(self.denominator)
    }

    /// This share, but no more than so many of as many.
    #[must_use]
    pub fn at_most(self, numerator: u32) -> Fraction {
        Fraction { numerator: self.numerator.min(numerator), ..self }
    }

    pub(super) fn from_message(at: &Path<'_>, message: FractionalPercent) -> Checked<Fraction> {
        let FractionalPercent { numerator, denominator } = message;
        let denominator = match at.field("denominator").enumeration(denominator)? {
            DenominatorType::Hundred => 100,
            DenominatorType::TenThousand => 10_000,
            DenominatorType::Million => 1_000_000,
        };
        Ok(Fraction { numerator, denominator })
    }

    /// The share that holds without a runtime: there is none, so that the key that would overrule it is not looked up.
    pub(super) fn from_runtime(at: &Path<'_>, message: RuntimeFractionalPercent) -> Checked<Fraction> {
        fields!(at, message => RuntimeFractionalPercent { default_value } ignore { runtime_key });
        let at = at.field("default_value");
        Fraction::from_message(&at, at.required(default_value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_its_part_of_all_numbers() {
        let message = FractionalPercent { numerator: 25, denominator: DenominatorType::TenThousand.into() };
        let fraction = Fraction::from_message(&Path::ROOT, message).unwrap();
        assert_eq!((0..20_000).filter(|n| fraction.includes(*n)).count(), 50);
        assert!((0..200).all(|n| Fraction::ALL.includes(n)));
        assert_eq!((fraction.percent(), Fraction::ALL.percent()), (0.25, 100.0));
    }
}
