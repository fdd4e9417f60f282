//! A copy of the target in which a transcript is taken, told apart by who else is there.

use serde::{Deserialize, Serialize};

/// One of four copies. In two of them the others are the same, in the other two they are others, and more of them: what
/// differs within a pair is the target's own noise, what differs between the pairs is due to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum World {
    /// Few others.
    Few,
    /// The same once more.
    FewAgain,
    /// Many others, and none of the few.
    Many,
    /// The same once more.
    ManyAgain,
}

impl World {
    /// All four, in the order in which they are observed: one of each pair stands at a time, so that what a busy moment
    /// makes of an answer differs within a pair, and not between them.
    pub const ALL: [Self; 4] = [Self::Few, Self::Many, Self::FewAgain, Self::ManyAgain];
    /// Tenants that the four together need, and those that may observe besides.
    pub const TENANTS: u32 = 30;
    /// The first of those that may.
    const BESIDES: u32 = 6;

    /// Whose answers are compared.
    pub const OBSERVER: u32 = 0;

    /// The numbers of the tenants besides the observer.
    pub fn others(self) -> std::ops::Range<u32> {
        match self {
            Self::Few | Self::FewAgain => 1..2,
            Self::Many | Self::ManyAgain => 2..Self::BESIDES,
        }
    }

    /// The numbers of the tenants that are the same in all of them: one observes, the others may when a finding is tried
    /// again.
    pub fn observers() -> impl Iterator<Item = u32> {
        std::iter::once(Self::OBSERVER).chain(Self::BESIDES..Self::TENANTS)
    }
}
