//! What is wrong between two migrations and right again after the second.

use std::collections::BTreeSet;

/// Something that one migration opens and a later one closes. Whoever deploys them apart serves in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window<T> {
    /// What is wrong in between.
    pub what: T,
    /// The migration after which it is there, by number from 0.
    pub opened: usize,
    /// The migration after which it is gone.
    pub closed: usize,
}

/// The windows of a folder, from what is wrong after each of its migrations. What is still wrong after the last is no
/// window.
pub fn windows<T: Ord + Clone>(after: &[BTreeSet<T>]) -> Vec<Window<T>> {
    let nothing = BTreeSet::new();
    let mut found = Vec::new();
    for (opened, here) in after.iter().enumerate() {
        let before = if opened == 0 { &nothing } else { &after[opened - 1] };
        for what in here.difference(before) {
            let closed = after[opened..].iter().position(|later| !later.contains(what));
            found.extend(closed.map(|steps| Window { what: what.clone(), opened, closed: opened + steps }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(after: &[&[char]], expected: &[(char, usize, usize)]) {
        let sets: Vec<BTreeSet<char>> = after.iter().map(|here| here.iter().copied().collect()).collect();
        let found: Vec<(char, usize, usize)> =
            windows(&sets).into_iter().map(|w| (w.what, w.opened, w.closed)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_window_opens_and_closes() {
        check(&[], &[]);
        check(&[&[], &['a'], &['a'], &[]], &[('a', 1, 3)]);
        check(&[&['a', 'b'], &['b'], &[]], &[('a', 0, 1), ('b', 0, 2)]);
    }

    #[test]
    fn what_stays_is_no_window_and_what_comes_again_is_two() {
        check(&[&['a'], &['a']], &[]);
        check(&[&['a'], &[], &['a'], &[], &['a']], &[('a', 0, 1), ('a', 2, 3)]);
    }
}
