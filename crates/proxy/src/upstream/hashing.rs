//! Where hashes lead: Envoy's ring and its Maglev table, place by place, so that both proxies send a request to the same
//! endpoint.

use xxhash_rust::xxh64::xxh64;

use crate::config::LoadBalancer;

/// Endpoints by hash. They are known by their position in the list that the table was made of.
#[derive(Debug)]
pub(crate) enum Table {
    /// Every place has a hash of its own, in ascending order; it takes the hashes up to that.
    Ring(Box<[(u64, u32)]>),
    /// A hash has the place that is its remainder.
    Maglev(Box<[u32]>),
}

/// An endpoint with the key of its places, and its part of the whole.
pub(crate) type Member<'a> = (&'a str, f64);

/// Where the places of a Maglev table are looked for, one after the other.
struct Permutation {
    offset: u64,
    skip: u64,
    next: u64,
}

impl Table {
    /// The table of a cluster; `None` if its balancer does not hash.
    pub(crate) fn new(balancer: &LoadBalancer, members: &[Member<'_>]) -> Option<Table> {
        match *balancer {
            LoadBalancer::RingHash { minimum, maximum } => Some(Table::Ring(ring(members, minimum, maximum))),
            LoadBalancer::Maglev { size } => Some(Table::Maglev(maglev(members, size))),
            _ => None,
        }
    }

    /// The position of the endpoint for a hash. Further attempts lead elsewhere, as far as the table allows.
    pub(crate) fn at(&self, hash: u64, attempt: u32) -> Option<usize> {
        let position = match self {
            Table::Ring(places) => {
                let found = places.partition_point(|(place, _)| *place < hash).checked_rem(places.len())?;
                let skipped = (found + usize::try_from(attempt).unwrap_or_default()).checked_rem(places.len())?;
                places.get(skipped)?.1
            }
            Table::Maglev(places) => {
                let hash = if attempt > 0 { hash ^ (u64::MAX - u64::from(attempt) + 1) } else { hash };
                let place = hash.checked_rem(places.len() as u64)?;
                *places.get(usize::try_from(place).ok()?)?
            }
        };
        usize::try_from(position).ok()
    }
}

/// Each endpoint gets places by its weight, so many that the lightest has a whole number of them.
fn ring(members: &[Member<'_>], minimum: u64, maximum: u64) -> Box<[(u64, u32)]> {
    let lightest = members.iter().map(|(_, part)| *part).fold(f64::INFINITY, f64::min);
    let scale = ((lightest * minimum as f64).ceil() / lightest).min(maximum as f64);
    let mut places = Vec::new();
    let mut wanted = 0.0;
    for ((key, part), position) in members.iter().zip(0_u32..) {
        // Running sums lose nothing to rounding.
        wanted += scale * part;
        let mut number = 0_u64;
        while (places.len() as f64) < wanted {
            places.push((xxh64(format!("{key}_{number}").as_bytes(), 0), position));
            number += 1;
        }
    }
    places.sort_unstable();
    places.into()
}

/// Endpoints take free places in turn, each in an order of its own; the lighter ones now and then let a turn pass.
fn maglev(members: &[Member<'_>], size: u64) -> Box<[u32]> {
    if members.is_empty() {
        return Box::default();
    }
    let heaviest = members.iter().map(|(_, part)| *part).fold(0.0, f64::max);
    let mut sorted: Vec<(&Member<'_>, u32)> = members.iter().zip(0..).collect();
    sorted.sort_by_key(|((key, _), _)| *key);
    let mut entries: Vec<(Permutation, f64, f64, u32)> =
        sorted.into_iter().map(|((key, part), position)| (Permutation::new(key, size), *part, 0.0, position)).collect();
    const FREE: u32 = u32::MAX;
    let mut places = vec![FREE; usize::try_from(size).unwrap_or_default()];
    let (mut free, mut turn) = (places.len(), 1.0);
    while free > 0 {
        for (permutation, part, target, position) in &mut entries {
            if free == 0 || turn * *part < *target {
                continue;
            }
            *target += heaviest;
            let place = std::iter::repeat_with(|| permutation.next(size)).find(|p| places.get(*p) == Some(&FREE));
            if let Some(place) = place.and_then(|p| places.get_mut(p)) {
                *place = *position;
                free -= 1;
            }
        }
        turn += 1.0;
    }
    places.into()
}

impl Permutation {
    fn new(key: &str, size: u64) -> Permutation {
        let skip = xxh64(key.as_bytes(), 1) % size.saturating_sub(1).max(1) + 1;
        Permutation { offset: xxh64(key.as_bytes(), 0) % size, skip, next: 0 }
    }

    /// The next place. The size of the table is a prime number, so that every place comes.
    fn next(&mut self, size: u64) -> usize {
        let place = (self.offset + self.skip * self.next) % size;
        self.next += 1;
        usize::try_from(place).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(table: &Table, members: usize) -> Vec<usize> {
        let mut counts = vec![0; members];
        for n in 0_u64..100_000 {
            counts[table.at(xxh64(&n.to_le_bytes(), 7), 0).unwrap()] += 1;
        }
        counts
    }

    fn tables(members: &[Member<'_>]) -> [Table; 2] {
        let ring = LoadBalancer::RingHash { minimum: 1 << 16, maximum: 8 << 20 };
        [ring, LoadBalancer::Maglev { size: 65537 }].map(|b| Table::new(&b, members).unwrap())
    }

    #[test]
    fn endpoints_get_hashes_by_weight() {
        let members = [("10.0.0.1:80", 0.5), ("10.0.0.2:80", 0.25), ("10.0.0.3:80", 0.25)];
        for table in tables(&members) {
            let counts = count(&table, 3);
            for (count, (_, part)) in counts.iter().zip(members) {
                let expected = part * 100_000.0;
                assert!((*count as f64 - expected).abs() < expected * 0.05, "{counts:?}");
            }
        }
    }

    #[test]
    fn hashes_lead_where_envoy_sends_them() {
        let members = [("127.0.0.1:9", 1.0), ("127.0.0.2:9", 2.0), ("127.0.0.3:9", 1.0), ("127.0.0.4:9", 3.0)];
        let members = members.map(|(key, weight)| (key, weight / 7.0));
        let found = |balancer: LoadBalancer| -> Vec<usize> {
            let table = Table::new(&balancer, &members).unwrap();
            (0..24).map(|n| table.at(xxh64(format!("key-{n}").as_bytes(), 0), 0).unwrap() + 1).collect()
        };
        // What the access log of Envoy 1.40 said of these endpoints and weights, with the key in a header.
        let ring = [2, 2, 4, 1, 3, 4, 2, 1, 3, 3, 4, 2, 2, 4, 2, 4, 4, 3, 2, 2, 4, 4, 4, 4];
        let maglev = [2, 2, 1, 1, 2, 4, 4, 4, 4, 2, 4, 4, 4, 1, 3, 4, 1, 2, 1, 2, 1, 3, 4, 2];
        assert_eq!(found(LoadBalancer::RingHash { minimum: 1024, maximum: 8 << 20 }), ring);
        assert_eq!(found(LoadBalancer::Maglev { size: 251 }), maglev);
    }

    #[test]
    fn few_hashes_move_when_another_endpoint_goes() {
        let keys: Vec<String> = (1..=10).map(|n| format!("10.0.0.{n}:80")).collect();
        let before: Vec<Member<'_>> = keys.iter().map(|k| (k.as_str(), 0.1)).collect();
        let after: Vec<Member<'_>> = keys[..9].iter().map(|k| (k.as_str(), 1.0 / 9.0)).collect();
        for (old, new) in tables(&before).into_iter().zip(tables(&after)) {
            let hashes = (0_u64..10_000).map(|n| xxh64(&n.to_le_bytes(), 7));
            let moved = hashes.filter(|h| old.at(*h, 0) != Some(9) && old.at(*h, 0) != new.at(*h, 0)).count();
            assert!(moved < 1500, "{moved}");
        }
    }

    #[test]
    fn another_attempt_may_lead_elsewhere() {
        let members = [("a:1", 0.5), ("b:1", 0.5)];
        for table in tables(&members) {
            let found = |attempt| table.at(42, attempt);
            assert!((0..64).any(|attempt| found(attempt) != found(0)));
        }
    }

    #[test]
    fn the_hashes_beyond_the_last_place_belong_to_the_first() {
        let table = Table::Ring([(10, 1), (20, 2)].into());
        let found: Vec<_> = [0, 10, 11, 20, 21, u64::MAX].map(|hash| table.at(hash, 0)).into();
        assert_eq!(found, [1, 1, 2, 2, 1, 1].map(Some));
    }

    #[test]
    fn without_endpoints_there_is_nowhere_to_go() {
        assert!(tables(&[]).iter().all(|table| table.at(1, 0).is_none()));
    }
}
