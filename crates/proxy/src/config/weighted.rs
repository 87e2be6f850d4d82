//! Choices by weight.

/// Things with weights whose sum is not zero and fits in 32 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighted<T> {
    /// Each thing, and the upper bound of its share: the sum of the weights up to and including its own.
    bounds: Box<[(T, u32)]>,
}

/// Why weights cannot be used, and at which position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unweighable {
    /// They add up to nothing.
    Nothing,
    /// They add up to more than 32 bits hold.
    TooMuch(usize),
}

impl<T> Weighted<T> {
    pub(super) fn new(items: impl IntoIterator<Item = (T, u32)>) -> Result<Weighted<T>, Unweighable> {
        let mut total = 0_u32;
        let mut bounds = Vec::new();
        for (i, (item, weight)) in items.into_iter().enumerate() {
            total = total.checked_add(weight).ok_or(Unweighable::TooMuch(i))?;
            bounds.push((item, total));
        }
        if total == 0 { Err(Unweighable::Nothing) } else { Ok(Weighted { bounds: bounds.into() }) }
    }

    /// The choice for a random number that is uniform over all of `u64`.
    pub fn pick(&self, random: u64) -> &T {
        let total = self.bounds.last().map_or(1, |(_, bound)| u64::from(*bound)).max(1);
        let value = random % total;
        let chosen = self.bounds.partition_point(|(_, bound)| u64::from(*bound) <= value);
        &self.bounds.get(chosen).expect("a value below the last bound is below one of them").0
    }

    /// Everything that may be chosen, with its weight.
    pub fn iter(&self) -> impl Iterator<Item = (&T, u32)> {
        let before = std::iter::once(0).chain(self.bounds.iter().map(|(_, bound)| *bound));
        self.bounds.iter().zip(before).map(|((item, bound), before)| (item, bound - before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_weighs_nothing_is_never_picked() {
        let weighted = Weighted::new([("a", 0), ("b", 1), ("c", 0), ("d", 3)]).unwrap();
        let picked: Vec<&str> = (0..4).map(|n| *weighted.pick(n)).collect();
        assert_eq!(picked, ["b", "d", "d", "d"]);
        assert_eq!(weighted.iter().map(|(_, w)| w).collect::<Vec<_>>(), [0, 1, 0, 3]);
        assert_eq!(Weighted::new([("a", 0)]), Err(Unweighable::Nothing));
        assert_eq!(Weighted::new([("a", u32::MAX), ("b", 1)]), Err(Unweighable::TooMuch(1)));
    }
}
