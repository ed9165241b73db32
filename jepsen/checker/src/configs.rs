//! The sets of voters that a log has one after another: two that follow each other must not be able to decide
//! without each other.
//!
//! It must not know how members are changed. Invariant: a pair whose majorities can be apart is named.

use std::collections::BTreeSet;

/// The voters by an entry: one set, or two while members change, and then a majority of each decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it is in the log.
    pub index: u64,
    /// See above.
    pub sets: Vec<BTreeSet<u64>>,
}

impl Config {
    /// Reads what the log of a node says of an entry: `voters 1, 2, 3 and 1, 2, 4; learners 5`.
    #[must_use]
    pub fn parse(index: u64, words: &str) -> Option<Self> {
        let voters = words.split(';').next()?.strip_prefix("voters ")?;
        let set = |set: &str| set.split(", ").map(|id| id.parse().ok()).collect();
        let sets = voters.split(" and ").map(set).collect::<Option<Vec<BTreeSet<u64>>>>()?;
        Some(Self { index, sets })
    }

    /// Says whether each quorum of this one has a voter in each quorum of the other one.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        let pairs = self.sets.iter().flat_map(|one| other.sets.iter().map(move |two| (one, two)));
        { pairs }.any(|(one, two)| majorities_meet(one, two))
    }
}

/// Two majorities avoid what both sets have as far as they can; they meet if that is not far enough.
fn majorities_meet(one: &BTreeSet<u64>, other: &BTreeSet<u64>) -> bool {
    let common = one.intersection(other).count();
    let forced = |set: &BTreeSet<u64>| (set.len() / 2 + 1).saturating_sub(set.len() - common);
    forced(one) + forced(other) > common
}

/// Returns the pairs of successors that could decide without each other.
#[must_use]
pub fn apart(configs: &[Config]) -> Vec<(&Config, &Config)> {
    let pairs = configs.iter().zip(configs.iter().skip(1));
    pairs.filter(|(one, next)| !one.intersects(next)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bits: u32) -> BTreeSet<u64> {
        (0..5).filter(|bit| bits & (1 << bit) != 0).collect()
    }

    fn majorities(set: &BTreeSet<u64>) -> impl Iterator<Item = BTreeSet<u64>> {
        let all = (0..32).map(self::set);
        all.filter(move |some| some.is_subset(set) && 2 * some.len() > set.len())
    }

    #[test]
    fn majorities_meet_where_every_two_of_them_do() {
        for (one, other) in (1..32).flat_map(|one| (1..32).map(move |other| (set(one), set(other))))
        {
            let mut pairs =
                majorities(&one).flat_map(|a| majorities(&other).map(move |b| (a.clone(), b)));
            let meet = pairs.all(|(a, b)| !a.is_disjoint(&b));
            assert_eq!(majorities_meet(&one, &other), meet, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_change_in_one_step_by_two_members_is_named_and_one_in_two_steps_is_not() {
        let config = |index, words| Config::parse(index, words).expect("it is one");
        let old = config(1, "voters 1, 2, 3; learners 4, 5");
        let joint = config(2, "voters 1, 2, 3 and 1, 4, 5");
        let new = config(3, "voters 1, 4, 5");
        assert_eq!(apart(&[old.clone(), joint, new.clone()]), []);
        assert_eq!(apart(&[old.clone(), new.clone()]), [(&old, &new)]);
        assert_eq!(Config::parse(4, "voters 1, x"), None);
        assert_eq!(Config::parse(4, ""), None);
    }
}
